"""Fast evaluation of a grounded model: greedy replies, masks on a few even frames, and scores per question.

The scores are those of the preset `strict`, except that masks are predicted and compared on `NUM_FRAMES` frames
instead of all, so that 800 questions of the synthetic data set take less than a minute of one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evqa import media, prompts
from evqa.media import Video
from evqa.metrics import temporal
from evqa.metrics.frames import gold_masks, merged_tracks
from evqa.metrics.spatial import score_frame
from evqa.models.messages import Message, Reply, VideoPart
from evqa.parsing.replies import parse_for_sample
from evqa.schema import Sample
from unipixel.inference.chat import UniPixelChat
from unipixel.inference.mask_frames import MaskFramePlan, MaskFramePolicy

NUM_FRAMES = 4
"""Number of frames with masks."""


class QuestionScores(NamedTuple):
    """Scores of the reply to a question."""

    id: str
    video: str
    question_type: str
    gold_spans: int
    """Number of evidence spans."""
    accuracy: float
    tiou: float
    tmean: float
    jf: float
    spans: int
    """Number of predicted spans."""
    seconds: float
    """Predicted seconds over those of the evidence."""

    @property
    def area(self) -> float:
        """Accuracy x tIoU x J&F (see `evqa.metrics.joint.area`)."""
        return self.accuracy * self.tiou * self.jf

    @property
    def joint(self) -> float:
        """1 if the answer is right, and tIoU and J&F are at least 0.5."""
        return float(self.accuracy > 0 and self.tiou >= 0.5 and self.jf >= 0.5)


@dataclass(frozen=True, kw_only=True)
class EvenFrames(MaskFramePolicy):
    """Policy that predicts masks on a few evenly spaced frames, from the first one on."""

    num_frames: int = NUM_FRAMES

    def plan(self, video: Video, reply: str) -> MaskFramePlan:
        """Return the visits of a video."""
        del reply
        indices = sorted({0, *media.uniform_indices(video, self.num_frames)})
        return MaskFramePlan(indices, [], 1)


def evaluate(chat: UniPixelChat, samples: Sequence[Sample], batch_size: int = 16) -> Iterator[QuestionScores]:
    """Yield the scores of the reply to each sample.

    Args:
        chat: greedy, with the policy `EvenFrames`.
        samples: with options, spans and masks.
        batch_size: number of questions per batch; it changes rounding only.
    """
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        replies = chat.generate_all([[_question(sample)] for sample in batch])
        yield from (question_scores(*pair) for pair in zip(batch, replies, strict=True))


def question_scores(sample: Sample, reply: Reply) -> QuestionScores:
    """The scores of a reply with masks."""
    parsed = parse_for_sample(reply.text, ("answer", "spans"), sample)
    spans, gold = parsed.spans or (), sample.spans or ()
    return QuestionScores(
        id=sample.id,
        video=sample.video_id,
        question_type=sample.question_type or "",
        gold_spans=len(gold),
        accuracy=float(parsed.answer == sample.answer),
        tiou=temporal.tiou(spans, gold),
        tmean=temporal.tmean(spans, gold),
        jf=_mask_score(sample, reply),
        spans=len(spans),
        seconds=temporal.length(spans) / max(temporal.length(gold), 1e-6),
    )


def _question(sample: Sample) -> Message:
    return Message("user", (VideoPart(sample.video), prompts.evidence_prompt(sample, "evidence")))


def _mask_score(sample: Sample, reply: Reply) -> float:
    """Mean J&F over the frames with masks."""
    assert reply.masks is not None, sample.id
    gold, predicted = gold_masks(sample) or {}, merged_tracks(reply.masks.tracks)
    frames = reply.masks.frames or range(reply.masks.num_frames)
    scores = [
        score_frame(*(side[index]() if index in side else None for side in (predicted, gold))) for index in frames
    ]
    return sum(score.jf for score in scores) / len(scores)
