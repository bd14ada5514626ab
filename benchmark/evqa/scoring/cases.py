"""Comparison of the predictions for one sample with its ground truth, from which every metric is computed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from evqa import media
from evqa.metrics.case import Case, GoldField, Metric, field_of, gold_has, prediction_has
from evqa.metrics.frames import BadMask, PredictedMasks, compare_all, gold_masks, masks_in_folder, predicted_masks
from evqa.metrics.means import Cell, State, UnrecordedValueError
from evqa.metrics.spatial import MaskScores, UnknownLengthError
from evqa.schema import ClockError, Prediction, Sample
from evqa.scoring.results import Status

MetricValues = Mapping[str, Cell | None]
"""Metric -> its cell; None = undefined (see `ComparedSample.cell`)."""


class PredictionHealth(NamedTuple):
    """Status and defects of a prediction, independent of metrics."""

    status: Status
    bad_mask: str | None = None
    """Reason why a mask cannot be decoded; None = all can."""
    num_resized: int = 0
    num_beyond: int = 0
    is_truncated: bool = False
    is_refused: bool = False
    is_unparsed: bool = False


@dataclass(frozen=True)
class ComparedSample:
    """Sample with a prediction and the comparison of their masks; input of every metric."""

    case: Case
    health: PredictionHealth

    def state(self, needs: Sequence[GoldField]) -> State:
        """Whether the prediction has what a metric needs."""
        if self.health.status != "ok":
            return self.health.status
        readable = all(prediction_has(self.case.prediction, field_of(self.case.sample, need)) for need in needs)
        return "scored" if readable and not (self.health.bad_mask and "masks" in needs) else "unparsed"

    def cell(self, metric: Metric) -> Cell | None:
        """The value of a metric, 0 where the prediction lacks what it reads.

        None: it is undefined, since it is a mean over all frames of a video whose length the ground truth lacks.
        """
        has_gold = all(gold_has(self.case.sample, need) for need in metric.needs)
        if not has_gold and not metric.gold_optional:
            return Cell(None)
        try:
            value = metric.value(self.case) if has_gold else 0.0
        except UnknownLengthError:
            return None
        except UnrecordedValueError:
            return Cell(0.0 if metric.unit == "fraction" else None, "unrecorded")
        state = self.state(metric.predicted)
        if value is None:
            return Cell(None)
        if state in metric.excluded_states:
            return Cell(None, state)
        return Cell(value if self._stands(metric, state) else 0.0, state)

    def _stands(self, metric: Metric, state: State) -> bool:
        """Whether the value of a metric counts: not of a prediction without a field that the metric reads."""
        return state == "scored" or metric.reads_record or metric.takes_empty or self._is_written(metric, state)

    def _is_written(self, metric: Metric, state: State) -> bool:
        """Whether a published evaluator finds a field in the file that our reader does not."""
        if not metric.reads_literal:
            return False
        if "masks" in metric.needs:
            return self.case.file_masks is not None
        return state == "unparsed" and self.case.prediction.literal is not None


def compare_samples(
    sample: Sample,
    predictions: Sequence[Prediction | None],
    with_masks: Sequence[bool],
    mask_files: Sequence[Path | None] = (),
) -> list[ComparedSample]:
    """Compare each prediction with the ground truth of a sample.

    Args:
        sample: Sample with ground truth.
        predictions: One prediction per system; None = missing.
        with_masks: Whether masks are compared, per system.
        mask_files: Folder of mask files per system that an official evaluator scores independently of the prediction
            file; () = none.

    Raises:
        ClockError: Spans of a prediction are on another clock than the ground truth.
    """
    for prediction in predictions:
        check_clock(sample, prediction)
    rows = _compared(sample, predictions, with_masks, mask_files or [None] * len(predictions))
    return [_with_record(row, prediction) for row, prediction in zip(rows, predictions, strict=True)]


def check_clock(sample: Sample, prediction: Prediction | None) -> None:
    """Check that the spans of a prediction are on the clock of the ground truth. `ClockError`: they are not."""
    if prediction is not None and prediction.spans and prediction.clock != "video":
        clip = sample.clip_window
        advice = f"add {clip.start - clip.origin:g} to each" if clip else "its sample has no clip to convert them by"
        raise ClockError(
            f"spans of the prediction for {sample.id} are in seconds of a {prediction.clock}, expected seconds of the "
            f"video: {advice}"
        )


def _with_record(row: ComparedSample, prediction: Prediction | None) -> ComparedSample:
    """The comparison with the record of its prediction and the state of the replies."""
    if prediction is None:
        return row
    health = row.health._replace(
        is_truncated=prediction.is_truncated,
        is_refused=prediction.is_refused,
        is_unparsed=prediction.is_unparsed,
    )
    return replace(row, case=replace(row.case, record=prediction), health=health)


def _compared(
    sample: Sample,
    predictions: Sequence[Prediction | None],
    with_masks: Sequence[bool],
    mask_files: Sequence[Path | None],
) -> list[ComparedSample]:
    media.set_folder_fps(sample.video, sample.fps)
    gold = gold_masks(sample) if any(with_masks) else None
    systems = [
        _SystemMasks.of(sample, prediction, folder, is_compared=is_compared and gold is not None)
        for prediction, is_compared, folder in zip(predictions, with_masks, mask_files, strict=True)
    ]
    if gold is None:
        return [ComparedSample(Case(sample, system.prediction), PredictionHealth(system.status)) for system in systems]
    masks = [PredictedMasks({}) if isinstance(system.masks, BadMask) else system.masks for system in systems]
    files = {place: system.files for place, system in enumerate(systems) if system.files is not None}
    empty, *scores = compare_all(gold, [PredictedMasks({}), *masks, *files.values()], num_frames_of(sample))
    file_scores = dict(zip(files, scores[len(systems) :], strict=True))
    return [
        system.comparison(sample, scores[place], file_scores.get(place), empty) for place, system in enumerate(systems)
    ]


@dataclass(frozen=True)
class _SystemMasks:
    """Prediction of one system for one sample, with opened masks."""

    prediction: Prediction
    """Prediction; without any field if it is missing or failed."""
    status: Status
    masks: PredictedMasks | BadMask
    folder: Path | None
    """Folder of mask files beside the prediction file."""
    files: PredictedMasks | None
    """Masks of the folder, if they differ from `masks`; None = no folder, or an invalid one."""
    is_compared: bool

    @classmethod
    def of(
        cls, sample: Sample, prediction: Prediction | None, folder: Path | None, *, is_compared: bool
    ) -> _SystemMasks:
        usable = prediction if prediction is not None and prediction.status == "ok" else _empty_prediction(sample)
        return cls(
            prediction=usable,
            status="missing" if prediction is None else prediction.status,
            masks=_predicted_masks(usable) if is_compared else PredictedMasks({}),
            folder=folder,
            files=_files(folder) if is_compared and folder != usable.mask_folder else None,
            is_compared=is_compared,
        )

    def comparison(
        self, sample: Sample, scores: MaskScores, file_scores: MaskScores | None, empty: MaskScores
    ) -> ComparedSample:
        """Compared sample, from the scores of its masks, of its mask files, and of empty masks."""
        if not self.is_compared:
            return ComparedSample(Case(sample, self.prediction), PredictionHealth(self.status))
        is_same_folder = self.folder is not None and self.folder == self.prediction.mask_folder
        in_files = scores if is_same_folder else file_scores
        bad = str(self.masks) if isinstance(self.masks, BadMask) else scores.bad
        if bad is not None:
            readable = self.prediction.model_copy(update={"tracks": None, "mask_folder": None})
            return ComparedSample(Case(sample, readable, empty, in_files), PredictionHealth(self.status, bad))
        health = PredictionHealth(self.status, None, scores.num_resized, scores.num_beyond)
        return ComparedSample(Case(sample, self.prediction, scores, in_files), health)


def _empty_prediction(sample: Sample) -> Prediction:
    return Prediction.model_construct(sample_id=sample.id, status="ok")  # official ids have any characters


def _predicted_masks(prediction: Prediction) -> PredictedMasks | BadMask:
    try:
        return predicted_masks(prediction)
    except ValueError as error:
        return BadMask(str(error))


def _files(folder: Path | None) -> PredictedMasks | None:
    """Mask files of a folder; None = no folder, or one with other files."""
    try:
        return masks_in_folder(folder) if folder is not None else None
    except ValueError:
        return None


def num_frames_of(sample: Sample) -> int | None:
    """Number of frames of a sample's video: from the video, else from the data set; None = unknown.

    The number in a prediction is not used, since a prediction must not change its own denominator.
    """
    try:
        return video_facts(sample.video).num_frames
    except (ValueError, OSError):
        return sample.num_frames


class VideoFacts(NamedTuple):
    """Cached metadata of a video."""

    num_frames: int
    duration: float
    height: int
    width: int


def video_facts(path: Path) -> VideoFacts:
    """Metadata of a video from `media.probe_video`, cached until the file changes."""
    if not path.exists():
        raise ValueError(f"{path} does not exist, and its length is needed: download the videos of the data set")
    return _probe(path, path.stat().st_mtime_ns)


def duration_of(sample: Sample) -> float:
    """Duration of a sample's video in seconds: from the video if it is there, else from the data set."""
    if sample.duration is None or (sample.has_video and sample.video.exists()):
        return video_facts(sample.video).duration
    return sample.duration


@functools.lru_cache(maxsize=4096)
def _probe(path: Path, changed: int) -> VideoFacts:
    video = media.probe_video(path)
    return VideoFacts(video.num_frames, video.duration, video.height, video.width)
