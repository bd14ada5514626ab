"""UniPixel as a chat model of `evqa`: it sees sampled frames; its `<|seg|>` become masks on all frames.

A question can point: `<|ref|>` in its text is a `Place` of its clip, `[1]` a region of it. The two passes by which
the published models follow what they are pointed at:

    masks = chat.find(Clip(path, places=(Place((310, 120), second=2.0),)))
    chat.generate([Message("user", (Clip(path, regions=masks.tracks), "What does [1] pick up?"))])
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from evqa import media, replies, zoo
from evqa.images import open_image
from evqa.models.base import Clip, Masks, Message, ModelError, Reply, Still
from evqa.schema import LETTERS, Span, Usage
from unipixel import visits
from unipixel.data import conversation, frames
from unipixel.model import checkpoints, clock, referring
from unipixel.model.unipixel import UniPixel, Written
from unipixel.watching import Look, Watched, look

TRAINED_FRAMES = 8
"""Frames of a video in published training; a clip with fewer gets more pixels per frame, as it did there."""

PROMPT_FRAMES = ("first", "evidence")

WORDS_OF_FIND = "Please segment the objects that are pointed at: {places}."


class Seen(NamedTuple):
    """A video or a picture as tokens and times of the language model."""

    patches: frames.Patches
    times: list[float]
    """Seconds of the frames; a picture is at 0."""


class Asked(NamedTuple):
    """A conversation as the model takes it."""

    input_ids: Tensor
    """int64 [L]"""
    watched: Watched | None
    """Its video."""
    seen: list[Seen]
    """Its clips and pictures, in order."""
    places: list[referring.Place]
    regions: list[Tensor | None]
    """One for each of `seen`."""


class Loaded(NamedTuple):
    """A model that is in memory already."""

    model: UniPixel
    tokenizer: PreTrainedTokenizerBase


class UniPixelChat:
    """A checkpoint that replies with text and masks: the same question gets the same reply."""

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
        device: str = "auto",
        dtype: str = "auto",
        loaded: Loaded | None = None,
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
            prompt_frame: where objects are drawn first: "first" = the first frame, as upstream does, or
                "evidence" = the middle of the reply's longest span, from where they are tracked both ways.
            mask_fps: frames a second that the mask decoder draws, those between are interpolated; None = all.
            mask_margin: draw only in the reply's spans and so many seconds around them; None = everywhere.
            temperature: of sampling; 0 = the likeliest token each time.
            seed: of sampling; every call starts from it.
            device: "auto" = a GPU where there is one.
            dtype: "float32", "bfloat16" or "float16"; "auto" = bfloat16 on a GPU, float32 on a CPU.
            loaded: the model to use, which `checkpoint` then only names; it stays where and as it is.
        """
        if sum(policy is not None for policy in (num_frames, fps, every)) > 1:
            raise ValueError(f"give one of num_frames={num_frames}, fps={fps} and every={every}")
        if prompt_frame not in PROMPT_FRAMES:
            raise ValueError(f"prompt_frame is one of {', '.join(PROMPT_FRAMES)}, got {prompt_frame!r}")
        if (mask_fps is not None and not mask_fps > 0) or (mask_margin is not None and not mask_margin >= 0):
            raise ValueError(f"mask_fps is above 0 and mask_margin not below, got {mask_fps} and {mask_margin}")
        self.name = name
        self.prompt_frame, self.mask_fps, self.mask_margin = prompt_frame, mask_fps, mask_margin
        self._identity: dict[str, str | None] = {"checkpoint": checkpoint}
        if loaded is None:
            folder = zoo.locate(checkpoint)
            place = torch.device(_device(device))
            model = checkpoints.load(folder, dtype=_dtype(dtype, place), device=place)
            loaded = Loaded(model, checkpoints.load_tokenizer(folder))
            self._identity |= {"weights": zoo.fingerprint(folder), "revision": zoo.revision(folder)}
        self.model, self.tokenizer = loaded
        self.device = self.model.device
        config = self.model.config
        by_count = num_frames is None and fps is None and every is None
        self.plan = Look(
            num_frames=config.sample_frames if by_count else num_frames,
            fps=fps,
            every=every,
            max_frames=max_frames,
            trained_frames=TRAINED_FRAMES,
            min_pixels=config.min_pixels if min_pixels is None else min_pixels,
            max_pixels=config.max_pixels if max_pixels is None else max_pixels,
        )
        self.temperature, self.seed = temperature, seed
        self.ends = conversation.known(self.tokenizer, (conversation.END, "<|endoftext|>"))
        self.model.generation_config = GenerationConfig(
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_k=0 if temperature else None,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.ends,
            pad_token_id=self.ends[-1],
            suppress_tokens=conversation.known(self.tokenizer, conversation.NEVER_WRITTEN),
        )
        self._watched: tuple[Clip, Watched] | None = None

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply, apart from the question."""
        return {
            **self._identity,
            "frames": self.plan.num_frames,
            "fps": self.plan.fps,
            "max_frames": self.plan.max_frames if self.plan.fps is not None else None,
            "every": self.plan.every,
            "min_pixels": self.plan.min_pixels,
            "max_pixels": self.plan.max_pixels,
            "clock": self.model.config.clock,
            "decoding": f"temperature {self.temperature}, seed {self.seed}" if self.temperature else "greedy",
            "max_new_tokens": self.model.generation_config.max_new_tokens,
            "prompt_frame": self.prompt_frame,
            "mask_fps": self.mask_fps,
            "mask_margin": self.mask_margin,
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def generate(self, messages: Sequence[Message]) -> Reply:
        """The reply, with a track of masks on all frames for each `<|seg|>` in it."""
        return self.generate_all([messages])[0]

    def generate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Reply]:
        """Replies to several conversations at once, as if each were alone; a video is followed once for all of its."""
        start = time.perf_counter()
        with self._memory_errors():
            asked = [self._ask(messages) for messages in conversations]
            written = self._write(asked)
            masks = self._draw_all(asked, written)
        seconds = (time.perf_counter() - start) / len(asked)
        return [self._reply(*row, seconds) for row in zip(asked, written, masks, strict=True)]

    def find(self, clip: Clip) -> Masks:
        """The objects that a clip's places point at, followed through every frame: one track each.

        The first of the two passes of the published models: the reply is given, and its `<|seg|>` are drawn.
        Its tracks are `regions` for the question of the second pass.
        """
        if not clip.places:
            raise ValueError("find needs places to start from: Clip(path, places=(Place((x, y), second),))")
        numbers = range(1, len(clip.places) + 1)
        question = WORDS_OF_FIND.format(places=", ".join(f"[{number}] <|ref|>" for number in numbers))
        answer = " ".join(f"[{number}] <|seg|>" for number in numbers)
        turns = [Message("user", (Clip(clip.path, clip.places), question)), Message("assistant", (answer,))]
        with self._memory_errors(), torch.inference_mode():
            asked = self._ask(turns, is_open=False)
            assert asked.watched is not None
            out = self.model(input_ids=asked.input_ids[None].to(self.device), **self._inputs([asked]), logits_to_keep=1)
            video = asked.watched.video
            return self._draw(out.prompts[0], video, visits.plan(video))

    @contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelError(f"out of memory on {self.device}, fewer frames or pixels need less: {error}") from error

    def shown(self, video: Path) -> Sequence[float]:
        """Seconds of the frames that the language model sees of a video."""
        facts = media.probe(video)
        return [float(facts.times[index]) for index in self.plan.indices(facts, [])]

    def _ask(self, messages: Sequence[Message], *, is_open: bool = True) -> Asked:
        """Tokens and what they stand for; `is_open` = a reply is to follow."""
        watched = self._watch(messages)
        seen, notes, places, regions = [], [], [], []
        for part in (part for message in messages for part in message.parts):
            if isinstance(part, Clip):
                assert watched is not None
                cells = watched.cells(part)
                seen.append(Seen(watched.patches, watched.times))
                notes.append(clock.time_marks(self.model.config.clock, watched.times) + watched.region_note(cells))
                places += [watched.place(place, self.model.sam2.side) for place in part.places]
                regions.append(cells)
            elif isinstance(part, Still):
                seen.append(Seen(self._still(part), [0.0]))
                notes.append("")
                regions.append(None)
        tokens = [one.patches.num_tokens for one in seen]
        encoded = conversation.encode(self.tokenizer, messages, tokens, notes=notes, reply=is_open)
        return Asked(encoded.input_ids, watched, seen, places, regions)

    def _still(self, still: Still) -> frames.Patches:
        image = np.asarray(open_image(still.path).convert("RGB"))
        return frames.llm_pixels(image[None], self.plan.min_pixels, self.plan.max_pixels)

    def _reply(self, asked: Asked, written: Written, masks: Masks | None, seconds: float) -> Reply:
        ids = written.ids.tolist()
        has_ended = bool(ids) and ids[-1] in self.ends
        text = self._text(ids[:-1] if has_ended else ids)
        usage = Usage(input_tokens=len(asked.input_ids), output_tokens=len(ids), seconds=seconds)
        return Reply(text, masks, usage, "stop" if has_ended else "length", self._letters(written))

    def _text(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(text, str), text
        return text

    @torch.inference_mode()
    def _letters(self, written: Written) -> dict[str, float] | None:
        """Log-probability of every letter where the first token stands that is a lone one, in the form it has there."""
        for index, token in enumerate(written.ids.tolist()):
            form = self._text([token])
            letter = form.strip()
            if len(letter) == 1 and letter in LETTERS:
                rows = {other: conversation.plain(self.tokenizer, form.replace(letter, other)) for other in LETTERS}
                found = self.model.log_probabilities(written.states[index : index + 1])[0]  # [vocabulary]
                return {other: float(found[row[0]]) for other, row in rows.items() if len(row) == 1}
        return None

    def _watch(self, messages: Sequence[Message]) -> Watched | None:
        """The conversation's video; what was watched last is kept for the next question about it."""
        clips = [part for message in messages for part in message.parts if isinstance(part, Clip)]
        if len(paths := {clip.path for clip in clips}) > 1:
            raise ValueError(f"one video per conversation, got {', '.join(sorted(map(str, paths)))}")
        if not clips:
            return None
        places = tuple(place for clip in clips for place in clip.places)
        wanted = Clip(clips[0].path, places, tuple(region for clip in clips for region in clip.regions))
        if self._watched is None or self._watched[0] != wanted or not _is_fresh(self._watched[1]):
            self._watched = wanted, look(wanted, self.plan)
        return self._watched[1]

    def _write(self, asked: Sequence[Asked]) -> list[Written]:
        """Generate, padded on the left; what is drawn at random depends on the seed alone."""
        rows = [row.input_ids for row in asked]
        longest = max(map(len, rows))
        padded = [torch.nn.functional.pad(row, (longest - len(row), 0), value=self.ends[-1]) for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        is_token = torch.arange(longest) >= longest - lengths[:, None]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            return self.model.write_all(
                torch.stack(padded).to(self.device),
                attention_mask=is_token.long().to(self.device),
                **self._inputs(asked),
            )

    def _inputs(self, asked: Sequence[Asked]) -> dict[str, Any]:
        """What the tokens stand for, for the model."""
        seen = [one for row in asked for one in row.seen]
        if not seen:
            return {}
        pixels = torch.cat([one.patches.pixel_values for one in seen])
        return {
            "pixel_values_videos": pixels.to(self.device, self.model.dtype),
            "video_grid_thw": torch.stack([one.patches.grid_thw for one in seen]).to(self.device),
            "frame_times": [one.times for one in seen],
            "places": [place for row in asked for place in row.places],
            "regions": [region for row in asked for region in row.regions],
        }

    def _draw_all(self, asked: Sequence[Asked], written: Sequence[Written]) -> list[Masks | None]:
        """Masks of each reply; the objects of replies that visit the same frames of a video are followed together."""
        found: list[Masks | None] = [None] * len(asked)
        together: dict[tuple[Path, tuple[int, ...]], list[int]] = {}
        plans: dict[int, visits.Visits] = {}
        for row, one in enumerate(asked):
            if one.watched is not None:
                plans[row] = self._visits(one.watched.video, self._text(written[row].ids.tolist()))
                together.setdefault((one.watched.video.path, tuple(plans[row].order)), []).append(row)
        for rows in together.values():
            watched = asked[rows[0]].watched
            assert watched is not None
            drawn = self._draw(torch.cat([written[row].prompts for row in rows]), watched.video, plans[rows[0]])
            tracks = iter(drawn.tracks)
            for row in rows:
                found[row] = replace(drawn, tracks=tuple(islice(tracks, len(written[row].prompts))))
        return found

    def _draw(self, prompts: Tensor, video: media.Video, planned: visits.Visits) -> Masks:
        """Follow the objects through the frames to be visited."""
        covered = planned.covered
        tracks = visits.tracks(self.model.sam2, video, planned, prompts)
        are_all = len(covered) == video.num_frames
        return Masks(tuple(tracks), (video.height, video.width), video.num_frames, None if are_all else tuple(covered))

    def _visits(self, video: media.Video, text: str) -> visits.Visits:
        """The frames that the mask decoder visits, in the light of what the reply says of time."""
        spans = replies.read_spans(text) or ()
        margin = self.mask_margin
        around = None if margin is None else [Span(max(0.0, s.start - margin), s.end + margin) for s in spans]
        start = visits.middle(video, spans) if self.prompt_frame == "evidence" else 0
        return visits.plan(video, prompt_frame=start, fps=self.mask_fps, spans=around or None)


def _is_fresh(watched: Watched) -> bool:
    """The file is still what was watched."""
    video = media.probe(watched.video.path)
    return video.times.tolist() == watched.video.times.tolist()


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _dtype(name: str, device: torch.device) -> torch.dtype:
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in types:
        raise ValueError(f"unknown dtype {name!r}; the types are: auto, {', '.join(types)}")
    return types[name]
