"""Open models of transformers' "image-text-to-text" kind: a video is shown as frames, each after its time.

torchvision is needed only for `video="file"`, where frames go through the model's own video processor: of those,
unlike of image processors, transformers (5.23, `video_processing_utils.py`) has no version without it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import transformers
from PIL import Image

from evqa import media
from evqa.hub import checkpoint_files, checkpoints
from evqa.models.attention import FLASH, TORCH, flash_attention_works
from evqa.models.base import Capabilities, ModelError, require_no_call_options
from evqa.models.batching import Batcher
from evqa.models.frame_policy import FramePolicy, TimedFrame, VideoCache, image_of, time_mark, timed_frames
from evqa.models.messages import Decoding, ImagePart, Message, Part, Reply, ToolSpec, VideoPart
from evqa.models.sampling import Sampling
from evqa.models.weights import (
    MALFORMED,
    FiniteLogits,
    check_finite,
    check_loaded,
    check_size,
    line_of,
    loading_context,
    tensors_of,
)
from evqa.schema import Usage

Chat = list[dict[str, Any]]

TELLS_TIMES = {"qwen3_vl", "qwen3_vl_moe", "video_llama_3"}
"""Kinds of models whose processors write the time of each frame of a video (transformers' processing_*.py)."""


PIXEL_RANGE = (0.1, 16.0)
"""Least distance between the values that a model is given for white and for black, and the greatest value."""

MAX_PENALTY = 2.0
"""Published checkpoints penalise repetition by 1.0 (not at all) to 1.1."""

TICKS = 1000
"""Frames a second of the video that clips are described as: seconds are exact to a millisecond."""


class ProcessorInputs(NamedTuple):
    """A conversation, ready for the processor."""

    text: str
    images: list[Image.Image]
    videos: list[VideoInput]
    draw: int = 0
    """Number of the sampled reply to the same question: each has noise of its own."""

    def digest(self, seed: int) -> int:
        """A number that follows from a seed, the number of the draw and what is asked of which pictures."""
        pictures = [*self.images, *(frame for shown in self.videos for frame in shown.frames)]
        parts = [f"{self.draw} {self.text}".encode(), *(picture.tobytes() for picture in pictures)]
        return functools.reduce(lambda so_far, part: zlib.crc32(part, so_far), parts, seed)


class VideoInput(NamedTuple):
    """A clip for a video processor."""

    frames: list[Image.Image]
    metadata: dict[str, Any]


class HFChat:
    """A checkpoint that replies, several questions in one pass: `generate` always the same to a question."""

    def __init__(  # noqa: PLR0913  (each is a setting of a row)
        self,
        *,
        name: str,
        frames: FramePolicy,
        checkpoint: str,
        video: Literal["file", "frames"] = "frames",
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 1,
        device_map: str = "auto",
        dtype: str = "auto",
        auto_class: str = "AutoModelForImageTextToText",
        trust_remote_code: bool = False,
    ) -> None:
        """Load a checkpoint.

        Args:
            name: what the model is called in results.
            frames: what it sees of a video; with "file" the model's own processor tells times, where it does.
            checkpoint: a name of the zoo, or a folder.
            video: "frames" = pictures in the text, each after its time; "file" = one video, as the model was trained.
            max_tokens: where a reply is cut.
            temperature: of sampling; 0 = the likeliest token each time.
            seed: of sampling; the same question draws the same (`samples` draws several).
            batch_size: questions in one pass.
            device_map: "auto" = over all GPUs, else the CPU; or a device.
            dtype: "auto" = as the weights are stored.
            auto_class: the class of transformers that loads it.
            trust_remote_code: whether code that comes with the weights may run.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        row = checkpoints.published_row(checkpoint)
        if row is not None and row.runs_code:
            checkpoints.require_trust(checkpoint, folder, trust=trust_remote_code)
        check_folder(folder)
        if video == "file" and importlib.util.find_spec("torchvision") is None:
            raise ValueError("--video file needs torchvision: pip install torchvision, or --video frames")
        self.name = name
        self._policy, self._video, self._max_tokens = frames, video, max_tokens
        self._temperature, self._seed, self._batch_size = temperature, seed, batch_size
        self._processor = _processor(folder, trust=trust_remote_code)
        self._model = load_model(folder, auto_class, device_map, dtype, trust=trust_remote_code)
        states_times = video == "frames" or self._model.config.model_type in TELLS_TIMES
        self.capabilities = Capabilities(
            concurrency=2 * batch_size if batch_size > 1 else 1, is_concurrent=True, frame_times=not states_times
        )
        _check_token(self._processor, self._model, folder)
        _check_pixels(self._processor, self._model.config, folder)
        self._ends = _eos_token_ids(self._model, self._processor.tokenizer, folder)
        self._model.generation_config = _decoding(self._model, folder)
        self._pictures: VideoCache[tuple[TimedFrame, ...]] = VideoCache(
            lambda path: tuple(timed_frames(path, self._policy)), kept=2
        )
        self._batcher: Batcher[ProcessorInputs, Reply] = Batcher(self._replies, batch_size)
        self._identity = {
            "checkpoint": checkpoint,
            "architecture": type(self._model).__name__,
            "weights": checkpoints.fingerprint(folder),
            "revision": checkpoints.installed_revision(folder),
        }

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What decides a reply, apart from the question; the size of a batch moves no more than rounding does."""
        return {
            **self._identity,
            "video": self._video,
            **self._policy.settings(),
            "decoding": f"temperature {self._temperature}, seed {self._seed}" if self._temperature else "greedy",
            "max_tokens": self._max_tokens,
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def frame_times(self, clip: VideoPart) -> Sequence[float]:
        """Seconds of the sampled frames; the prompt states them with `video="file"` where the processor does not."""
        return [picture.second for picture in self._pictures.get(clip.require_no_prompts())]

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """The reply; it is computed together with what other threads ask meanwhile."""
        require_no_call_options(self.name, tools, decoding)
        with self._batcher.preparing():
            prepared = self._prepare(messages)
        return self._batcher.result(prepared)

    def samples(self, messages: Sequence[Message], n: int) -> list[Reply]:
        """`n` sampled replies to one conversation, each with a seed of its own; the first is that of `generate`.

        `ValueError`: `temperature` is 0, so that all would be equal.
        """
        if n < 1:
            raise ValueError(f"n is a number of replies, at least 1, got {n}")
        if n > 1 and not self._temperature:
            raise ValueError(f"{n} replies at temperature 0 would be equal: give a temperature above 0")
        prepared = self._prepare(messages)
        drawn = [prepared._replace(draw=number) for number in range(n)]
        groups = [drawn[start : start + self._batch_size] for start in range(0, n, self._batch_size)]
        return [reply for group in groups for reply in self._replies(group)]

    def _prepare(self, messages: Sequence[Message]) -> ProcessorInputs:
        images: list[Image.Image] = []
        videos: list[VideoInput] = []
        chat: Chat = []
        for message in messages:
            content = [piece for part in message.parts for piece in self._pieces(part, images, videos)]
            chat.append({"role": message.role, "content": content})
        text = self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return ProcessorInputs(text, images, videos)

    def _pieces(self, part: Part, images: list[Image.Image], videos: list[VideoInput]) -> Chat:
        """A part as the template takes it; its pictures are added to the lists in order."""
        if isinstance(part, str):
            return [{"type": "text", "text": part}]
        if isinstance(part, ImagePart):
            images.append(image_of(part, self._policy))
            return [{"type": "image"}]
        if self._video == "file":
            videos.append(self._shown(part))
            return [{"type": "video"}]
        pieces: Chat = []
        for picture in self._pictures.get(part.require_no_prompts()):
            if self._policy.time_marks:
                pieces.append({"type": "text", "text": time_mark(picture.second)})
            pieces.append({"type": "image"})
            images.append(picture.image)
        return pieces

    def _shown(self, clip: VideoPart) -> VideoInput:
        """The clip's frames, with the times that processors write out."""
        video = media.probe_video(clip.require_no_prompts())
        seen = self._pictures.get(clip.path)
        size = {"width": seen[0].image.width, "height": seen[0].image.height}
        metadata = time_metadata([picture.second for picture in seen], video.duration)
        return VideoInput([picture.image for picture in seen], metadata | size)

    def _replies(self, batch: Sequence[ProcessorInputs]) -> list[Reply]:
        try:
            return self._pass(batch)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelError(f"out of memory: fewer or smaller frames need less ({error})") from None
        except MALFORMED as error:
            raise ModelError(f"the model or its processor failed on this question: {line_of(error)}") from error

    def _pass(self, batch: Sequence[ProcessorInputs]) -> list[Reply]:
        start = time.perf_counter()
        inputs = self._inputs(batch)
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            written = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self._max_tokens,
                eos_token_id=self._ends,
                pad_token_id=self._processor.tokenizer.pad_token_id,
                logits_processor=transformers.LogitsProcessorList(self._processors(batch)),
            )
        seconds = round((time.perf_counter() - start) / len(batch), 3)
        counts = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            self._reply(ids, count, seconds) for ids, count in zip(written[:, length:].tolist(), counts, strict=True)
        ]

    def _processors(self, batch: Sequence[ProcessorInputs]) -> list[transformers.LogitsProcessor]:
        """What logits go through: a check, then noise where replies are sampled."""
        if not self._temperature:
            return [FiniteLogits()]
        return [FiniteLogits(), Sampling(self._temperature, [one.digest(self._seed) for one in batch])]

    def _inputs(self, batch: Sequence[ProcessorInputs]) -> Any:
        kinds: dict[str, Any] = {}
        if any(one.images for one in batch):
            kinds["images"] = [one.images for one in batch]
            if _has_tiles(self._processor):
                kinds["crop_to_patches"] = False
        if any(one.videos for one in batch):
            kinds["videos"] = [[shown.frames for shown in one.videos] for one in batch]
            kinds["video_metadata"] = [[shown.metadata for shown in one.videos] for one in batch]
            kinds["do_sample_frames"] = False
        inputs = self._processor(
            text=[one.text for one in batch], padding=True, padding_side="left", return_tensors="pt", **kinds
        )
        return inputs.to(self._model.device, self._model.dtype)

    def _reply(self, ids: list[int], num_read: int, seconds: float) -> Reply:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        text = self._processor.tokenizer.decode(ids[:end], skip_special_tokens=True)
        usage = Usage(input_tokens=num_read, output_tokens=len(ids[:end]), seconds=seconds)
        return Reply(text.strip(), usage=usage, finish="length" if end is None else "stop")


