"""Scoring in several processes and in little memory: real processes, a real data set on disk."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evqa import masks
from evqa.datasets import Dataset
from evqa.schema import Prediction, Sample, Span, Track
from evqa.scoring import baselines, parallel
from evqa.scoring.engine import System, score

PRESETS = ["strict", "st-evidence"]


def disc(place: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - size[0] / 2) ** 2 + (x - 10 - place % 40) ** 2 < 60


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twenty questions about ten videos of 6 frames, gold masks as files."""
    samples = []
    for number in range(20):
        folder = tmp_path / "masks" / str(number)
        masks.write_folder(folder, ((index, disc(number + index)) for index in range(6)))
        samples.append(
            Sample(
                id=f"s{number}",
                video_id=f"v{number // 2}",
                video=tmp_path / "absent.mp4",
                question="Where?",
                options=("here", "there"),
                answer=number % 2,
                spans=(Span(0.0, 1.0 + number),),
                masks=folder,
            )
        )
    return Dataset("discs", tmp_path, tuple(samples), (), "0" * 64)


def prediction(number: int, *, shift: int = 2, counts: str | None = None) -> Prediction:
    frames = {index: masks.encode(disc(number + index + shift)) for index in range(6)}
    if counts is not None:
        frames[3] = frames[3].model_copy(update={"counts": counts})
    track = Track(masks=frames)
    return Prediction(
        sample_id=f"s{number}", status="ok", answer=0, spans=(Span(0.0, 3.0),), tracks=(track,), num_frames=6
    )


def predictions() -> Iterator[Prediction]:
    """Out of order, one twice, one damaged, one unknown, one failed, three missing."""
    yield prediction(7, shift=30)
    for number in reversed(range(3, 18)):
        yield prediction(number, shift=number % 5, counts="broken" if number == 9 else None)
    yield Prediction(sample_id="s18", status="failed", error="out of memory")
    yield Prediction(sample_id="who", status="ok")


def test_scores_do_not_depend_on_the_number_of_processes(dataset: Dataset):
    alone = score(dataset, [System("run", predictions())], PRESETS)
    together = score(dataset, [System("run", predictions())], PRESETS, workers=3)
    assert together == alone
    counts = alone[0].counts
    assert (counts.ok, counts.failed, counts.missing) == (15, 1, 4)
    assert (counts.duplicates, counts.unknown, counts.bad_masks) == (1, 1, 1)
    assert list(alone[0].samples) == [sample.id for sample in dataset.samples]
    in_order = sorted(list(predictions())[1:], key=lambda each: each.sample_id)
    assert score(dataset, [System("run", in_order)], PRESETS)[0].samples == alone[0].samples


def test_trivial_baselines_do_not_depend_on_the_number_of_processes(dataset: Dataset, tmp_path: Path):
    from evqa import media

    media.write_video(tmp_path / "absent.mp4", [np.zeros((48, 64, 3), np.uint8)] * 6, fps=6)
    assert baselines.baselines(dataset, workers=2) == baselines.baselines(dataset)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int):
    assert list(parallel.ordered_map(abs, range(-40, 0), workers)) == [(number, -number) for number in range(-40, 0)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_process_is_raised_here(workers: int):
    with pytest.raises(ValueError, match="negative values"):
        list(parallel.ordered_map(math.factorial, [1, -1, 2], workers))


def test_a_process_that_is_killed_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="use fewer workers"):
        list(parallel.ordered_map(os._exit, range(3, 50), 2))


def test_a_number_of_workers_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        list(parallel.ordered_map(abs, [1], 0))


def test_items_are_taken_as_they_are_needed():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = parallel.ordered_map(abs, items(), 2)
    assert next(results) == (0, 0)
    assert len(taken) <= 2 * parallel.WAITING
    results.close()


MANY = """
import resource, sys
from pathlib import Path
from evqa.datasets import Dataset
from evqa.schema import (Prediction, Sample, Track)
from evqa import masks
from evqa.scoring.engine import System, score
sys.path.insert(0, {tests!r})
from test_processes import disc
coded = [masks.encode(disc(place, (480, 854))) for place in range(40)]
def predictions():
    for number in range({records}):
        frames = {{index: coded[index % 40].model_copy() for index in range(2000)}}
        yield Prediction(sample=f"s{{number % 2}}", status="ok", tracks=(Track(masks=frames),), num_frames=2000)
tracks = (Track(masks=dict(enumerate(coded))),)
samples = tuple(
    Sample(id=f"s{{n}}", video_id="v", video=Path("absent"), question="?", tracks=tracks) for n in range(2)
)
print(score(Dataset("d", Path(), samples, (), "0" * 64), [System("run", predictions())])[0].counts.duplicates)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mebibytes(records: int) -> int:
    code = MANY.format(tests=str(Path(__file__).parent), records=records)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    duplicates, peak = map(int, done.stdout.split())
    assert duplicates == records - 2
    return peak


def test_memory_does_not_grow_with_the_number_of_predictions():
    few, many = peak_mebibytes(2), peak_mebibytes(14)
    assert many < few + 12


def test_partial_functions_are_handed_over():
    assert [result for _, result in parallel.ordered_map(partial(pow, 2), [3, 4], 2)] == [8, 16]
