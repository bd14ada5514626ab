"""One sample with its prediction: masks compared, what was wrong with them, and the value of any metric."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from evqa import media
from evqa.metrics.case import Case, GoldField, Metric, gold_has, prediction_has
from evqa.metrics.frames import BadMask, PredictedMasks, compare_all, drawn_in, gold_masks, predicted_masks
from evqa.metrics.means import Cell, State
from evqa.metrics.spatial import UnknownLengthError
from evqa.schema import Prediction, Sample
from evqa.scoring.results import Status

MetricValues = Mapping[str, Cell | None]
"""Metric -> its cell; None where it cannot be told (see `Outcome.cell`)."""


class PredictionHealth(NamedTuple):
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
class ComparedSample:
    """One sample with its prediction, ready for any metric."""

    case: Case
    facts: PredictionHealth

    def state(self, needs: Sequence[GoldField]) -> State:
        """Whether the prediction has what a metric needs."""
        if self.facts.status != "ok":
            return self.facts.status
        readable = all(prediction_has(self.case.prediction, need) for need in needs)
        return "scored" if readable and not (self.facts.bad_mask and "masks" in needs) else "unparsed"

    def cell(self, metric: Metric) -> Cell | None:
        """The value of a metric, 0 where the prediction lacks what it needs.

        None: it cannot be told, because it is a mean over the frames of a video whose number the gold data lack.
        """
        has_gold = all(gold_has(self.case.sample, need) for need in metric.needs)
        if not has_gold and not metric.gold_optional:
            return Cell(None)
        try:
            value = metric.value(self.case) if has_gold else 0.0
        except UnknownLengthError:
            return None
        state = self.state(metric.needs)
        if value is None:
            return Cell(None)
        if state in metric.excluded_states:
            return Cell(None, state)
        return Cell(value if state == "scored" or self._is_written(metric, state) else 0.0, state)

    def _is_written(self, metric: Metric, state: State) -> bool:
        """Whether a published evaluator finds in a file what our reading of it does not."""
        if not metric.reads_literal:
            return False
        if "masks" in metric.needs:
            return self.case.lying_masks is not None
        return state == "unparsed" and self.case.prediction.literal is not None


def compare_samples(
    sample: Sample, predictions: Sequence[Prediction | None], with_masks: Sequence[bool], lying: Path | None = None
) -> list[ComparedSample]:
    """The outcome of each prediction for one sample; masks are compared where `with_masks` says so.

    `lying`: folder of mask files that an original's evaluator scores, whatever the file of predictions says.
    """
    found = _compared(sample, predictions, with_masks, lying)
    return [_with_replies(outcome, each) for outcome, each in zip(found, predictions, strict=True)]


def _with_replies(outcome: ComparedSample, prediction: Prediction | None) -> ComparedSample:
    """The outcome with what the replies of its prediction were like."""
    if prediction is None:
        return outcome
    facts = outcome.facts._replace(
        is_truncated=prediction.is_truncated,
        is_refused=prediction.is_refused,
        is_unparsed=prediction.is_unparsed,
    )
    return replace(outcome, facts=facts)


def _compared(
    sample: Sample, predictions: Sequence[Prediction | None], with_masks: Sequence[bool], lying: Path | None
) -> list[ComparedSample]:
    media.state_rate(sample.video, sample.fps)
    gold = gold_masks(sample) if any(with_masks) else None
    statuses: list[Status] = ["missing" if each is None else each.status for each in predictions]
    usable = [each if each is not None and each.status == "ok" else _empty_prediction(sample) for each in predictions]
    if gold is None:
        return [
            ComparedSample(Case(sample, each), PredictionHealth(status))
            for each, status in zip(usable, statuses, strict=True)
        ]
    drawings = [
        _predicted_masks(each) if wants else PredictedMasks({}) for each, wants in zip(usable, with_masks, strict=True)
    ]
    files = None if any(lying == each.mask_folder for each in usable) else _files(lying)
    compared = compare_all(
        gold,
        [
            *(PredictedMasks({}) if isinstance(each, BadMask) else each for each in drawings),
            PredictedMasks({}),
            files or PredictedMasks({}),
        ],
        num_frames_of(sample),
    )
    nothing, lying_masks = compared[-2], None if files is None else compared[-1]
    found: list[ComparedSample] = []
    for each, status, wants, drawing, scores in zip(usable, statuses, with_masks, drawings, compared, strict=False):
        bad = str(drawing) if isinstance(drawing, BadMask) else scores.bad
        written = scores if lying is not None and each.mask_folder == lying else lying_masks
        if not wants:
            found.append(ComparedSample(Case(sample, each), PredictionHealth(status)))
        elif bad is not None:
            readable = each.model_copy(update={"tracks": None, "mask_folder": None})
            found.append(ComparedSample(Case(sample, readable, nothing, written), PredictionHealth(status, bad)))
        else:
            facts = PredictionHealth(status, None, scores.num_resized, scores.num_beyond)
            found.append(ComparedSample(Case(sample, each, scores, written), facts))
    return found


def _empty_prediction(sample: Sample) -> Prediction:
    return Prediction(sample_id=sample.id, status="ok")


def _predicted_masks(prediction: Prediction) -> PredictedMasks | BadMask:
    try:
        return predicted_masks(prediction)
    except ValueError as error:
        return BadMask(str(error))


def _files(folder: Path | None) -> PredictedMasks | None:
    """The mask files of a folder; None where there is none, or one with other files."""
    try:
        return drawn_in(folder) if folder is not None else None
    except ValueError:
        return None


def num_frames_of(sample: Sample) -> int | None:
    """Frames of a sample's video by the gold data: the video's own, else what the data set says; None = unknown.

    What a prediction says of itself is no evidence: it would choose its own denominator.
    """
    try:
        return video_facts(sample.video).num_frames
    except (ValueError, OSError):
        return sample.num_frames


class VideoFacts(NamedTuple):
    """What is remembered of a video; its frames' times are too many."""

    num_frames: int
    duration: float
    height: int
    width: int


def video_facts(path: Path) -> VideoFacts:
    """From `media.probe_video`, remembered as long as the file does not change."""
    if not path.exists():
        raise ValueError(f"{path} is not here, and it tells how long the video is: fetch the data set's videos")
    return _probe(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _probe(path: Path, changed: int) -> VideoFacts:
    video = media.probe_video(path)
    return VideoFacts(video.num_frames, video.duration, video.height, video.width)