def time_metadata(seconds: Sequence[float], duration: float) -> dict[str, Any]:
    """What transformers' video processors take for the true seconds of frames, however irregular they are.

    A processor computes a frame's second as index / fps (Qwen3-VL, VideoLLaMA3), and the mean rate of the frames that
    it is given as count / total * fps (Qwen2.5-VL: `second_per_grid_ts` = `temporal_patch_size` / rate). So a clip is
    described as a video of `TICKS` frames a second, whose length is the count times the mean distance.

    Args:
        seconds: of the frames, ascending.
        duration: of the clip in seconds.
    """
    count = len(seconds)
    mean = (seconds[-1] - seconds[0]) / (count - 1) if count > 1 else duration
    return {
        "total_num_frames": max(1, round(count * mean * TICKS)),
        "fps": TICKS,
        "duration": duration,
        "frames_indices": [round(second * TICKS) for second in seconds],
    }


def load_model(folder: Path, auto_class: str, device_map: str, dtype: str, *, trust: bool) -> Any:
    """A model of transformers, ready to answer. `ValueError`: it cannot be loaded, or not as it was saved."""
    device = "cpu" if device_map == "auto" and not torch.cuda.is_available() else device_map
    loader: Any = getattr(transformers, auto_class)
    if not trust:  # else code of the checkpoint would run once more
        with loading_context(str(folder / "config.json")):
            untyped: Any = transformers
            config: Any = untyped.AutoConfig.from_pretrained(folder, local_files_only=True)
        check_size(config, loader, folder)
    options = {"device_map": device, "dtype": dtype, "trust_remote_code": trust}
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    options |= {"ignore_mismatched_sizes": True}  # they are named by `check_loaded`
    with loading_context(f"the model in {folder}"):
        model, info = _loaded(loader, folder, options, has_own_code=trust)
    check_loaded(model, info, folder)
    check_finite(tensors_of(model), folder)
    return model.eval()


