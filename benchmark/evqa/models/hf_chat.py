"""Open models of transformers' "image-text-to-text" class; input: frames of a video, each after its time mark.

torchvision is needed only for `video="file"`, which uses the model's video processor: unlike image processors,
transformers (5.23, `video_processing_utils.py`) has no version of those without torchvision.
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
from evqa.models.base import Capabilities, ModelError, RequestTooLarge
from evqa.models.batching import Batcher
from evqa.models.frame_policy import (
    FramePolicy,
    TimedFrame,
    VideoCache,
    image_of,
    time_mark,
    timed_frames,
    with_time_marks,
)
from evqa.models.messages import Decoding, ImagePart, Message, Part, Reply, ToolSpec, VideoPart
from evqa.models.openai_content import tool_fields
from evqa.models.sampling import ReplyLimits, RowDecoding, Sampling, decoding_name
from evqa.models.tool_dialects import (
    DIALECTS,
    HERMES,
    DialectName,
    template_calls,
    template_writes_calls,
    tool_dialect_settings,
    with_text_calls,
)
from evqa.models.tool_images import (
    ToolImages,
    place_tool_images,
    text_dialect_transport,
    to_dialect_messages,
    tool_image_settings,
)
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
from evqa.schema import Finish, Usage

Chat = list[dict[str, Any]]

TELLS_TIMES = {"qwen3_vl", "qwen3_vl_moe", "video_llama_3"}
"""Model types whose processors write the time of each frame of a video (transformers' processing_*.py)."""


PIXEL_RANGE = (0.1, 16.0)
"""Minimum difference between the normalised values of white and black, and maximum absolute value."""

MAX_PENALTY = 2.0
"""Maximum repetition penalty; published checkpoints have 1.0 (none) to 1.1."""

TICKS = 1000
"""Frame rate of the video metadata for processors; times are exact to a millisecond."""


class ProcessorInputs(NamedTuple):
    """Inputs of the processor for a conversation."""

    text: str
    images: list[Image.Image]
    videos: list[VideoInput]
    decoding: RowDecoding
    has_tools: bool = False
    """Whether the reply may call tools, so that its text is parsed for calls."""
    draw: int = 0
    """Index of the sample for the same conversation; each has its own noise."""

    def noise_seed(self) -> int:
        """Seed of the noise, derived from the decoding seed, the index of the sample, the text and the images."""
        images = [*self.images, *(frame for video in self.videos for frame in video.frames)]
        parts = [f"{self.draw} {self.text}".encode(), *(image.tobytes() for image in images)]
        return functools.reduce(lambda digest, part: zlib.crc32(part, digest), parts, self.decoding.seed)


class VideoInput(NamedTuple):
    """Frames and metadata of a video for a video processor."""

    frames: list[Image.Image]
    metadata: dict[str, Any]


class HFChat:
    """Adapter of a checkpoint, with batches; `generate` is deterministic."""

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
        tool_images: ToolImages = "auto",
        tool_dialect: DialectName = "hermes",
    ) -> None:
        """Load a checkpoint.

        Args:
            name: name of the model in results.
            frames: frame sampling; with `video="file"` some processors write the frame times themselves.
            checkpoint: checkpoint name or folder.
            video: "frames" = images in the text, each after its time mark; "file" = one video, as in training.
            max_tokens: maximum number of tokens of a response.
            temperature: sampling temperature; 0 = greedy decoding.
            seed: seed of sampling; equal conversations get equal replies (`samples` draws several).
            batch_size: number of conversations per forward pass.
            device_map: "auto" = all GPUs, or the CPU without a GPU; or a device.
            dtype: data type of the weights; "auto" = as stored.
            auto_class: transformers class that loads the model.
            trust_remote_code: whether the code of the checkpoint may run.
            tool_images: transport of images in tool results, "user" or "text"; "auto" = "user".
            tool_dialect: text format of tool calls that the checkpoint was trained on.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        row = checkpoints.published_row(checkpoint)
        if row is not None and row.runs_code:
            checkpoints.require_trust(checkpoint, folder, trust=trust_remote_code)
        check_folder(folder)
        if video == "file" and importlib.util.find_spec("torchvision") is None:
            raise ValueError("--video file needs torchvision: pip install torchvision, or --video frames")
        self.name = name
        self._policy, self._video, self._batch_size = frames, video, batch_size
        self._default = RowDecoding(temperature, seed, max_tokens)
        self._dialect = DIALECTS[tool_dialect]
        self._processor = _processor(folder, trust=trust_remote_code)
        self._model = load_model(folder, auto_class, device_map, dtype, trust=trust_remote_code)
        states_times = video == "frames" or self._model.config.model_type in TELLS_TIMES
        self.capabilities = Capabilities(
            concurrency=2 * batch_size if batch_size > 1 else 1,
            is_concurrent=True,
            tools="text",
            tool_dialect=tool_dialect,
            tool_images=text_dialect_transport(name, tool_images),
            videos=None,
            frame_times=not states_times,
        )
        _check_token(self._processor, self._model, folder)
        _check_pixels(self._processor, self._model.config, folder)
        self._eos_ids = eos_token_ids(self._model, self._processor.tokenizer, folder)
        self._model.generation_config = greedy_decoding(self._model, folder)
        self._frames: VideoCache[tuple[TimedFrame, ...]] = VideoCache(
            lambda path: tuple(timed_frames(path, self._policy)), capacity=2
        )
        self._batcher: Batcher[ProcessorInputs, Reply] = Batcher(self._replies, batch_size, Reply.after)
        self._identity = {
            "checkpoint": checkpoint,
            "architecture": type(self._model).__name__,
            "weights": checkpoints.fingerprint(folder),
            "revision": checkpoints.installed_revision(folder),
            **tool_image_settings(tool_images),
            **tool_dialect_settings(tool_dialect),
        }

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings that determine a reply, apart from the prompt; the batch size changes rounding only."""
        return {
            **self._identity,
            "video": self._video,
            **self._policy.settings(),
            "decoding": decoding_name(self._default),
            "max_tokens": self._default.max_tokens,
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def frame_times(self, clip: VideoPart) -> Sequence[float]:
        """Frame times in seconds that the prompt has to state: with `video="file"` if the processor does not."""
        return [frame.second for frame in self._frames.get(clip.require_no_prompts())]

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Generate the reply, in one batch with those that other threads request at the same time.

        The chat template renders the tools if it and the model use the dialect `hermes`; otherwise they are written as
        text.
        """
        with self._batcher.preparing():
            prepared = self._prepare(messages, tools, decoding)
        return self._batcher.result(prepared)

    def samples(self, messages: Sequence[Message], n: int) -> list[Reply]:
        """Sample `n` replies to one conversation, each with its own seed; the first equals that of `generate`.

        `ValueError`: `temperature` is 0, so that all would be equal.
        """
        if n < 1:
            raise ValueError(f"n is a number of replies, at least 1, got {n}")
        if n > 1 and not self._default.temperature:
            raise ValueError(f"{n} replies at temperature 0 would be equal: give a temperature above 0")
        prepared = self._prepare(messages)
        draws = [prepared._replace(draw=number) for number in range(n)]
        groups = [draws[start : start + self._batch_size] for start in range(0, n, self._batch_size)]
        return [reply for group in groups for reply in self._replies(group)]

    def _prepare(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> ProcessorInputs:
        images: list[Image.Image] = []
        videos: list[VideoInput] = []
        options: dict[str, Any] = {}
        if not any(message.calls or message.role == "tool" for message in messages) and not tools:
            conversation = list(messages)
        elif self._template_writes_calls:
            conversation = place_tool_images(messages, self.capabilities.tool_images)
            options = {"tools": tool_fields(tools)} if tools else {}
        else:
            conversation = to_dialect_messages(messages, tools, self.capabilities.tool_images, self._dialect)
        chat: Chat = []
        for message in conversation:
            content = [piece for part in with_time_marks(message.parts) for piece in self._pieces(part, images, videos)]
            chat.append({"role": message.role, "content": content} | template_calls(message))
        text = self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
        return ProcessorInputs(text, images, videos, self._default.updated(decoding), has_tools=bool(tools))

    @functools.cached_property
    def _template_writes_calls(self) -> bool:
        return self._dialect is HERMES and template_writes_calls(
            lambda chat, tools: str(self._processor.apply_chat_template(chat, tokenize=False, tools=tools))
        )

    def _pieces(self, part: Part, images: list[Image.Image], videos: list[VideoInput]) -> Chat:
        """Part of a message for the chat template; its images are appended to the lists in order."""
        if isinstance(part, str):
            return [{"type": "text", "text": part}]
        if isinstance(part, ImagePart):
            images.append(image_of(part, self._policy))
            return [{"type": "image"}]
        if self._video == "file":
            videos.append(self._video_input(part))
            return [{"type": "video"}]
        pieces: Chat = []
        for frame in self._frames.get(part.require_no_prompts()):
            if self._policy.time_marks:
                pieces.append({"type": "text", "text": time_mark(frame.second)})
            pieces.append({"type": "image"})
            images.append(frame.image)
        return pieces

    def _video_input(self, part: VideoPart) -> VideoInput:
        """Frames of a video, with metadata for the frame times."""
        video = media.probe_video(part.require_no_prompts())
        frames = self._frames.get(part.path)
        size = {"width": frames[0].image.width, "height": frames[0].image.height}
        metadata = time_metadata([frame.second for frame in frames], video.duration)
        return VideoInput([frame.image for frame in frames], metadata | size)

    def _replies(self, batch: Sequence[ProcessorInputs]) -> list[Reply]:
        try:
            return self._pass(batch)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise RequestTooLarge(f"out of memory: fewer or smaller frames need less ({error})") from None
        except MALFORMED as error:
            raise ModelError(f"the model or its processor failed on this question: {line_of(error)}") from error

    def _pass(self, batch: Sequence[ProcessorInputs]) -> list[Reply]:
        start = time.perf_counter()
        inputs = self._inputs(batch)
        length = inputs["input_ids"].shape[1]
        rows = [prepared.decoding for prepared in batch]
        limits = ReplyLimits(rows, length, self._decode)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=max(row.max_tokens for row in rows),
                eos_token_id=self._eos_ids,
                pad_token_id=self._processor.tokenizer.pad_token_id,
                logits_processor=transformers.LogitsProcessorList(logits_processors(batch)),
                stopping_criteria=transformers.StoppingCriteriaList([limits]),
            )
        seconds = round((time.perf_counter() - start) / len(batch), 3)
        counts = inputs["attention_mask"].sum(dim=1).tolist()
        replies = [ids[:count] for ids, count in zip(output[:, length:].tolist(), limits.lengths, strict=True)]
        return [self._reply(*row, seconds) for row in zip(batch, replies, counts, strict=True)]

    def _inputs(self, batch: Sequence[ProcessorInputs]) -> Any:
        kinds: dict[str, Any] = {}
        if any(prepared.images for prepared in batch):
            kinds["images"] = [prepared.images for prepared in batch]
            if _has_tiles(self._processor):
                kinds["crop_to_patches"] = False
        if any(prepared.videos for prepared in batch):
            kinds["videos"] = [[video.frames for video in prepared.videos] for prepared in batch]
            kinds["video_metadata"] = [[video.metadata for video in prepared.videos] for prepared in batch]
            kinds["do_sample_frames"] = False
        texts = [prepared.text for prepared in batch]
        inputs = self._processor(text=texts, padding=True, padding_side="left", return_tensors="pt", **kinds)
        return inputs.to(self._model.device, self._model.dtype)

    def _decode(self, ids: list[int]) -> str:
        return str(self._processor.tokenizer.decode(ids, skip_special_tokens=True))

    def _reply(self, prepared: ProcessorInputs, ids: list[int], num_inputs: int, seconds: float) -> Reply:
        end = next((place for place, token in enumerate(ids) if token in self._eos_ids), None)
        full_text = self._decode(ids[:end])
        text = prepared.decoding.before_stop(full_text)
        usage = Usage(input_tokens=num_inputs, output_tokens=len(ids[:end]), seconds=seconds)
        finish: Finish = "length" if end is None and text == full_text else "stop"
        if not prepared.has_tools:
            return Reply(text.strip(), usage=usage, finish=finish)
        return with_text_calls(Reply(text, usage=usage, finish=finish), self._dialect)


def logits_processors(batch: Sequence[ProcessorInputs]) -> list[transformers.LogitsProcessor]:
    """Logits processors: the check for finite values, then noise if a reply is sampled."""
    rows = [prepared.decoding for prepared in batch]
    if not any(row.temperature for row in rows):
        return [FiniteLogits()]
    return [FiniteLogits(), Sampling(rows, [prepared.noise_seed() for prepared in batch])]


def time_metadata(seconds: Sequence[float], duration: float) -> dict[str, Any]:
    """Video metadata with which transformers' processors use the true frame times, regular or not.

    A processor computes a frame time as index / fps (Qwen3-VL, VideoLLaMA3), and the mean rate of the frames as count /
    total * fps (Qwen2.5-VL: `second_per_grid_ts` = `temporal_patch_size` / rate). The metadata thus describe a video of
    `TICKS` frames per second, whose length is the number of frames times their mean distance.

    Args:
        seconds: frame times in seconds, ascending.
        duration: duration of the video in seconds.
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
    """Load a transformers model for inference. `ValueError`: it cannot be loaded, or differs from the saved one."""
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
    """Raise a `ValueError` if a checkpoint is incomplete, or quantised by a method unknown to transformers."""
    checkpoint_files.check_open(folder)
    quantization: object = checkpoint_files.read_object(folder / "config.json").get("quantization_config")
    if not quantization:
        return
    methods: Mapping[str, Any] = importlib.import_module(
        "transformers.quantizers.auto"
    ).AUTO_QUANTIZATION_CONFIG_MAPPING
    fields = cast("dict[str, Any]", quantization) if isinstance(quantization, dict) else dict[str, Any]()
    is_old = any(fields.get(f"load_in_{bits}bit") for bits in (4, 8))  # bitsandbytes before it named its method
    if fields.get("quant_method") not in methods and not is_old:
        raise ValueError(
            f"{folder / 'config.json'} has quantization_config {json.dumps(quantization)[:80]}; transformers loads: "
            f"{', '.join(sorted(methods))}: fetch the checkpoint that is not quantised"
        )


def _check_token(processor: Any, model: Any, folder: Path) -> None:
    """Raise a `ValueError` if the image token is missing, or differs from that of the model."""
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
    """(model, loading info); with flash attention if it can run and the architecture supports it."""
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
    """Load the processor of the model. `ValueError`: it cannot be loaded."""
    with loading_context(f"the processor in {folder}"):
        processor = _loaded_processor(folder, trust=trust)
        if not callable(getattr(processor, "apply_chat_template", None)) or not hasattr(processor, "tokenizer"):
            raise ValueError(f"{type(processor).__name__} is no processor of pictures and text")
        _check_template(processor)
        return processor


def _check_template(processor: Any) -> None:
    """Raise a `ValueError` if the chat template does not render the prompt."""
    prompt = "evqa: is this written?"
    chat = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    try:
        text: object = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever the code in a template does
        raise ValueError(f"its chat template cannot be used ({error}): fetch chat_template.jinja again") from error
    if prompt not in str(text):
        raise ValueError(
            f"its chat template writes {str(text)[:60]!r} whatever is asked: fetch chat_template.jinja again"
        )


def _check_pixels(processor: Any, config: Any, folder: Path) -> None:
    """Raise a `ValueError` for an image processor with implausible normalisation, or another patch size than the model.

    White minus black is at least the first value of `PIXEL_RANGE`; no absolute value exceeds the second.
    """
    images, vision = processor.image_processor, getattr(config, "vision_config", None)
    for name in ("patch_size", "merge_size", "temporal_patch_size"):
        value = getattr(images, name, None)
        expected = getattr(vision, "spatial_merge_size" if name == "merge_size" else name, None)
        if value is not None and isinstance(expected, int) and value != expected:
            raise ValueError(f"the processor in {folder} has {name} {value!r}, the model {expected}: copy both again")
    low, high = PIXEL_RANGE
    with loading_context(f"the processor in {folder}"):
        black, white = (
            images(Image.new("RGB", (64, 64), colour), return_tensors="pt")["pixel_values"].float().mean().item()
            for colour in ("black", "white")
        )
        if not white - black >= low or not max(abs(black), abs(white)) <= high:
            raise ValueError(f"it makes {black:.3g} of black and {white:.3g} of white: its mean, std or scale is wrong")


def _loaded_processor(folder: Path, *, trust: bool) -> Any:
    """Processor of the model; without torchvision its video processor is left out."""
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
    options = {key: value for key, value in settings.items() if key in {"chat_template", "image_seq_length"}}
    return _without_video(base)(image_processor=images, tokenizer=tokenizer, video_processor=None, **options)


def _without_video(base: Any) -> Any:
    """Processor class that allows a missing video processor, unlike its base class."""

    def check(self: Any, name: str, argument: object) -> Any:
        return (
            None
            if name == "video_processor" and argument is None
            else base.check_argument_for_proper_class(self, name, argument)
        )

    return type(base.__name__, (base,), {"check_argument_for_proper_class": check})


def _has_tiles(processor: Any) -> bool:
    """Whether the image processor cuts a large image into tiles, as that of InternVL; a frame is one tile."""
    return hasattr(processor.image_processor, "crop_to_patches")


def eos_token_ids(model: Any, tokenizer: Any, folder: Path) -> list[int]:
    """Token ids that end a reply. `ValueError`: generation_config.json has an invalid `eos_token_id`."""
    configured: object = model.generation_config.eos_token_id
    more = cast("list[object]", configured) if isinstance(configured, list) else [configured]
    token_ids = [token for token in (tokenizer.eos_token_id, *more) if token is not None]
    if odd := [token for token in token_ids if type(token) is not int or token < 0]:
        raise ValueError(f"{folder / 'generation_config.json'}: eos_token_id is {odd[0]!r}, expected numbers of tokens")
    return sorted(set(cast("list[int]", token_ids)))


def greedy_decoding(model: Any, folder: Path) -> transformers.GenerationConfig:
    """Greedy decoding with the repetition penalty of the checkpoint; its other generation settings are ignored.

    Beams, guidance or time limits of a generation_config.json would change replies that are recorded as greedy.
    """
    penalty: object = getattr(model.generation_config, "repetition_penalty", None)
    if penalty is not None and (type(penalty) not in (int, float) or not 0 < cast("float", penalty) <= MAX_PENALTY):
        raise ValueError(
            f"{folder / 'generation_config.json'}: repetition_penalty is {penalty!r}, expected a number above 0 and at "
            f"most {MAX_PENALTY}"
        )
    return transformers.GenerationConfig(do_sample=False, repetition_penalty=penalty)
