"""Sa2VA, run by the code of its checkpoint: text answers and masks.

Its `predict_forward(video, text, past_text, mask_prompts, processor)` takes frames and one turn, and returns
{"prediction": text, "prediction_masks": [bool [T, H, W] for each [SEG]]} (model card of ByteDance/Sa2VA-Qwen2_5-VL-7B).
Masks are predicted on every frame; the language model gets the subset that its own code selects.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from evqa import masks as rle
from evqa import media
from evqa.hub import checkpoints
from evqa.models.base import Capabilities, ModelError, RequestTooLarge, require_no_call_options
from evqa.models.frame_policy import FramePolicy, TimedFrame, timed_frames
from evqa.models.hf_chat import check_folder, load_model
from evqa.models.messages import Decoding, Message, Reply, ToolSpec, VideoMasks, VideoPart
from evqa.schema import RLE, Track, Usage

SEGMENT = "[SEG]"
"""Segmentation token of Sa2VA; methods and reports use `<|seg|>`."""

END = ("<|im_end|>", "<|end|>", "</s>")


class Sa2VAChat:
    """Adapter of a Sa2VA checkpoint."""

    capabilities = Capabilities(reply_format="evidence", predicts_masks=True)

    def __init__(
        self,
        *,
        name: str,
        frames: FramePolicy,
        checkpoint: str,
        device_map: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """Load a checkpoint.

        Args:
            name: name of the model in results.
            frames: sampling of the frames for which masks are predicted; the prompt has no timestamps.
            checkpoint: checkpoint name or folder.
            device_map: "auto" = all GPUs, or the CPU without a GPU; or a device.
            dtype: data type of the weights; "auto" = as stored.
            trust_remote_code: whether the code of the checkpoint may run; required.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        check_folder(folder)
        checkpoints.require_trust(checkpoint, folder, trust=trust_remote_code)
        self.name = name
        self._policy = replace(frames, time_marks=False)
        self._model = load_model(folder, "AutoModel", device_map, dtype, trust=True)
        self._words = _words(self._model, folder)
        self._lock = threading.Lock()
        self._identity = {
            "checkpoint": checkpoint,
            "weights": checkpoints.fingerprint(folder),
            "revision": checkpoints.installed_revision(folder),
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings that determine a reply, apart from the prompt."""
        return {**self._identity, **self._policy.settings(), "decoding": "the model's own"}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Generate the reply to the last message, with its masks."""
        require_no_call_options(self.name, tools, decoding)
        start = time.perf_counter()
        path = _video_of(messages)
        video, frames = media.probe_video(path), tuple(timed_frames(path, self._policy))
        try:
            with self._lock, torch.inference_mode():
                output = self._model.predict_forward(
                    video=[picture.image for picture in frames],
                    text=_question_of(messages),
                    past_text=_history_of(messages),
                    mask_prompts=None,
                    **self._words,
                )
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise RequestTooLarge(f"out of memory: fewer or smaller frames need less ({error})") from None
        text = str(output["prediction"]).replace(SEGMENT, "<|seg|>")
        for end in END:
            text = text.removesuffix(end)
        usage = Usage(seconds=round(time.perf_counter() - start, 3))
        return Reply(text.strip(), _masks(output.get("prediction_masks") or [], video, frames), usage)


def _video_of(messages: Sequence[Message]) -> Path:
    """Video of a conversation. `ValueError`: several videos, or images, which the model does not accept."""
    parts = [part for message in messages for part in message.parts if not isinstance(part, str)]
    paths = {part.require_no_prompts() for part in parts if isinstance(part, VideoPart)}
    if len(paths) > 1 or not all(isinstance(part, VideoPart) for part in parts):
        raise ValueError(f"Sa2VA takes one video and no images, got {len(paths)} videos among {len(parts)} parts")
    if not paths:
        raise ModelError("Sa2VA replies to questions about a video, got none")
    return paths.pop()


def _question_of(messages: Sequence[Message]) -> str:
    """Last prompt; the first one follows the video."""
    text = "\n".join(part for part in messages[-1].parts if isinstance(part, str))
    return text if _history_of(messages) else f"<image>{text}"


def _history_of(messages: Sequence[Message]) -> str:
    """Earlier turns as text."""
    return "".join(part for message in messages[:-1] for part in message.parts if isinstance(part, str))


def _words(model: Any, folder: Path) -> dict[str, Any]:
    """Processor or tokenizer, depending on the parameters of the model's code."""
    untyped: Any = transformers
    takes = inspect.signature(model.predict_forward).parameters
    options = {"trust_remote_code": True, "local_files_only": True}
    if "processor" in takes and (folder / "preprocessor_config.json").is_file():
        return {"processor": untyped.AutoProcessor.from_pretrained(folder, **options)}
    return {"tokenizer": untyped.AutoTokenizer.from_pretrained(folder, **options)}


def _masks(masks: Sequence[np.ndarray], video: media.Video, frames: Sequence[TimedFrame]) -> VideoMasks | None:
    """Video masks at the video's size from masks [T, H, W] of the sampled frames; one track per object."""
    if not masks:
        return None
    indices = media.nearest_index(video, [picture.second for picture in frames])
    tracks = tuple(Track(masks=_track(np.asarray(mask), indices, video)) for mask in masks)
    every = len(indices) == video.num_frames
    return VideoMasks(tracks, (video.height, video.width), video.num_frames, None if every else tuple(indices))


def _track(mask: np.ndarray, indices: Sequence[int], video: media.Video) -> dict[int, RLE]:
    """Frame index -> mask of one object; empty masks are left out."""
    shape = (len(indices), *mask.shape[-2:])
    if mask.size != np.prod(shape):
        raise ModelError(f"the model drew masks of shape {mask.shape} for {len(indices)} frames")
    masks: dict[int, RLE] = {}
    for index, frame_mask in zip(indices, mask.reshape(shape).astype(bool), strict=True):
        image = Image.fromarray(frame_mask).resize((video.width, video.height), Image.Resampling.NEAREST)
        if (whole := np.asarray(image, dtype=bool)).any():
            masks[index] = rle.encode(whole)
    return masks