def check_folder(folder: Path) -> None:
    """A `ValueError` where a checkpoint is not whole, or quantised in a way that transformers passes over."""
    checkpoint_files.check_open(folder)
    given: object = checkpoint_files.read_object(folder / "config.json").get("quantization_config")
    if not given:
        return
    known: Mapping[str, Any] = importlib.import_module("transformers.quantizers.auto").AUTO_QUANTIZATION_CONFIG_MAPPING
    fields = cast("dict[str, Any]", given) if isinstance(given, dict) else dict[str, Any]()
    is_old = any(fields.get(f"load_in_{bits}bit") for bits in (4, 8))  # bitsandbytes before it named its method
    if fields.get("quant_method") not in known and not is_old:
        raise ValueError(
            f"{folder / 'config.json'} has quantization_config {json.dumps(given)[:80]}; transformers loads: "
            f"{', '.join(sorted(known))}: fetch the checkpoint that is not quantised"
        )


def _check_token(processor: Any, model: Any, folder: Path) -> None:
    """A `ValueError` where the token that stands for a picture is none, or another one to the model."""
    if not hasattr(processor, "image_token"):
        return
    token, expected = processor.image_token, getattr(model.config, "image_token_id", None)
    number = processor.tokenizer.get_vocab().get(token)
    if number is None or expected not in (None, number):
        raise ValueError(
            f"the processor in {folder} writes {token!r} (token {number}) for a picture, where the model expects token "
            f"{expected}: copy config.json and the tokenizer's files from one checkpoint"
        )


