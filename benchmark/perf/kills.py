"""A run whose workers are killed at random and whose driver is killed again and again, beside an unbroken one.

    python benchmark/perf/kills.py                                   # 200 samples, 4 workers
    python benchmark/perf/kills.py --samples 24 --workers 2

The driver has a Ray of its own, which dies with it. Every kill is SIGKILL. The samples are questions about drawn
clips, the model is a file of replies with masks: what is tried is the runner, the workers and the records. Ends with 1
where a sample is lost, doubled or different.
The results are in docs/measurements.md.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import tyro

from evqa import masks, media
from evqa.files import jsonl
from evqa.runs.ray_cluster import NOT_STARTED
from evqa.runs.run_folder import PREDICTIONS
from evqa.schema import Prediction, Sample

SIZE = (32, 48)
FRAMES = (6, 12)
"""Of the clips, in turn."""

MAX_LATE = 8
"""Starts of Ray that may fail."""

MAX_RUNS = 5
"""Runs that may end before their last victim is killed, as on a machine where this process has to wait its turn."""


def main(*, samples: int = 200, workers: int = 4, worker_kills: int = 4, driver_kills: int = 2) -> int:
    """Run it; what was seen goes to stdout as JSON.

    Args:
        samples: of the run.
        workers: of the run.
        worker_kills: workers to kill, at random.
        driver_kills: times to kill the driver; each time the same command is started again.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, replies = drawn_data(folder / "data", samples), scripted(folder / "replies.json", samples)
        command = [sys.executable, "-m", "evqa", "predict", str(data), str(replies)]
        subprocess.run([*command, "--out", str(folder / "unbroken")], check=True, capture_output=True)
        whole = (folder / "unbroken" / PREDICTIONS).stat().st_size
        command += ["--workers", str(workers)]
        victims = ["worker"] * worker_kills + ["driver"] * driver_kills
        random.Random(0).shuffle(victims)
        runs = (Broken(command, folder / f"run{number}") for number in range(MAX_RUNS))
        run = next((run for run in runs if run.go(victims, whole)), None)
        assert run is not None, "every run was done before its last victim was killed: give it more --samples"
        found = compared(folder / "unbroken" / PREDICTIONS, run.folder / PREDICTIONS)
    print(
        json.dumps(
            found | {"killed": victims, "commands": run.starts, "late": run.late, "seconds": round(run.seconds, 1)}
        )
    )
    return 0 if found["equal"] and found["exactly_once"] == samples else 1


def drawn_data(folder: Path, count: int) -> Path:
    """A data set of questions about grey clips."""
    (folder / "videos").mkdir(parents=True)
    for frames in FRAMES:
        images = np.full((frames, *SIZE, 3), 40, dtype=np.uint8)
        media.write_video(folder / "videos" / f"clip{frames}.mp4", iter(images), 6.0)
    samples: list[Sample] = []
    for number in range(count):
        clip = f"clip{FRAMES[number % len(FRAMES)]}"
        question, video = f"Question number {number:04d}?", Path(f"videos/{clip}.mp4")
        sample = Sample(id=f"s{number:04d}", video_id=clip, video=video, question=question, options=("a", "b"))
        samples.append(sample)
    jsonl.write_records(folder / "samples.jsonl", samples)
    return folder


def scripted(path: Path, count: int) -> Path:
    """A reply with masks for each question, which depends on it."""
    replies: dict[str, object] = {}
    for number in range(count):
        mask = np.zeros(SIZE, dtype=np.bool_)
        mask[8:20, number % 30 : number % 30 + 12] = True
        track = {"masks": {frame: masks.encode(mask).model_dump() for frame in range(FRAMES[0])}}
        text = f"Answer: {'AB'[number % 2]}. Temporal Evidence: [[0.5, 0.9]]. Spatial Evidence: <|seg|>."
        replies[f"Question number {number:04d}?"] = {"text": text, "tracks": [track], "num_frames": FRAMES[0]}
    path.write_text(json.dumps(replies), encoding="utf-8")
    return path


@dataclass
class Broken:
    """A run that is killed."""

    command: list[str]
    folder: Path
    starts: int = 0
    late: int = 0
    """Of these, how often Ray did not start."""
    seconds: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def go(self, victims: list[str], whole_bytes: int) -> bool:
        """Kill the victims as the file grows to its whole size; start the command again until it is done.

        False: it was done before the last victim's turn.
        """
        began = time.monotonic()
        driver = self._start()
        for place, victim in enumerate(victims, start=1):
            size = whole_bytes * (place - self.chance.random() / 2) / (len(victims) + 1)
            driver, workers = self._grown(driver, size)
            if not workers:
                return False
            if victim == "worker":
                self.chance.choice(workers).kill()
                continue
            driver.kill()
            driver.communicate()
            driver = self._start()
        said = driver.communicate()[1]
        while driver.returncode == 1 or self._is_ray_late(driver, said):  # two workers died on one sample, or none came
            driver = self._start()
            said = driver.communicate()[1]
        self.seconds = time.monotonic() - began
        return True

    def _start(self) -> subprocess.Popen[str]:
        self.starts += 1
        command = [*self.command, "--out", str(self.folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def _grown(
        self, driver: subprocess.Popen[str], size_bytes: float
    ) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        """The driver and its workers, once the file has grown to a size; none of them where it is done before.

        Another driver where Ray did not start.
        """
        path = self.folder / PREDICTIONS
        while driver.poll() is None or self._is_ray_late(driver, driver.communicate()[1]):
            if driver.returncode is not None:
                driver = self._start()
            if path.exists() and path.stat().st_size >= size_bytes and (workers := workers_of(driver)):
                return driver, workers
            time.sleep(0.005)
        return driver, []

    def _is_ray_late(self, driver: subprocess.Popen[str], said: str) -> bool:
        """Whether Ray gave up on itself, which it does after 30 seconds, as on a machine under load."""
        is_late = driver.returncode == 2 and NOT_STARTED in said
        assert is_late or driver.returncode in {0, 1}, said
        self.late += is_late
        assert self.late <= MAX_LATE, said
        return is_late


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that live, of the Ray that the driver has started."""
    found: list[psutil.Process] = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if (process.cmdline() or [""])[0].startswith("ray::RayWorker"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def compared(unbroken: Path, broken: Path) -> dict[str, int | bool]:
    """What two files of predictions have in common, wall times left out."""
    records = list(jsonl.read_records(broken, Prediction))
    done = [one.sample_id for one in records if one.status == "ok"]
    texts = {one.sample_id: one.model_dump_json(exclude={"seconds"}) for one in records}
    wanted = {
        one.sample_id: one.model_dump_json(exclude={"seconds"}) for one in jsonl.read_records(unbroken, Prediction)
    }
    return {
        "records": len(records),
        "failed_and_tried_again": len(records) - len(done),
        "exactly_once": sum(done.count(sample) == 1 for sample in wanted),
        "equal": texts == wanted,
    }


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
