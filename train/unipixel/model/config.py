"""Config of a checkpoint: the fields of Qwen2.5-VL, the published additions, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)

from unipixel.aliases import STORED_TIME_ENCODINGS, TIME_ENCODINGS

ARCHITECTURE = "PixelQwen2_5_VLForConditionalGeneration"
"""Name of the architecture in published config.json files and in ours."""


@dataclass(frozen=True, kw_only=True)
class DecoderSize:
    """Sizes in which the SAM 2.1 models differ."""

    embed: int
    """Width of the first stage of the image encoder; each of the three later stages doubles it."""
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    """Indices of the blocks with global instead of window attention."""
    background: int = 7
    """Side of the position embedding that is interpolated over the image."""
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    hidden: int = 256
    """Width of features, prompts and object pointers."""
    memory: int = 64
    """Width of memory features."""
    memory_layers: int = 4
    memory_feed_forward: int = 2048
    dropout: float = 0.1
    """Dropout of the memory attention in training."""


MAX_WIDTH, STAGES = 2**14, 4

DECODERS: dict[str, DecoderSize] = {
    "t": DecoderSize(embed=96, heads=1, blocks=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "s": DecoderSize(embed=96, heads=1, blocks=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "b+": DecoderSize(embed=112, heads=2, blocks=(2, 3, 16, 3), global_blocks=(12, 16, 20), background=14),
    "l": DecoderSize(embed=144, heads=2, blocks=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)),
    "tiny": DecoderSize(
        embed=16,
        heads=1,
        blocks=(1, 1, 2, 1),
        global_blocks=(3,),
        hidden=64,
        memory_layers=2,
        memory_feed_forward=128,
        dropout=0.0,
    ),
}
"""The four published SAM 2.1 models, and one that can be trained on a CPU (with 128 px)."""


def decoder_size(name: str, changes: Mapping[str, Any] | None = None) -> DecoderSize:
    """Sizes of a decoder by name, "b+" or as published "configs/sam2.1_hiera_b+".

    Args:
        name: key of `DECODERS`, or any name if `changes` has all sizes without default.
        changes: sizes that differ.

    Raises:
        ValueError: an unknown name or size, or an invalid value.
    """
    known_sizes = [field.name for field in fields(DecoderSize)]
    unknown = [changes] if not isinstance(changes or {}, Mapping) else sorted(set(changes or {}) - set(known_sizes))
    if unknown:
        raise ValueError(f"unknown decoder sizes {unknown}; known are {known_sizes}")
    changes = {key: tuple(v) if isinstance(v, list) else v for key, v in (changes or {}).items()}
    for key, value in changes.items():
        _check_size(key, value)
    short = name.rsplit("/", 1)[-1].removesuffix(".yaml").removeprefix("sam2.1_hiera_")
    if short in DECODERS:
        return replace(DECODERS[short], **changes)
    if {"embed", "heads", "blocks", "global_blocks"} <= set(changes):
        return DecoderSize(**changes)
    raise ValueError(f"unknown mask decoder {name!r}; the decoders are: {', '.join(DECODERS)}")


def _check_size(name: str, value: object) -> None:
    """Check a size of a decoder; a `ValueError` if it is invalid."""
    if name == "dropout":
        is_fine = type(value) in (int, float) and 0 <= cast("float", value) < 1
    elif name in ("blocks", "windows", "global_blocks"):
        numbers = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
        least = 0 if name == "global_blocks" else 1
        is_fine = all(type(number) is int and least <= number <= MAX_WIDTH for number in numbers)
        is_fine = is_fine and (bool(numbers) if name == "global_blocks" else len(numbers) == STAGES)
    else:
        is_fine = type(value) is int and 1 <= value <= MAX_WIDTH
    if not is_fine:
        raise ValueError(f"sizes of a mask decoder: {name} is {value!r}, expected whole numbers from 1 to {MAX_WIDTH}")


class UniPixelConfig(Qwen2_5_VLConfig):
    """Config of a UniPixel checkpoint. Unknown fields of config.json are kept unchanged and not used."""

    model_type = "pixel_qwen2_5_vl"

    sam2_config: str = "b+"
    """Name of SAM 2.1 in `DECODERS`; the published form with folder and prefix is accepted."""
    sam2_sizes: dict | None = None
    """Sizes that differ from those of `DECODERS` (fields of `DecoderSize`)."""
    sam2_image_size: int = 768
    """Side of the square input of SAM 2 in pixels, a multiple of 32."""
    sam2_hidden_tokens: int = 2
    """Number of prompt vectors per `<|seg|>`."""
    ref_token_id: int = 151665
    seg_token_id: int = 151666
    mem_token_id: int = 151667
    sample_objects: int = -1
    """Maximum number of objects per sample that a training step tracks, drawn at random; -1 = all."""
    mem_order: str = "window"
    """Which cells of the vision features a `<|mem|>` object is averaged over: "window" = the released order, a bug that
    selects mostly cells outside the object; "raster" = the cells of the object. Inference must use the order of
    training (see `visual_prompts`)."""
    time_encoding: str = "fixed-2fps"
    """Encoding of frame times for the language model (see `time_positions`): "fixed-2fps" = temporal positions as if
    each video had 2 frames per second, "absolute" = temporal positions by the frame times in seconds, "text" = as
    "absolute", and a line of text with the seconds after each video. config.json stores it as `clock`."""
    clock_horizon: float = 0.0
    """Seconds from a video's start in which no text token is placed, unless `time_encoding` is "fixed-2fps"; 0 = the
    length of the video."""
    sample_frames: int = 16
    """Default number of frames of a video for the language model at inference."""
    min_pixels: int = 128 * 28 * 28
    """Minimum number of pixels of a frame for the language model."""
    max_pixels: int = 256 * 28 * 28
    """Maximum number of pixels of a frame for the language model."""

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is not None:  # published files repeat the text config's fields beside it
            kwargs = {key: value for key, value in kwargs.items() if key not in ("rope_scaling", "rope_theta")}
        if "clock" in kwargs:
            self.time_encoding = _time_encoding(kwargs.pop("clock"))
        super().__post_init__(**kwargs)
        if self.time_encoding not in STORED_TIME_ENCODINGS:
            raise ValueError(
                f"time_encoding is {self.time_encoding!r}, expected one of {', '.join(STORED_TIME_ENCODINGS)}"
            )
        if self.mem_order not in ("window", "raster"):
            raise ValueError(f"mem_order is {self.mem_order!r}, expected 'window' or 'raster'")
        if self.sam2_image_size % 32:
            raise ValueError(f"sam2_image_size is {self.sam2_image_size}, expected a multiple of 32")

    @property
    def language(self) -> Qwen2_5_VLTextConfig:
        """Config of the language model."""
        assert isinstance(self.text_config, Qwen2_5_VLTextConfig), type(self.text_config)
        return self.text_config

    @property
    def vision(self) -> Qwen2_5_VLVisionConfig:
        """Config of the vision tower."""
        assert isinstance(self.vision_config, Qwen2_5_VLVisionConfig), type(self.vision_config)
        return self.vision_config

    @property
    def mask_decoder(self) -> DecoderSize:
        """Sizes of SAM 2.1."""
        return decoder_size(self.sam2_config, self.sam2_sizes)

    @property
    def clock(self) -> str:
        """`time_encoding` as config.json and run.json store it: "legacy", "true" or "marked"."""
        return STORED_TIME_ENCODINGS[self.time_encoding]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json, with the published name of the architecture and of `time_encoding`."""
        settings = super().to_dict()
        settings.pop("time_encoding")
        return settings | {"architectures": [ARCHITECTURE], "clock": self.clock}


def _time_encoding(stored: object) -> str:
    """The `time_encoding` of a value of `clock`."""
    if stored not in TIME_ENCODINGS:
        raise ValueError(f"clock is {stored!r}, expected one of {', '.join(TIME_ENCODINGS)}")
    return TIME_ENCODINGS[str(stored)]
