"""Collation of training examples into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from unipixel.model.visual_prompts import PromptPlace

IGNORED = -100
"""Label of a token without loss."""


class SkippedSample(NamedTuple):
    """A sample that failed to load; it is not replaced."""

    sample: str
    """Id of the sample."""
    reason: str


class TrainingExample(TypedDict):
    """One sample: `L` tokens, `T` frames of the language model, `M` of SAM 2 with side `S`, `O` objects."""

    input_ids: Tensor
    """int64 `[L]`."""
    labels: Tensor
    """int64 `[L]`."""
    pixel_values_videos: Tensor | None
    """float32 `[patches, patch size]`; this and the next two are None for text-only samples."""
    video_grid_thw: Tensor | None
    """int64 `[1, 3]`."""
    frame_times: list[float] | None
    """Seconds of the `T` frames, as Python numbers, which mixed precision does not round."""
    places: list[PromptPlace]
    """Points and boxes of its `<|ref|>` tokens, in order."""
    regions: Tensor | None
    """bool `[t, O, h, w]` in merged cells, the objects of its `<|mem|>` tokens."""
    frames: Tensor | None
    """float32 `[M, 3, S, S]`; None for samples without masks."""
    masks: Tensor | None
    """bool `[M, O, S, S]`; None if `frames` is None."""


class TrainingBatch(TypedDict, total=False):
    """Arguments of `UniPixel.forward`, and the skipped samples."""

    input_ids: Tensor
    """int64 `[B, L]`, padded on the right."""
    attention_mask: Tensor
    """int64 `[B, L]`, 1 = token."""
    labels: Tensor
    """int64 `[B, L]`."""
    pixel_values_videos: Tensor
    """float32 `[all patches, patch size]`; this and the next two are omitted in text-only batches."""
    video_grid_thw: Tensor
    """int64 `[V, 3]`, for the `V` samples with a video."""
    frame_times: list[list[float]]
    """Per video."""
    places: list[PromptPlace]
    """For the `<|ref|>` tokens of the batch, in order; omitted if empty."""
    regions: list[Tensor | None]
    """Per video; omitted if all are None."""
    frames: list[Tensor | None]
    masks: list[Tensor | None]
    skipped: list[SkippedSample]
    """Always present; the only key if no sample was loaded."""


class DataCollator:
    """Collator that pads token ids on the right; frames, masks and times stay lists.

    A batch may mix samples with and without video, with and without masks.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: Sequence[TrainingExample | SkippedSample]) -> TrainingBatch:
        skipped = [item for item in items if isinstance(item, SkippedSample)]
        examples = [item for item in items if not isinstance(item, SkippedSample)]
        if not examples:
            return {"skipped": skipped}
        lengths = [len(example["input_ids"]) for example in examples]
        longest = torch.arange(max(lengths))
        batch: TrainingBatch = {
            "input_ids": self._pad([example["input_ids"] for example in examples], self.pad_token_id),
            "attention_mask": (longest < torch.tensor(lengths)[:, None]).long(),
            "labels": self._pad([example["labels"] for example in examples], IGNORED),
            "frames": [example["frames"] for example in examples],
            "masks": [example["masks"] for example in examples],
            "skipped": skipped,
        }
        if places := [place for example in examples for place in example["places"]]:
            batch["places"] = places
        if pixels := [part for example in examples if (part := example["pixel_values_videos"]) is not None]:
            batch["pixel_values_videos"] = torch.cat(pixels)
            grids = [grid for example in examples if (grid := example["video_grid_thw"]) is not None]
            batch["video_grid_thw"] = torch.cat(grids)
            batch["frame_times"] = [times for example in examples if (times := example["frame_times"]) is not None]
            regions = [example["regions"] for example in examples if example["pixel_values_videos"] is not None]
            if any(region is not None for region in regions):
                batch["regions"] = regions
        return batch

    @staticmethod
    def _pad(rows: list[Tensor], value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
