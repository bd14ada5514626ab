"""Rewards of replies with evidence: answer, time, masks and format, and the advantage of each token.

A reply earns nothing unless it has the form of the target (`FORM`): one answer, one list of spans, one `<|seg|>`, and
the end token. So a second answer, a copied prompt or several `<|seg|>` are not rewarded; spans over the whole video and
empty masks lower the temporal IoU and J&F.

Legend: B prompts, G replies each, R tokens of the longest reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evqa.metrics import temporal
from evqa.metrics.spatial import score_frame
from evqa.parsing.replies import parse_for_sample
from evqa.schema import Sample
from unipixel.configs import RewardConfig

FORM = re.compile(
    r"\s*Answer: (?P<answer>[A-Z])\. "
    r"(?:Temporal Evidence: \[(?P<spans>\[\d+\.\d+, \d+\.\d+\](?:, \[\d+\.\d+, \d+\.\d+\])*)\]\. )?"
    r"Spatial Evidence: <\|seg\|>\.\s*"
)
"""Form of a reply (`evqa.prompts.evidence_target`)."""

COMPONENTS = ("answer", "time", "masks", "format")


class EvidenceReward(NamedTuple):
    """Components of the reward of a reply, in [0, 1]."""

    answer: float = 0.0
    """1 if the answer is right."""
    time: float = 0.0
    """IoU of the merged spans with the evidence."""
    masks: float = 0.0
    """Mean J&F over the frames with a true or predicted mask."""
    format: float = 0.0
    """1 if the reply has the form of the target."""
    num_spans: int = 0


NO_REWARD = EvidenceReward()


class ReplyParts(NamedTuple):
    """Ends of the parts of a reply, as numbers of characters."""

    answer: int
    """End of the option letter."""
    spans: int
    """End of the list of spans."""


def reply_parts(text: str) -> ReplyParts | None:
    """The parts of a reply; None if it has not the form of the target."""
    match = FORM.fullmatch(text)
    if match is None:
        return None
    answer = match.end("answer")
    return ReplyParts(answer, max(answer, match.end("spans")))


BEHIND_SPAN = re.compile(r"(?<=\d)\](?:, \[|\])")
"""What follows a span: the next one, or the end of the list."""


def span_ends(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of a reply that decide whether a further span follows."""
    match = FORM.fullmatch(text)
    if match is None or match["spans"] is None:
        return []
    return [end.span() for end in BEHIND_SPAN.finditer(text, match.start("spans"), match.end("spans") + 1)]


def reply_reward(text: str, sample: Sample, mask_score: float, *, has_ended: bool) -> EvidenceReward:
    """The components of the reward of a reply.

    Args:
        text: the reply without its end token.
        sample: with options, answer and spans.
        mask_score: see `mask_score`.
        has_ended: whether the end token was generated.
    """
    if not has_ended or reply_parts(text) is None:
        return NO_REWARD
    parsed = parse_for_sample(text, ("answer", "spans"), sample)
    spans = parsed.spans or ()
    return EvidenceReward(
        answer=float(parsed.answer is not None and parsed.answer == sample.answer),
        time=0.0 if sample.spans is None else temporal.tiou(spans, sample.spans),
        masks=mask_score,
        format=1.0,
        num_spans=len(spans),
    )


def mask_score(predicted: NDArray[np.bool_], gold: NDArray[np.bool_]) -> float:
    """Mean J&F of masks [T, H, W] over the frames where either is not empty; 0 if there is no such frame.

    Frames where both are empty are left out, so that an empty mask earns nothing on frames without evidence.
    """
    frames = [place for place in range(len(gold)) if predicted[place].any() or gold[place].any()]
    scores = [score_frame(predicted[place], gold[place]).jf for place in frames]
    return sum(scores) / len(scores) if scores else 0.0


Baseline = Literal["group", "spans"]


def advantages(
    rewards: Sequence[Sequence[EvidenceReward]], weights: RewardConfig, baseline: Baseline
) -> NDArray[np.float64]:
    """Advantage of each part of each reply [B, G, 3]: up to the answer, up to the spans, and the rest.

    Reward-to-go by cause: a part counts only the components that it can still change. The answer precedes the
    spans, so tokens behind the letter do not get the reward of the answer, and tokens behind the spans not that of
    time. From each value the mean of the other replies of the group is subtracted (leave one out).

    Args:
        rewards: of B groups of G replies.
        weights: of the components.
        baseline: "spans" = behind the answer, the mean of the other replies with as many spans (0 without any), so
            that a policy that is uncertain about each time is not rewarded for stating fewer spans.
    """
    to_go = np.array([[_to_go(reward, weights) for reward in group] for group in rewards])  # [B, G, 3]
    counts = np.array([[reward.num_spans for reward in group] for group in rewards])  # [B, G]
    same = np.ones((*counts.shape, counts.shape[1]), dtype=bool)  # [B, G, G]
    like = counts[:, :, None] == counts[:, None, :] if baseline == "spans" else same
    return np.stack([_left_out(to_go[:, :, part], same if part == 0 else like) for part in range(3)], axis=-1)


def _to_go(reward: EvidenceReward, weights: RewardConfig) -> tuple[float, float, float]:
    rest = weights.masks * reward.masks + weights.format * reward.format
    behind = weights.time * reward.time + rest
    return weights.answer * reward.answer + behind, behind, rest


def _left_out(values: NDArray[np.float64], like: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values [B, G] minus the mean of the other ones that are alike [B, G, G]; 0 without others."""
    alike = like & ~np.eye(values.shape[1], dtype=bool)
    count = alike.sum(-1)
    means = (alike * values[:, None, :]).sum(-1) / np.maximum(count, 1)
    return np.where(count > 0, values - means, 0.0)
