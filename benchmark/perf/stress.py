"""Large inputs through `evqa score`, in a process of its own: time and peak memory.

    python benchmark/perf/stress.py records --number 1000000    # a prediction file of a million records
    python benchmark/perf/stress.py video --number 20000        # one video of 20,000 frames at 480p, gold as PNG files
    python benchmark/perf/stress.py video --number 20000 --workers 2

`records` are answers and spans for a tenth as many samples: each is predicted ten times, as by a run that was tried
again, and the last one counts. `records --distinct` has a sample for each record instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import deflate
import numpy as np
from numpy.typing import NDArray

from evqa import masks
from evqa.files.jsonl import write_records
from evqa.masks import native
from evqa.schema import Prediction, Sample, Span, Track

HEIGHT, WIDTH = 480, 854
NUM_MASKS = 100
"""Masks that differ; a video shows them again and again."""

OPTIONS = ("red", "blue", "green", "white")


def main() -> None:
    """Make the input, score it, say what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["records", "video"])
    parser.add_argument("--number", type=int, required=True, help="of records, or of frames")
    parser.add_argument("--distinct", action="store_true", help="a sample for each record")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.kind == "records":
            make_records(folder, options.number, options.number // (1 if options.distinct else 10))
        else:
            make_video(folder, options.number)
        size = (folder / "predictions.jsonl").stat().st_size
        print(
            f"{options.number} {'records' if options.kind == 'records' else 'frames'}, {size / 2**20:.0f} MiB to read"
        )
        wall, cpu, mebibytes = measure(folder, options.workers)
        print(f"scored in {wall:.1f} s ({cpu:.1f} s of CPU), peak {mebibytes:.0f} MiB, kernel {native.state()}")


def make_records(folder: Path, num_records: int, num_samples: int) -> None:
    """Samples with answers and spans; every other prediction is right."""
    write_records(folder / "samples.jsonl", (_sample(number) for number in range(num_samples)))
    write_records(folder / "predictions.jsonl", (_prediction(number, num_samples) for number in range(num_records)))


def _sample(number: int) -> Sample:
    return Sample(
        id=f"sample-{number:07d}",
        video_id=f"video-{number // 4}",
        video=Path("videos/absent.mp4"),
        question="Which one is picked up after the door opens?",
        options=OPTIONS,
        answer=number % 4,
        spans=(Span(2.0, 5.0),),
        question_type=("what", "when", "where")[number % 3],
    )


def _prediction(number: int, num_samples: int) -> Prediction:
    return Prediction(
        sample_id=f"sample-{number % num_samples:07d}",
        status="ok",
        answer=number % 4 if number % 2 else 0,
        spans=(Span(2.0, 4.0 + number % 3),),
    )


def make_video(folder: Path, num_frames: int) -> None:
    """One sample with a gold mask in every frame, and one prediction with as many."""
    drawn = [_ellipse(number) for number in range(NUM_MASKS)]
    files = [_png(mask) for mask in drawn]
    (folder / "masks").mkdir()
    for index in range(num_frames):
        (folder / f"masks/{index:05d}.png").write_bytes(files[index % NUM_MASKS])
    coded = [masks.encode(np.roll(mask, (3, 5), (0, 1))) for mask in drawn]
    track = Track(masks={index: coded[index % NUM_MASKS] for index in range(num_frames)})
    sample = _sample(0).model_copy(update={"masks": Path("masks")})
    write_records(folder / "samples.jsonl", [sample])
    prediction = _prediction(0, 1).model_copy(update={"tracks": (track,), "num_frames": num_frames})
    write_records(folder / "predictions.jsonl", [prediction])


def _ellipse(number: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    reach = 1 + 0.2 * np.cos(5 * np.arctan2(y - 240, x - 200 - 4 * number))
    return np.asarray(((y - 240) / 110) ** 2 + ((x - 200 - 4 * number) / 90) ** 2 < reach)


def _png(mask: NDArray[np.bool_]) -> bytes:
    rows = np.pad(mask.astype(np.uint8) * 255, ((0, 0), (1, 0))).tobytes()
    header = np.array([WIDTH, HEIGHT], ">u4").tobytes() + bytes([8, 0, 0, 0, 0])
    content = (b"IHDR", header), (b"IDAT", bytes(deflate.zlib_compress(rows))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunks(content))


def _chunks(content: tuple[tuple[bytes, bytes], ...]) -> Iterator[bytes]:
    for name, data in content:
        yield len(data).to_bytes(4, "big") + name + data + deflate.crc32(name + data).to_bytes(4, "big")


def measure(folder: Path, workers: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of the scoring process (of its largest one, with several)."""
    command = [sys.executable, "-m", "evqa", "score", str(folder / "predictions.jsonl"), "--data", str(folder)]
    start = time.monotonic()
    with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"evqa score failed:\n{output}")
    scores = json.loads((folder / "predictions.scores.json").read_text())[0]
    print(json.dumps({title: mean["mean"] for title, mean in scores["metrics"].items()}), json.dumps(scores["counts"]))
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