def _loaded(loader: Any, folder: Path, options: Mapping[str, Any], *, has_own_code: bool) -> Any:
    """(model, loading info), with flash attention where it can run and the architecture supports it."""
    on_gpu = torch.cuda.is_available() and options["device_map"] != "cpu"
    if on_gpu and not has_own_code and options["dtype"] != "float32" and flash_attention_works():
        try:
            model, info = loader.from_pretrained(folder, attn_implementation=FLASH, **options)
        except ValueError as error:
            if "flash" not in str(error).lower():
                raise
        else:
            if model.dtype not in {torch.bfloat16, torch.float16}:
                model.set_attn_implementation(TORCH)
            return model, info
    return loader.from_pretrained(folder, **options)


def _processor(folder: Path, *, trust: bool) -> Any:
    """The model's own processor. `ValueError`: it cannot be loaded."""
    with loading_context(f"the processor in {folder}"):
        processor = _loaded_processor(folder, trust=trust)
        if not callable(getattr(processor, "apply_chat_template", None)) or not hasattr(processor, "tokenizer"):
            raise ValueError(f"{type(processor).__name__} is no processor of pictures and text")
        _check_template(processor)
        return processor


def _check_template(processor: Any) -> None:
    """A `ValueError` where the chat template does not write out what is asked."""
    asked = "evqa: is this written?"
    chat = [{"role": "user", "content": [{"type": "text", "text": asked}]}]
    try:
        text: object = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever the code in a template does
        raise ValueError(f"its chat template cannot be used ({error}): fetch chat_template.jinja again") from error
    if asked not in str(text):
        raise ValueError(
            f"its chat template writes {str(text)[:60]!r} whatever is asked: fetch chat_template.jinja again"
        )


