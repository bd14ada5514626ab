"""How well a run's samples spread over workers: measured times of a model, then a simulation of the schedules.

    python benchmark/perf/scheduling.py measure times.json --model tiny      # CPU seconds of clips of 2 to 60 seconds
    python benchmark/perf/scheduling.py simulate times.json                  # static and dynamic, 8 and 64 workers
    python benchmark/perf/scheduling.py scale DATA MODEL --workers 1 2       # wall time of real runs on this machine

Measured is CPU time in one thread, which other programs on the machine do not change. The results are in
docs/measurements.md.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from tyro.conf import Positional

from evqa import media, methods, models
from evqa.models.base import Models
from evqa.schema import Sample

FPS = 6.0
SIZE = (128, 192)
"""(H, W) of the drawn clips."""


class Timed(NamedTuple):
    """One measured sample."""

    frames: int
    seconds: float


def measure(
    out: Positional[Path], *, model: str = "tiny", clips: int = 24, shortest: float = 2.0, longest: float = 60.0
) -> None:
    """Time a model on drawn clips whose lengths are spread evenly on a logarithmic scale.

    Args:
        out: where to write [[frames, CPU seconds], ...].
        model: a name of `evqa list models`.
        clips: how many.
        shortest: seconds.
        longest: seconds.
    """
    asked = models.build(model)
    method = methods.method("single-turn")
    times: list[Timed] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for length in np.geomspace(shortest, longest, clips):
            frames = round(float(length) * FPS)
            media.write_video(path, drawn(frames), FPS)
            sample = Sample(
                id="s", video_id="v", video=path, question="Which shape glows?", options=("circle", "square")
            )
            start = time.process_time()
            prediction = method(Models(asked), sample)
            times.append(Timed(frames, round(time.process_time() - start, 4)))
            assert prediction.status == "ok", prediction.error
            print(f"{frames} frames: {times[-1].seconds:.2f} s", flush=True)
    out.write_text(json.dumps(times))


def drawn(frames: int) -> list[np.ndarray]:
    """A square that walks over a grey ground, uint8 [H, W, 3] each."""
    images: list[np.ndarray] = []
    for index in range(frames):
        image = np.full((*SIZE, 3), 90, dtype=np.uint8)
        left = index * 3 % (SIZE[1] - 40)
        image[40:80, left : left + 40] = (220, 60, 40)
        images.append(image)
    return images


# Schedules: seconds until the last of `speeds` workers is done. Order of the samples as given.

Schedule = Callable[[Sequence[Timed], Sequence[float]], float]


def blocks(samples: Sequence[Timed], speeds: Sequence[float]) -> float:
    """Each worker has a stretch of the file, `ceil(N / workers)` long: the published wrapper."""
    size = -(-len(samples) // len(speeds))
    return static([samples[index * size : (index + 1) * size] for index in range(len(speeds))], speeds)


def shards(samples: Sequence[Timed], speeds: Sequence[float]) -> float:
    """Each worker has every n-th sample: `--shard I/N`."""
    return static([samples[index :: len(speeds)] for index in range(len(speeds))], speeds)


def in_order(samples: Sequence[Timed], speeds: Sequence[float]) -> float:
    """A worker that is done gets the next sample of the file."""
    free = [(0.0, worker) for worker in range(len(speeds))]
    for sample in samples:
        now, worker = heapq.heappop(free)
        heapq.heappush(free, (now + sample.seconds / speeds[worker], worker))
    return max(now for now, _ in free)


def longest_first(samples: Sequence[Timed], speeds: Sequence[float]) -> float:
    """A worker that is done gets the longest video that is left: `--workers N`. Known are frames, not seconds."""
    return in_order(sorted(samples, key=lambda sample: -sample.frames), speeds)


SCHEDULES: dict[str, Schedule] = {
    "blocks": blocks,
    "every n-th": shards,
    "dynamic, in order": in_order,
    "dynamic, longest first": longest_first,
}


def static(parts: Sequence[Sequence[Timed]], speeds: Sequence[float]) -> float:
    """Seconds until the last worker is done with its own part."""
    return max(sum(sample.seconds for sample in part) / speed for part, speed in zip(parts, speeds, strict=True))


def simulate(
    times: Positional[Path], *, samples: int = 1300, repeats: int = 200, workers: tuple[int, ...] = (8, 64)
) -> None:
    """Print, for each schedule, how much longer a run takes than if its work were spread evenly.

    Args:
        times: what `measure` wrote; samples are drawn from it with replacement.
        samples: of one run; the generative benchmark has about 1,300.
        repeats: runs drawn; the table has their mean and their 95th percentile.
        workers: how many.
    """
    measured = [Timed(*pair) for pair in json.loads(times.read_text())]
    print("| workers | order of the file | speed | " + " | ".join(SCHEDULES) + " |")
    print("|---|---|---|" + "---|" * len(SCHEDULES))
    for count in workers:
        for order in ("mixed", "by source"):
            for slow in (False, True):
                files = [a_file(measured, samples, order, seed) for seed in range(repeats)]
                speeds = [0.5 if slow and worker % 8 == 0 else 1.0 for worker in range(count)]
                row = [over_ideal(files, speeds, schedule) for schedule in SCHEDULES.values()]
                speed = "one in eight at half" if slow else "equal"
                print(f"| {count} | {order} | {speed} | " + " | ".join(f"{m:.3f} ({p:.3f})" for m, p in row) + " |")


def a_file(measured: Sequence[Timed], num: int, order: str, seed: int) -> list[Timed]:
    """Samples drawn with replacement; by source: a source's videos are alike in length, and stand together."""
    samples = random.Random(seed).choices(measured, k=num)
    return sorted(samples, key=lambda sample: sample.frames) if order == "by source" else samples


