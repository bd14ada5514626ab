"""Frames of a pairwise judge: CPU time and decoded frames of one judgement, against opening and seeking per frame.

    python benchmark/perf/judge_frames.py                      # 8 frames at the start, 3 calls of 12 pairs, 720p clips
    python benchmark/perf/judge_frames.py --seconds 10 --calls 5

A scripted judge asks for pairs of frames of two clips; the reference opens each file and seeks once for every frame, as
the published script does. Both read the same frames, which are compared. The CPU time is that of this process, with the
opening of the files, and without the scaling and sending of images.
"""

from __future__ import annotations

import importlib
import importlib.util
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import tyro

from evqa import media
from evqa.agents import pair_tools
from evqa.agents.pair_tools import PairFrames, open_pair
from evqa.media import decode
from evqa.models.messages import ImagePart

WIDTH, HEIGHT, FPS = 1280, 720, 24.0

MAX_DIFFERENCE = 3.0
"""Mean difference of two conversions of one frame from YUV; that of two frames of the clips is above 10."""


def cpu_seconds() -> float:
    """CPU time of this process, user and system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def write_clip(path: Path, seconds: float, seed: int) -> None:
    """A clip of smooth moving noise."""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.integers(0, 255, (HEIGHT // 16 + 4, WIDTH // 16 + 4, 3)), np.ones((16, 16, 1)))
    texture = texture.astype(np.uint8)

    def frames() -> Iterator[np.ndarray]:
        for place in range(round(seconds * FPS)):
            y, x = place % 48, (2 * place) % 60
            yield np.ascontiguousarray(texture[y : y + HEIGHT, x : x + WIDTH])

    media.write_video(path, frames(), fps=FPS)


def frame_by_seeking(path: Path, index: int, second: float) -> np.ndarray:
    """A frame: open the file with OpenCV, where it is installed, and seek to the index, as the published script does.

    Else with PyAV: seek to the keyframe before the time, and decode up to it.
    """
    if importlib.util.find_spec("cv2") is not None:
        cv2: Any = importlib.import_module("cv2")
        capture = cv2.VideoCapture(str(path))
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        _, image = capture.read()
        capture.release()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(round(second / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= second - 1e-4:
                return frame.to_ndarray(format="rgb24")
    raise ValueError(f"{path} has no frame at {second} s")


def main(seconds: float = 5.0, calls: int = 3, pairs: int = 12, least: float = 5.0) -> int:
    """Measure; 1 = the ratio of CPU times is below `least`, or more frames were read than were asked for.

    Args:
        seconds: length of the clips.
        calls: calls of the tool.
        pairs: pairs of frames per call.
        least: least ratio of the CPU times.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("a.mp4", "b.mp4")]
        for seed, path in enumerate(paths):
            write_clip(path, seconds, seed)
        numbers = [[(call + calls * place) % 128 for place in range(pairs)] for call in range(calls)]
        decode.clear_caches()
        num_read = 0
        read = pair_tools.frame_images.read_images

        def counted_read(*arguments: object, **options: object) -> object:
            nonlocal num_read
            result = read(*arguments, **options)  # type: ignore[arg-type]
            num_read += len(result[0])
            return result

        pair_tools.frame_images.read_images = counted_read  # type: ignore[assignment]
        start = cpu_seconds()
        frames = PairFrames(videos=open_pair(paths), max_side=WIDTH)
        parts = [*frames.opening(), *(part for row in numbers for part in frames.select(row).parts)]
        ours = cpu_seconds() - start
        images = [part for part in parts if isinstance(part, ImagePart)]
        start = cpu_seconds()
        references = [
            frame_by_seeking(paths[part.ref.video], part.ref.index, part.second or 0.0) for part in images if part.ref
        ]
        theirs = cpu_seconds() - start
        equal = all(
            np.abs(part.pixels().astype(float) - reference).mean() < MAX_DIFFERENCE
            for part, reference in zip(images, references, strict=True)
        )
    distinct = len({(part.ref.video, part.ref.index) for part in images if part.ref})
    print(f"{len(images)} frames asked for, {distinct} distinct, {num_read} read; equal to the reference: {equal}")
    print(f"CPU time: {ours:.2f} s, opening and seeking per frame: {theirs:.2f} s, ratio {theirs / ours:.1f}")
    return 0 if equal and num_read <= len(images) and theirs / ours >= least else 1


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
