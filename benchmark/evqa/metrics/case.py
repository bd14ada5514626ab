"""What a metric sees, and what a row of a table of metrics says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from evqa.metrics.boxes import at_each, mean_over_gold, tube_iou
from evqa.metrics.frames import frames_of, objects_of
from evqa.metrics.means import Mean, State
from evqa.metrics.objects import object_scores
from evqa.metrics.spatial import MaskScores
from evqa.schema import Prediction, Sample, Span, Spans

GoldField = Literal["answer", "spans", "masks", "objects", "boxes", "time_choice", "mask_choice", "response"]
"""Field of ground truth and prediction that a metric compares: `objects` are masks per object, `time_choice` and
`mask_choice` choices of the multiple-choice task, `response` the answer to an open question."""

Unit = Literal["fraction"]
"""Of every value of every preset: from 0 to 1 (unmerged spans may exceed it). Tables show percent."""


@dataclass(frozen=True)
class Case:
    """One sample and what was predicted for it; masks are compared beforehand, frame by frame."""

    sample: Sample
    prediction: Prediction
    masks: MaskScores | None = None
    """None where gold has no masks."""
    file_masks: MaskScores | None = None
    """Masks that lie beside an original's file, for its evaluator, which scores them whatever the file says."""

    @property
    def gold_spans(self) -> Spans:
        """Gold in time, () where there is none."""
        return self.sample.spans or ()

    @property
    def predicted_spans(self) -> Spans:
        """Prediction in time, () where there is none."""
        return self.prediction.spans or ()

    @cached_property
    def objects(self) -> tuple[MaskScores, ...] | None:
        """Masks per gold object; None where gold does not tell objects apart."""
        if self.sample.tracks is None or self.masks is None:
            return None
        gold = [frames_of(track) for track in self.sample.tracks]
        return object_scores(gold, objects_of(self.prediction), self.masks.num_frames)

    @property
    def tube_iou(self) -> float | None:
        """Tube IoU (vIoU) of the boxes; None where gold has no box."""
        return tube_iou(self.prediction.boxes or {}, self.sample.boxes) if self.sample.boxes else None

    @property
    def box_iou(self) -> float | None:
        """Mean box IoU over the frames that gold has a box in; None where it has none."""
        return mean_over_gold(at_each(self.prediction.boxes or {}, self.sample.boxes)) if self.sample.boxes else None

    @property
    def response(self) -> str | None:
        """Predicted answer to an open question; None = missing."""
        return response_of(self.prediction)

    @property
    def literal_spans(self) -> Spans:
        """Prediction in time as an original's file writes it: perhaps reversed, negative or twice."""
        literal = self.prediction.literal
        return self.predicted_spans if literal is None else tuple(Span(*pair) for pair in literal.segments or ())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of a table of metrics."""

    value: Callable[[Case], float | None]
    """None: does not apply to this sample, whatever is predicted; left out of the mean."""
    needs: tuple[GoldField, ...]
    """What gold must have for the metric to apply; a prediction that lacks one of them counts 0."""
    gold_optional: bool = False
    """Whether a sample without gold counts 0 (ST-Evidence) rather than being left out."""
    excluded_states: frozenset[State] = frozenset()
    """Predictions in these states leave the mean rather than counting 0: a defect of some published protocols."""
    reads_literal: bool = False
    """Whether it reads what a file says literally (`Prediction.written`) and the masks that lie beside it."""
    unit: Unit = "fraction"
    definition: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named protocol: which definitions a table of scores uses."""

    metrics: dict[str, Metric] = field(repr=False)
    description: str
    derived: dict[str, Callable[[Mapping[str, Mean]], float | None]] = field(
        default_factory=dict[str, Callable[[Mapping[str, Mean]], float | None]], repr=False
    )
    """Numbers that are made of means and are no mean themselves, as fractions: name -> function of title -> mean."""


def response_of(prediction: Prediction) -> str | None:
    """Answer to an open question: the literal one of a prediction file, else the last reply; None = missing."""
    if prediction.literal is not None:
        return prediction.literal.answer
    return prediction.turns[-1].reply if prediction.turns else None


def gold_has(sample: Sample, need: GoldField) -> bool:
    """Whether the data set gives this part of the sample's gold."""
    if need == "masks":
        return sample.masks is not None or sample.tracks is not None
    if need == "objects":
        return sample.tracks is not None
    if need == "boxes":
        return sample.boxes is not None
    if need == "response":
        return sample.response is not None
    if need in {"time_choice", "mask_choice"}:
        return (sample.time_answer if need == "time_choice" else sample.mask_answer) is not None
    return (sample.answer if need == "answer" else sample.spans) is not None


def prediction_has(prediction: Prediction, need: GoldField) -> bool:
    """Whether this part of the prediction could be read from the model's reply."""
    if need in {"masks", "objects"}:
        return prediction.tracks is not None or prediction.mask_folder is not None
    if need == "boxes":
        return prediction.boxes is not None
    if need == "response":
        return response_of(prediction) is not None
    if need in {"time_choice", "mask_choice"}:
        return (prediction.time_choice if need == "time_choice" else prediction.mask_choice) is not None
    return (prediction.answer if need == "answer" else prediction.spans) is not None
