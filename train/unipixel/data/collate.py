"""Items -> batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from unipixel.model.visual_prompts import PromptPlace

IGNORED = -100
"""Label of a token that is not learnt."""


class SkippedSample(NamedTuple):
    """A sample that did not load. Nothing takes its place."""

    sample: str
    """Its id."""
    reason: str


class TrainingExample(TypedDict):
    """One sample: `L` tokens, `T` frames of the language model, `M` of SAM 2 with side `S`, `O` objects."""

    input_ids: Tensor
    """int64 `[L]`."""
    labels: Tensor
    """int64 `[L]`."""
    pixel_values_videos: Tensor | None
    """float32 `[patches, patch size]`; this and the next two are None in a sample of words alone."""
    video_grid_thw: Tensor | None
    """int64 `[1, 3]`."""
    frame_times: list[float] | None
    """Seconds of the `T` frames. Python numbers, so that no mixed precision rounds them."""
    places: list[PromptPlace]
    """What the `<|ref|>` of its questions stand for, in order."""
    regions: Tensor | None
    """bool `[t, O, h, w]` in merged cells, what its `<|mem|>` stand for."""
    frames: Tensor | None
    """float32 `[M, 3, S, S]`; None in a sample that teaches no masks."""
    masks: Tensor | None
    """bool `[M, O, S, S]`; None with `frames`."""


class TrainingBatch(TypedDict, total=False):
    """What the model's forward takes, and what was skipped on the way."""

    input_ids: Tensor
    """int64 `[B, L]`, padded on the right."""
    attention_mask: Tensor
    """int64 `[B, L]`, 1 = token."""
    labels: Tensor
    """int64 `[B, L]`."""
    pixel_values_videos: Tensor
    """float32 `[all patches, patch size]`; this and the next two are left out of a batch of words alone."""
    video_grid_thw: Tensor
    """int64 `[V, 3]`, one for each of the `V` samples with a video."""
    frame_times: list[list[float]]
    """`V` of them."""
    places: list[PromptPlace]
    """One for each `<|ref|>` of the batch, in order; left out where there is none."""
    regions: list[Tensor | None]
    """`V` of them; left out where no video has one."""
    frames: list[Tensor | None]
    masks: list[Tensor | None]
    skipped: list[SkippedSample]
    """Always there; the only field where no sample loaded."""


class DataCollator:
    """Pads token ids on the right; frames, masks and times stay lists.

    Samples with and without a video, with and without masks, go into one batch.
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
