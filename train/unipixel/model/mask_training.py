"""Masks of the samples of a batch from the prompts of their `<|seg|>` tokens, and their loss.

Legend: O objects of one sample, K prompt vectors each, C width of SAM 2, T frames, S side of the square image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unipixel.model.losses import MaskLossTerms, batch_loss
from unipixel.model.sam2.outputs import MaskCandidates
from unipixel.model.sam2.tracker import MaskTracker


def check_counts(vectors: Sequence[Tensor], labels: Sequence[Tensor | None]) -> None:
    """Check that each sample has as many masks [T, O, S, S] as prompts [O, K, C].

    Raises:
        ValueError: it has not.
    """
    for sample, (label, prompt) in enumerate(zip(labels, vectors, strict=True)):
        if label is not None and label.shape[1] != len(prompt):
            raise ValueError(f"sample {sample} has {len(prompt)} <|seg|> tokens and masks of {label.shape[1]} objects")


def select_objects(
    vectors: Sequence[Tensor], labels: Sequence[Tensor | None], limit: int
) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
    """Select at most `limit` random objects of each sample, in order; all if the limit is not above 0."""
    if limit <= 0:
        return vectors, labels
    selected = [torch.randperm(len(v))[:limit].sort().values.to(v.device) for v in vectors]
    selected_labels = [label if label is None else label[:, keep] for label, keep in zip(labels, selected, strict=True)]
    return [v[keep] for v, keep in zip(vectors, selected, strict=True)], selected_labels


def segment_samples(
    tracker: MaskTracker, frames: Sequence[Tensor | None], vectors: Sequence[Tensor]
) -> list[MaskCandidates | None]:
    """Mask candidates per sample; samples with equal numbers of frames are computed in one pass.

    Args:
        tracker: the mask tracker.
        frames: per sample [T, 3, S, S] or None.
        vectors: per sample [O, K, C].
    """
    by_length: dict[int, list[int]] = {}
    for sample, (video, prompt) in enumerate(zip(frames, vectors, strict=True)):
        if video is not None and len(prompt):
            by_length.setdefault(len(video), []).append(sample)
    result: list[MaskCandidates | None] = [None] * len(frames)
    for samples in by_length.values():
        counts = [len(vectors[sample]) for sample in samples]
        videos = torch.stack([video for sample in samples if (video := frames[sample]) is not None])
        video_index = torch.arange(len(samples)).repeat_interleave(torch.tensor(counts)).to(videos.device)
        candidates = tracker(videos, torch.cat([vectors[sample] for sample in samples]), video_index)
        parts = zip(*(values.split(counts, dim=1) for values in candidates), strict=True)
        for sample, part in zip(samples, parts, strict=True):
            result[sample] = MaskCandidates(*part)
    return result


def loss_of(
    candidates: Sequence[MaskCandidates | None], labels: Sequence[Tensor | None]
) -> tuple[MaskLossTerms, float] | None:
    """Mean loss of the samples with candidates and labels, and their share of all samples; None without any."""
    pairs = [(d, label) for d, label in zip(candidates, labels, strict=True) if d is not None and label is not None]
    if not pairs:
        return None
    return batch_loss([d for d, _ in pairs], [label for _, label in pairs]), len(pairs) / len(candidates)
