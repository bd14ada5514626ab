"""One sample with its prediction: masks compared, what was wrong with them, and the value of any metric."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from evqa import media
from evqa.metrics.case import Case, Metric, Need, gold_has, prediction_has
from evqa.metrics.frames import BadMask, Drawn, compare, compare_each, drawn_by, gold_masks
from evqa.metrics.means import Cell, State
from evqa.schema import Prediction, Sample
from evqa.scores import Status

Cells = dict[str, Cell]


class Facts(NamedTuple):
    """What a prediction was like, whatever the metric."""

    status: Status
    bad_mask: str | None = None
    """Why one of its masks cannot be decoded; None = all can."""
    num_resized: int = 0
    num_beyond: int = 0
    is_truncated: bool = False
    is_refused: bool = False
    is_unparsed: bool = False


@dataclass(frozen=True)
class Outcome:
    """One sample with its prediction, ready for any metric."""

    case: Case
    facts: Facts

    def state(self, needs: Sequence[Need]) -> State:
        """Whether the prediction has what a metric needs."""
        if self.facts.status != "ok":
            return self.facts.status
        readable = all(prediction_has(self.case.prediction, need) for need in needs)
        return "scored" if readable and not (self.facts.bad_mask and "masks" in needs) else "unparsed"

    def cell(self, metric: Metric) -> Cell:
        """The value of a metric, 0 where the prediction lacks what it needs."""
        has_gold = all(gold_has(self.case.sample, need) for need in metric.needs)
        if not has_gold and not metric.gold_optional:
            return Cell(None)
        value = metric.value(self.case) if has_gold else 0.0
        state = self.state(metric.needs)
        if value is None:
            return Cell(None)
        if state in metric.drops:
            return Cell(None, state)
        is_written = metric.as_written and state == "unparsed" and self.case.prediction.written is not None
        return Cell(value if state == "scored" or is_written else 0.0, state)


def outcomes(sample: Sample, predictions: Sequence[Prediction | None], with_masks: Sequence[bool]) -> list[Outcome]:
    """The outcome of each prediction for one sample; masks are compared where `with_masks` says so."""
    found = _compared(sample, predictions, with_masks)
    return [_with_replies(outcome, each) for outcome, each in zip(found, predictions, strict=True)]


def _with_replies(outcome: Outcome, prediction: Prediction | None) -> Outcome:
    """The outcome with what the replies of its prediction were like."""
    if prediction is None:
        return outcome
    facts = outcome.facts._replace(
        is_truncated=prediction.is_truncated,
        is_refused=prediction.is_refused,
        is_unparsed=prediction.is_unparsed,
    )
    return replace(outcome, facts=facts)


def _compared(sample: Sample, predictions: Sequence[Prediction | None], with_masks: Sequence[bool]) -> list[Outcome]:
    gold = gold_masks(sample) if any(with_masks) else None
    statuses: list[Status] = ["missing" if each is None else each.status for each in predictions]
    usable = [each if each is not None and each.status == "ok" else _mute(sample) for each in predictions]
    if gold is None:
        return [Outcome(Case(sample, each), Facts(status)) for each, status in zip(usable, statuses, strict=True)]
    drawings = [_drawn(sample, each) if wants else None for each, wants in zip(usable, with_masks, strict=True)]
    compared = iter(compare_each(gold, [each for each in drawings if isinstance(each, Drawn)]))
    found: list[Outcome] = []
    for each, status, drawing in zip(usable, statuses, drawings, strict=True):
        scores = next(compared) if isinstance(drawing, Drawn) else drawing
        if isinstance(scores, BadMask):
            readable = each.model_copy(update={"tracks": None, "mask_folder": None})
            empty = compare(gold, _mute(sample), scores.num_frames)
            found.append(Outcome(Case(sample, readable, empty), Facts(status, str(scores))))
        elif scores is None:
            found.append(Outcome(Case(sample, each), Facts(status)))
        else:
            facts = Facts(status, None, scores.num_resized, scores.num_beyond)
            found.append(Outcome(Case(sample, each, scores), facts))
    return found


def _mute(sample: Sample) -> Prediction:
    return Prediction(sample=sample.id, status="ok")


def _drawn(sample: Sample, prediction: Prediction) -> Drawn | BadMask:
    try:
        drawn = drawn_by(prediction)
    except ValueError as error:
        return BadMask(str(error), num_frames=1)
    if prediction.tracks is None and prediction.mask_folder is None:
        return drawn
    return drawn._replace(num_frames=_num_frames(sample, drawn))


def _num_frames(sample: Sample, drawn: Drawn) -> int:
    """Frames of the video: what the file has; what the prediction says only where the file cannot tell."""
    try:
        return video_facts(sample.video).num_frames
    except ValueError:
        if drawn.num_frames is None:
            raise
        return drawn.num_frames


class VideoFacts(NamedTuple):
    """What is remembered of a video; its frames' times are too many."""

    num_frames: int
    duration: float
    height: int
    width: int


def video_facts(path: Path) -> VideoFacts:
    """From `media.probe`, remembered as long as the file does not change."""
    if not path.exists():
        raise ValueError(f"{path} is not here, and it tells how long the video is: fetch the data set's videos")
    return _probe(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _probe(path: Path, changed: int) -> VideoFacts:
    video = media.probe(path)
    return VideoFacts(video.num_frames, video.duration, video.height, video.width)