def _check_pixels(processor: Any, config: Any, folder: Path) -> None:
    """A `ValueError` where an image processor gives values that no model is trained on, or patches of another size.

    White is `PIXEL_RANGE` above black, and neither is beyond it.
    """
    images, vision = processor.image_processor, getattr(config, "vision_config", None)
    for name in ("patch_size", "merge_size", "temporal_patch_size"):
        given = getattr(images, name, None)
        expected = getattr(vision, "spatial_merge_size" if name == "merge_size" else name, None)
        if given is not None and isinstance(expected, int) and given != expected:
            raise ValueError(f"the processor in {folder} has {name} {given!r}, the model {expected}: copy both again")
    low, high = PIXEL_RANGE
    with loading_context(f"the processor in {folder}"):
        black, white = (
            images(Image.new("RGB", (64, 64), colour), return_tensors="pt")["pixel_values"].float().mean().item()
            for colour in ("black", "white")
        )
        if not white - black >= low or not max(abs(black), abs(white)) <= high:
            raise ValueError(f"it makes {black:.3g} of black and {white:.3g} of white: its mean, std or scale is wrong")


def _loaded_processor(folder: Path, *, trust: bool) -> Any:
    """The model's own processor; without torchvision the same one without its video part."""
    untyped: Any = transformers
    if importlib.util.find_spec("torchvision") is not None:
        return untyped.AutoProcessor.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    names: Mapping[str, str] = importlib.import_module(
        "transformers.models.auto.processing_auto"
    ).PROCESSOR_MAPPING_NAMES
    tokenizer = untyped.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    images = untyped.AutoImageProcessor.from_pretrained(
        folder, backend="pil", trust_remote_code=trust, local_files_only=True
    )
    kind = checkpoints.model_type(str(folder)) or ""
    name = names.get(kind) or type(images).__name__.removesuffix("Pil")
    base: Any = getattr(untyped, name, None)
    if base is None:
        raise ValueError(f"the processor of {kind!r} in {folder} needs torchvision: pip install torchvision")
    settings, _ = base.get_processor_dict(folder, local_files_only=True)
    kept = {key: value for key, value in settings.items() if key in {"chat_template", "image_seq_length"}}
    return _without_video(base)(image_processor=images, tokenizer=tokenizer, video_processor=None, **kept)


def _without_video(base: Any) -> Any:
    """A processor class that does without a video processor, whose absence its own check refuses."""

    def check(self: Any, name: str, argument: object) -> Any:
        return (
            None
            if name == "video_processor" and argument is None
            else base.check_argument_for_proper_class(self, name, argument)
        )

    return type(base.__name__, (base,), {"check_argument_for_proper_class": check})


def _has_tiles(processor: Any) -> bool:
    """Whether the image processor cuts a large picture into tiles, as InternVL's does; a frame is one tile."""
    return hasattr(processor.image_processor, "crop_to_patches")


def _eos_token_ids(model: Any, tokenizer: Any, folder: Path) -> list[int]:
    """Tokens that end a reply. `ValueError`: those of generation_config.json are none."""
    configured: object = model.generation_config.eos_token_id
    more = cast("list[object]", configured) if isinstance(configured, list) else [configured]
    found = [token for token in (tokenizer.eos_token_id, *more) if token is not None]
    if odd := [token for token in found if type(token) is not int or token < 0]:
        raise ValueError(f"{folder / 'generation_config.json'}: eos_token_id is {odd[0]!r}, expected numbers of tokens")
    return sorted(set(cast("list[int]", found)))


def _decoding(model: Any, folder: Path) -> transformers.GenerationConfig:
    """Greedy decoding with the checkpoint's own penalty of repetition; nothing else of its settings is taken over.

    Beams, guidance or time limits of a generation_config.json would change replies that are recorded as greedy.
    """
    penalty: object = getattr(model.generation_config, "repetition_penalty", None)
    if penalty is not None and (type(penalty) not in (int, float) or not 0 < cast("float", penalty) <= MAX_PENALTY):
        raise ValueError(
            f"{folder / 'generation_config.json'}: repetition_penalty is {penalty!r}, expected a number above 0 and at "
            f"most {MAX_PENALTY}"
        )
    return transformers.GenerationConfig(do_sample=False, repetition_penalty=penalty)
