"""UniPixel as a chat model of `evqa`: it sees sampled frames; its `<|seg|>` become masks on all frames.

A question can point: `<|ref|>` in its text is a `PointOrBox` of its clip, `[1]` a region of it. The two passes by which
the published models follow what they are pointed at:

    masks = chat.find(Clip(path, places=(Place((310, 120), second=2.0),)))
    chat.generate([Message("user", (Clip(path, regions=masks.tracks), "What does [1] pick up?"))])
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedTokenizerBase

from evqa import media
from evqa.hub import checkpoints as hub_checkpoints
from evqa.models.base import Capabilities, ModelError, require_no_call_options
from evqa.models.batching import Batcher
from evqa.models.messages import Decoding, Message, Reply, ToolSpec, VideoMasks, VideoPart
from evqa.models.sampling import Sampling
from evqa.models.weights import FiniteLogits, is_finite
from evqa.parsing.choices import answer_letter_position
from evqa.schema import LETTERS, Track, Usage
from unipixel.data import chat_format
from unipixel.data.clip import FrameSampling, sampled_indices
from unipixel.inference import mask_frames
from unipixel.inference.inputs import InputProcessor, ModelInputs
from unipixel.inference.mask_frames import MaskFramePlan
from unipixel.inference.video_segmentation import SegmentationRequest, segment_videos
from unipixel.model import checkpoints, devices
from unipixel.model.output import Generation
from unipixel.model.unipixel import UniPixel

TRAINED_FRAMES = 8
"""Frames of a video in published training; a clip with fewer gets more pixels per frame, as it did there."""

SEGMENT_PROMPT = "Please segment the objects that are pointed at: {places}."


class LoadedModel(NamedTuple):
    """A model that is in memory already."""

    model: UniPixel
    tokenizer: PreTrainedTokenizerBase


class UniPixelChat:
    """A checkpoint that replies with text and masks: `generate` always the same to a question, `samples` several."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        checkpoint: str,
        name: str = "unipixel",
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = 128,
        every: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_new_tokens: int = 512,
        prompt_frame: str = "first",
        mask_fps: float | None = None,
        mask_margin: float | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 1,
        compile: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        loaded: LoadedModel | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: a name of the zoo or a folder.
            name: what the model is called in results.
            num_frames: frames for the language model, evenly spread; None (and no `fps`) = the checkpoint's.
            fps: frames a second instead, `max_frames` at most.
            max_frames: see `fps`.
            every: every so-many-th frame instead, from the first on.
            min_pixels: fewest pixels of a frame for the language model; None = the checkpoint's.
            max_pixels: most pixels of a frame for the language model; None = the checkpoint's.
            max_new_tokens: where a reply is cut.
            prompt_frame: see `visits.MaskFramePolicy`, as the next two.
            mask_fps: frames a second that the mask decoder draws.
            mask_margin: seconds around the reply's spans that it draws.
            temperature: of sampling; 0 = the likeliest token each time.
            seed: of sampling; the same question about the same pixels draws the same (`samples` draws several).
            batch_size: questions in one pass.
            compile: compile the mask decoder's image encoder (torch.compile): the first clip takes minutes longer.
            device: "auto" = a GPU where there is one.
            dtype: "float32", "bfloat16" or "float16"; "auto" = bfloat16 on a GPU, float32 on a CPU.
            loaded: the model to use, which `checkpoint` then only names; it stays where and as it is.
        """
        if sum(policy is not None for policy in (num_frames, fps, every)) > 1:
            raise ValueError(f"give one of num_frames={num_frames}, fps={fps} and every={every}")
        self.name = name
        self.policy = mask_frames.MaskFramePolicy(prompt_frame=prompt_frame, fps=mask_fps, margin=mask_margin)
        self.temperature, self.seed = temperature, seed
        self.capabilities = Capabilities(
            concurrency=2 * batch_size if batch_size > 1 else 1,
            is_concurrent=True,
            reply_format="evidence",
            predicts_masks=True,
            visual_prompts=True,
            frame_times=True,
        )
        self._batch_size = batch_size
        self._batcher: Batcher[ModelInputs, Reply] = Batcher(self._replies, batch_size)
        self._lock = threading.Lock()
        self._identity: dict[str, str | None] = {"checkpoint": checkpoint}
        if loaded is None:
            folder = hub_checkpoints.locate_checkpoint(checkpoint)
            place = devices.select_device(device)
            model = checkpoints.load_checkpoint(folder, dtype=_dtype(dtype, place), device=place)
            loaded = LoadedModel(model, checkpoints.load_tokenizer(folder))
            self._identity |= {
                "weights": hub_checkpoints.fingerprint(folder),
                "revision": hub_checkpoints.installed_revision(folder),
            }
        self.model, self.tokenizer = loaded
        self.device = self.model.device
        if compile:
            self.model.sam2.vision_encoder.compile()
        config = self.model.config
        by_count = num_frames is None and fps is None and every is None
        plan = FrameSampling(
            num_frames=config.sample_frames if by_count else num_frames,
            fps=fps,
            every=every,
            max_frames=max_frames,
            trained_frames=TRAINED_FRAMES,
            min_pixels=config.min_pixels if min_pixels is None else min_pixels,
            max_pixels=config.max_pixels if max_pixels is None else max_pixels,
        )
        self.reader = InputProcessor(self.model, self.tokenizer, plan)
        self.ends = chat_format.eos_token_ids(self.tokenizer)
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.ends,
            pad_token_id=self.ends[-1],
            suppress_tokens=chat_format.ids_of_known(self.tokenizer, chat_format.SUPPRESSED),
        )

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply, apart from the question; the size of a batch moves no more than rounding does."""
        plan = self.reader.plan
        return {
            **self._identity,
            "frames": plan.num_frames,
            "fps": plan.fps,
            "max_frames": plan.max_frames if plan.fps is not None else None,
            "every": plan.every,
            "min_pixels": plan.min_pixels,
            "max_pixels": plan.max_pixels,
            "clock": self.model.config.clock,
            "decoding": f"temperature {self.temperature}, seed {self.seed}" if self.temperature else "greedy",
            "max_new_tokens": self.model.generation_config.max_new_tokens,
            "prompt_frame": self.policy.prompt_frame,
            "mask_fps": self.policy.fps,
            "mask_margin": self.policy.margin,
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """The reply, with a track of masks on all frames for each `<|seg|>` in it.

        It is computed together with what other threads ask meanwhile, up to `batch_size` of them.
        """
        require_no_call_options(self.name, tools, decoding)
        with self._batcher.preparing():
            asked = self.reader.read(messages)
        return self._batcher.result(asked)

    def samples(self, messages: Sequence[Message], n: int) -> list[Reply]:
        """`n` sampled replies to one conversation, each with a seed of its own; the first is that of `generate`.

        They are computed `batch_size` at a time, and do not depend on that. `ValueError`: `temperature` is 0, so that
        all would be equal.
        """
        if n < 1:
            raise ValueError(f"n is a number of replies, at least 1, got {n}")
        if n > 1 and not self.temperature:
            raise ValueError(f"{n} replies at temperature 0 would be equal: give a temperature above 0")
        asked = self.reader.read(messages)
        drawn = [asked._replace(draw=number) for number in range(n)]
        groups = [drawn[start : start + self._batch_size] for start in range(0, n, self._batch_size)]
        return [reply for group in groups for reply in self._replies(group)]

    def generate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Reply]:
        """Replies to several conversations in one pass, as if each were alone."""
        return self._replies([self.reader.read(messages) for messages in conversations])

    def segment_prompts(self, clip: VideoPart) -> VideoMasks:
        """The objects that a clip's places point at, followed through every frame: one track each.

        The first of the two passes of the published models: the reply is given, and its `<|seg|>` are drawn.
        Its tracks are `regions` for the question of the second pass.
        """
        if not clip.prompts:
            raise ValueError("find needs places to start from: Clip(path, places=(Place((x, y), second),))")
        numbers = range(1, len(clip.prompts) + 1)
        question = SEGMENT_PROMPT.format(places=", ".join(f"[{number}] <|ref|>" for number in numbers))
        answer = " ".join(f"[{number}] <|seg|>" for number in numbers)
        turns = [Message("user", (VideoPart(clip.path, clip.prompts), question)), Message("assistant", (answer,))]
        asked = self.reader.read(turns, is_open=False)
        assert asked.clip is not None
        video = asked.clip.video
        with self._computing():
            prompts = self.model(**self.reader.collate([asked]), logits_to_keep=1).prompts[0]
            (tracks,) = segment_videos(
                self.model.sam2, [SegmentationRequest(video, mask_frames.plan_mask_frames(video), prompts)]
            )
        return VideoMasks(tuple(tracks), (video.height, video.width), video.num_frames)

    def frame_times(self, clip: VideoPart) -> Sequence[float]:
        """Seconds of the frames that the language model sees of a clip."""
        video = media.probe_video(clip.path)
        return [float(video.times[index]) for index in sampled_indices(clip, video, self.reader.plan)]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """One pass at a time, without gradients."""
        try:
            with self._lock, torch.inference_mode():
                yield
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelError(f"out of memory on {self.device}, fewer frames or pixels need less: {error}") from None

    def _replies(self, asked: Sequence[ModelInputs]) -> list[Reply]:
        """Write all replies in one batch, then draw all their objects in one."""
        start = time.perf_counter()
        with self._computing():
            written = self.model.generate_with_mask_prompts(
                **self.reader.collate(asked), logits_processor=self._processors(asked)
            )
            _check_prompts(written)
            masks = self._draw(asked, written)
            letters = [self._option_logprobs(one) for one in written]
        seconds = (time.perf_counter() - start) / len(asked)
        return [self._reply(*row, seconds) for row in zip(asked, written, masks, letters, strict=True)]

    def _processors(self, asked: Sequence[ModelInputs]) -> list[LogitsProcessor]:
        """What logits go through: a check, then noise where replies are sampled."""
        if not self.temperature:
            return [FiniteLogits()]
        return [FiniteLogits(), Sampling(self.temperature, [one.digest(self.seed) for one in asked])]

    def _reply(
        self,
        asked: ModelInputs,
        written: Generation,
        masks: VideoMasks | None,
        letters: dict[str, float] | None,
        seconds: float,
    ) -> Reply:
        ids = written.ids.tolist()
        has_ended = bool(ids) and ids[-1] in self.ends
        text = self._text(ids[:-1] if has_ended else ids)
        usage = Usage(input_tokens=len(asked.input_ids), output_tokens=len(ids), seconds=seconds)
        return Reply(text, masks, usage, "stop" if has_ended else "length", letters)

    def _text(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(text, str), text
        return text

    def _option_logprobs(self, written: Generation) -> dict[str, float] | None:
        """Log-probability of every letter where the reply names its answer by one, in the form it has there."""
        ids = written.ids.tolist()
        text = self._text(ids)
        place = answer_letter_position(text)
        if place is None:
            return None
        index = bisect.bisect_right(range(len(ids)), place, key=lambda last: len(self._text(ids[: last + 1])))
        form = self._text([ids[index]])
        rows = {other: chat_format.encode_plain(self.tokenizer, form.replace(text[place], other)) for other in LETTERS}
        found = self.model.log_probabilities(written.states[index : index + 1])[0]  # [vocabulary]
        return {other: float(found[row[0]]) for other, row in rows.items() if len(row) == 1}

    def _draw(self, asked: Sequence[ModelInputs], written: Sequence[Generation]) -> list[VideoMasks | None]:
        """Masks of each reply; replies that visit the same frames of a video share them, all others go beside them."""
        together: dict[tuple[Path, tuple[int, ...]], list[int]] = {}
        plans: dict[int, MaskFramePlan] = {}
        for row, one in enumerate(asked):
            if one.clip is not None:
                plans[row] = self.policy.plan(one.clip.video, self._text(written[row].ids.tolist()))
                together.setdefault((one.clip.video.path, tuple(plans[row].order)), []).append(row)
        groups = list(together.values())
        scenes = [_scene(asked[rows[0]], plans[rows[0]], [written[row].prompts for row in rows]) for rows in groups]
        found: list[VideoMasks | None] = [None] * len(asked)
        for rows, scene, tracks in zip(groups, scenes, segment_videos(self.model.sam2, scenes), strict=True):
            left = iter(tracks)
            for row in rows:
                found[row] = _masks(scene, list(islice(left, len(written[row].prompts))))
        return found


def _check_prompts(written: Sequence[Generation]) -> None:
    """A `ModelError` where the mask decoder would be prompted with what are no numbers, and draw nothing."""
    if any(len(one.prompts) and not is_finite(one.prompts) for one in written):
        raise ModelError("the model computed mask prompts that are NaN or infinite: try --dtype float32")


def _scene(asked: ModelInputs, planned: MaskFramePlan, prompts: Sequence[Tensor]) -> SegmentationRequest:
    assert asked.clip is not None
    return SegmentationRequest(asked.clip.video, planned, torch.cat(list(prompts)))


def _masks(scene: SegmentationRequest, tracks: Sequence[Track]) -> VideoMasks:
    video, covered = scene.video, scene.plan.covered
    are_all = len(covered) == video.num_frames
    return VideoMasks(tuple(tracks), (video.height, video.width), video.num_frames, None if are_all else tuple(covered))


def _dtype(name: str, device: torch.device) -> torch.dtype:
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in types:
        raise ValueError(f"unknown dtype {name!r}; the types are: auto, {', '.join(types)}")
    return types[name]
