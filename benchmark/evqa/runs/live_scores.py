"""Approximate scores of a prediction for the progress bar of a run."""

from __future__ import annotations

from collections.abc import Collection

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.frames import BadMask, compare, gold_masks
from evqa.metrics.spatial import BOTH_EMPTY
from evqa.metrics.temporal import tiou
from evqa.schema import Prediction, Sample, Track

LIVE_FRAMES = 8
"""Number of evenly spaced frames per sample whose masks are compared; `evqa score` compares all."""


def live_scores(sample: Sample, prediction: Prediction) -> dict[str, float]:
    """Scores in [0, 1] of the requested fields that have ground truth: label -> score."""
    fields = {ask for turn in prediction.turns for ask in turn.answer_fields}
    values: dict[str, float] = {}
    if "answer" in fields and sample.answer is not None:
        values["Acc"] = accuracy(Case(sample, prediction))
    if "spans" in fields and sample.spans is not None:
        values["IoU"] = tiou(prediction.spans or (), sample.spans)
    if "time_choice" in fields and sample.time_answer is not None:
        values["time"] = float(prediction.time_choice == sample.time_answer)
    if "mask_choice" in fields and sample.mask_answer is not None:
        values["space"] = float(prediction.mask_choice == sample.mask_answer)
    if "masks" in fields and (score := _mean_jf(sample, prediction)) is not None:
        values["J&F"] = score
    return values


def _mean_jf(sample: Sample, prediction: Prediction) -> float | None:
    """Mean J&F over a few frames; 0 for unreadable predicted masks, None without readable ground-truth masks."""
    try:
        gold = gold_masks(sample)
        if gold is None or prediction.tracks is None:
            return None if gold is None else 0.0
        num_frames = max(sample.num_frames or prediction.num_frames or 1, max(gold, default=0) + 1)
        indices = {round(place * (num_frames - 1) / (LIVE_FRAMES - 1)) for place in range(LIVE_FRAMES)}
        thinned = prediction.replace(tracks=tuple(_only(track, indices) for track in prediction.tracks))
        scores = compare({index: gold[index] for index in indices & gold.keys()}, thinned, num_frames)
    except BadMask:
        return 0.0
    except ValueError:  # the ground truth is invalid: `evqa score` reports it
        return None
    return sum(scores.frames.get(index, BOTH_EMPTY).jf for index in indices) / len(indices)


def _only(track: Track, indices: Collection[int]) -> Track:
    return track.replace(masks={index: track.masks[index] for index in indices if index in track.masks})