def over_ideal(files: Sequence[Sequence[Timed]], speeds: Sequence[float], schedule: Schedule) -> tuple[float, float]:
    """(mean, 95th percentile) over files of: time of the last worker / time if work were divisible."""
    ratios = [
        schedule(samples, speeds) / (sum(sample.seconds for sample in samples) / sum(speeds)) for samples in files
    ]
    return float(np.mean(ratios)), float(np.percentile(ratios, 95))


def scale(
    data: Positional[str], model: Positional[str], *, workers: tuple[int, ...] = (1, 2), limit: int | None = None
) -> None:
    """Time whole runs of `evqa predict` with so many workers, each into a new folder.

    Args:
        data: a name of `evqa list datasets`.
        model: a name of `evqa list models`.
        workers: numbers of workers to compare.
        limit: only the first so many samples.
    """
    for count in workers:
        folder = Path(tempfile.mkdtemp())
        command = [sys.executable, "-m", "evqa", "predict", data, model, "--out", str(folder), "--workers", str(count)]
        process = subprocess.Popen(command + (["--limit", str(limit)] if limit else []), stdout=subprocess.DEVNULL)
        ends = ends_of_records(folder / "predictions.jsonl", process)
        lines = (folder / "predictions.jsonl").read_text().splitlines()
        seconds = [json.loads(line)["seconds"] for line in lines]
        shutil.rmtree(folder)
        span = ends[-1] - ends[0] + seconds[0]
        print(
            f"{count} workers: {len(seconds)} samples in {span:.1f} s without the start, {sum(seconds):.1f} s of work, "
            f"{sum(seconds) / span:.2f} at work at a time, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            flush=True,
        )


def ends_of_records(path: Path, process: subprocess.Popen[bytes]) -> list[float]:
    """When each record of a file was written, by the clock of this process, until the writer is done."""
    ends: list[float] = []
    is_running = True
    while is_running:
        is_running = process.poll() is None
        count = path.read_bytes().count(b"\n") if path.exists() else 0
        ends += [time.monotonic()] * (count - len(ends))
        time.sleep(0.02)
    assert process.returncode == 0, f"the run ended with {process.returncode}"
    return ends


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"measure": measure, "simulate": simulate, "scale": scale})
