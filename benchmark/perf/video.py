"""Decoding of sampled frames, against torchcodec, decord and OpenCV where they are installed: CPU time and exactness.

    python benchmark/perf/video.py compare CLIP.mp4 ... --counts 8 32 128
    python benchmark/perf/video.py index CLIP.mp4 ...        # opening alone: the index of all frames, and its bytes

Each reader opens the file anew, finds evenly spaced frames and returns them as uint8 RGB; decoding has one thread.
Measured is CPU time (user and system) of the process, the readers in turn, several rounds, median. A frame is right
if its pixels are nearer to the frame of that number than to its neighbours when the whole file is decoded (readers
convert colours differently, so equality cannot be asked of all; of evqa it is). evqa runs with empty caches.
The results are in docs/measurements.md.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import tyro
from tyro.conf import Positional

from evqa import media
from evqa.media import decode

MAX_DIFFERENCE = 4.0
"""Mean absolute difference of pixel values up to which a frame may be another conversion of the same picture."""

Read = Callable[[Path, Sequence[int]], Sequence[np.ndarray]]


class Reader(NamedTuple):
    """A library that reads frames by index."""

    name: str
    module: str
    read: Read


def _evqa(path: Path, indices: Sequence[int]) -> Sequence[np.ndarray]:
    decode.clear_caches()
    return list(media.load_frames(media.probe_video(path), indices))


def _torchcodec(path: Path, indices: Sequence[int]) -> Sequence[np.ndarray]:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC")
    return decoder.get_frames_at(list(indices)).data.numpy()


def _decord(path: Path, indices: Sequence[int]) -> Sequence[np.ndarray]:
    import decord  # type: ignore[import-not-found]

    return decord.VideoReader(str(path), num_threads=1).get_batch(list(indices)).asnumpy()


def _opencv(path: Path, indices: Sequence[int]) -> Sequence[np.ndarray]:
    import cv2

    capture: Any = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    images: list[np.ndarray] = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        is_read, image = capture.read()
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if is_read else np.zeros((1, 1, 3), np.uint8))
    return images


READERS = (
    Reader("evqa", "evqa", _evqa),
    Reader("torchcodec", "torchcodec", _torchcodec),
    Reader("decord", "decord", _decord),
    Reader("opencv", "cv2", _opencv),
)


def compare(
    clips: Positional[tuple[Path, ...]],
    counts: tuple[int, ...] = (8, 32, 128),
    rounds: int = 5,
    readers: tuple[str, ...] = ("evqa", "torchcodec", "decord"),
    check: bool = True,  # noqa: FBT001, FBT002  (an option of the command)
) -> None:
    """CPU seconds to open a file and read evenly spaced frames, and how many of them are right.

    Args:
        clips: video files.
        counts: numbers of frames.
        rounds: how often each reader reads; the median is printed.
        readers: of evqa, torchcodec, decord, opencv; evqa is always among them. OpenCV decodes again for each frame.
        check: also decode each file whole, to count the right frames (slow for long files).
    """
    used = _installed({"evqa", *readers})
    print("| clip | frames | " + " | ".join(f"{reader.name} s" for reader in used) + " | of evqa, times |")
    print("|---|---|" + "---|" * (len(used) + 1))
    for clip in clips:
        video = media.probe_video(clip)
        for count in counts:
            _compare_one(used, video, media.uniform_indices(video, count), rounds)
        if check:
            _print_right(used, video, media.uniform_indices(video, max(counts)))


def index(clips: Positional[tuple[Path, ...]], rounds: int = 5) -> None:
    """CPU seconds to open a file and know the time of every frame, and what is then kept in memory."""
    print("| clip | frames | CPU s | bytes kept | bytes a frame |\n|---|---|---|---|---|")
    for clip in clips:
        seconds = [_cpu_of_index(clip) for _ in range(rounds)]
        found = decode.index_of(clip)
        frames = len(found.ticks)
        middle = statistics.median(seconds)
        print(f"| {clip.name} | {frames} | {middle:.4f} | {found.nbytes} | {found.nbytes / frames:.1f} |")


def _cpu_of_index(clip: Path) -> float:
    decode.clear_caches()
    before = time.process_time()
    decode.index_of(clip)
    return time.process_time() - before


def _installed(wanted: set[str]) -> list[Reader]:
    """Those of the wanted readers whose library can be imported; says which cannot."""
    found: list[Reader] = []
    for reader in (reader for reader in READERS if reader.name in wanted):
        try:
            __import__(reader.module)
        except (ImportError, OSError, RuntimeError) as error:
            absent = importlib.util.find_spec(reader.module) is None
            reason = "is not installed" if absent else f"cannot be loaded ({str(error).splitlines()[0]})"
            print(f"{reader.name} {reason}: left out")
        else:
            found.append(reader)
    return found


def _read(reader: Reader, path: Path, indices: Sequence[int]) -> Sequence[np.ndarray] | None:
    """The frames; None where the library cannot read the file (its own FFmpeg may lack the codec)."""
    try:
        return reader.read(path, indices)
    except Exception as error:  # noqa: BLE001  (each library has errors of its own)
        print(f"{reader.name} cannot read {path.name}: {str(error).splitlines()[0][:120]}")
        return None


def _compare_one(readers: Sequence[Reader], video: media.Video, indices: Sequence[int], rounds: int) -> None:
    seconds: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for _ in range(rounds):
        for reader in readers:
            before = time.process_time()
            is_read = _read(reader, video.path, indices) is not None
            seconds[reader.name].append(time.process_time() - before if is_read else float("nan"))
    middle = {name: statistics.median(values) for name, values in seconds.items()}  # nan: it cannot read the file
    cells = " | ".join(f"{middle[reader.name]:.3f}" for reader in readers)
    ratios = ", ".join(f"{name} {middle[name] / middle['evqa']:.2f}" for name in middle if name != "evqa")
    print(f"| {video.path.name} | {len(indices)} | {cells} | {ratios} |", flush=True)


def _print_right(readers: Sequence[Reader], video: media.Video, indices: Sequence[int]) -> None:
    """How many of the frames are the right ones by each reader, and whether evqa's are equal to the last bit."""
    read = {reader.name: _read(reader, video.path, indices) for reader in readers}
    found = {name: images for name, images in read.items() if images is not None}
    near = _decoded_whole(video.path, {near for index in indices for near in (index - 1, index, index + 1)})
    counts = {
        name: sum(_is_right(image, near, index) for image, index in zip(images, indices, strict=True))
        for name, images in found.items()
    }
    equal = sum(np.array_equal(image, near[i]) for image, i in zip(found["evqa"], indices, strict=True))
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{video.path.name}: of {len(indices)} frames right: {text}; evqa equal in every bit: {equal}")


def _is_right(image: np.ndarray, near: dict[int, np.ndarray], index: int) -> bool:
    """Whether an image is the frame of this number, not one of its neighbours."""
    if image.shape != near[index].shape:
        return False
    distances = {
        other: float(np.abs(image.astype(np.int16) - near[other]).mean())
        for other in (index - 1, index, index + 1)
        if other in near
    }
    return distances[index] <= min(MAX_DIFFERENCE, *distances.values())


def _decoded_whole(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    with av.open(str(path)) as container:
        return {
            index: frame.to_ndarray(format="rgb24")
            for index, frame in enumerate(container.decode(video=0))
            if index in wanted
        }


def main() -> None:
    """Run one subcommand."""
    tyro.extras.subcommand_cli_from_dict({"compare": compare, "index": index})


if __name__ == "__main__":
    main()
