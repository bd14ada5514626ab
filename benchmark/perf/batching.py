"""What several questions in one pass cost our model against one after the other, and whether the replies are equal.

    python benchmark/perf/batching.py --batch-size 4 --limit 8

Both ways go through the whole path of `evqa predict`: threads that decode and ask, replies in a batch, masks in a
batch. Times are CPU seconds of this process on one thread, the least of some repeats in turn, behind a first pass of
each that is not counted. Results: docs/measurements.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import tyro

from evqa import datasets, methods, models
from evqa.models.base import Models
from evqa.runs import thread_executor
from evqa.schema import Prediction, Sample


def main(data: str = "shapes-test", model: str = "tiny", limit: int = 8, batch_size: int = 4, repeats: int = 3) -> None:
    """Compare and print."""
    torch.set_num_threads(1)
    samples = list(datasets.load(data).samples)[:limit]
    executors = {
        size: thread_executor.ThreadExecutor(Models(models.build(model, device="cpu", batch_size=size)))
        for size in (1, batch_size)
    }
    found = {size: predicted(executor, samples) for size, executor in executors.items()}
    seconds = dict.fromkeys(executors, float("inf"))
    for _ in range(repeats):
        for size, executor in executors.items():
            start = time.process_time()
            predicted(executor, samples)
            seconds[size] = min(seconds[size], time.process_time() - start)
    alone, together = found[1], found[batch_size]
    pairs = [(alone[sample.id], together[sample.id]) for sample in samples]
    print(f"{model} on {len(samples)} samples of {data}")
    print(f"one by one {seconds[1]:.2f} s, {batch_size} in a pass {seconds[batch_size]:.2f} s")
    print(f"CPU time of the batches over that of one by one: {seconds[batch_size] / seconds[1]:.3f}")
    print(f"replies that differ: {sum(one.turns[0].reply != other.turns[0].reply for one, other in pairs)}")
    print(f"largest difference of a letter's log-probability: {max(letters(*pair) for pair in pairs):.1e}")
    print(f"largest difference of a mask's score: {max(scores(*pair) for pair in pairs):.1e}")
    number = sum(len(track.masks) for one, _ in pairs for track in one.tracks or ())
    print(f"masks that differ: {sum(masks(*pair) for pair in pairs)} of {number}")


def predicted(executor: thread_executor.ThreadExecutor, samples: Sequence[Sample]) -> dict[str, Prediction]:
    """Predictions by sample."""
    found = {one.sample_id: one for one in executor.predict(samples, methods.METHODS["single-turn"])}
    if failed := [one.error for one in found.values() if one.error]:
        raise ValueError(f"{len(failed)} samples failed, the first: {failed[0]}")
    return found


def letters(one: Prediction, other: Prediction) -> float:
    """Largest difference of the log-probability of an option's letter."""
    ours, theirs = one.turns[0].option_logprobs or {}, other.turns[0].option_logprobs or {}
    return max((abs(ours[letter] - theirs[letter]) for letter in ours.keys() & theirs.keys()), default=0.0)


def scores(one: Prediction, other: Prediction) -> float:
    """Largest difference of a track's score."""
    pairs = zip(one.tracks or (), other.tracks or (), strict=True)
    return max((abs((a.score or 0.0) - (b.score or 0.0)) for a, b in pairs), default=0.0)


def masks(one: Prediction, other: Prediction) -> int:
    """How many masks are not the same to the last pixel."""
    pairs = zip(one.tracks or (), other.tracks or (), strict=True)
    return sum(a.masks.get(index) != b.masks.get(index) for a, b in pairs for index in a.masks.keys() | b.masks.keys())


if __name__ == "__main__":
    tyro.cli(main)
