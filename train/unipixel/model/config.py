"""The config of a checkpoint: Qwen2.5-VL's fields, the published extras, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)

ARCHITECTURE = "PixelQwen2_5_VLForConditionalGeneration"
"""The name that published config.json files carry, and that ours carry too."""


@dataclass(frozen=True, kw_only=True)
class DecoderSize:
    """Sizes of a SAM 2.1 decoder; everything else is the same in all of them."""

    embed: int
    """Width of the image encoder's first stage; it doubles at each of the three later ones."""
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    """Indices of the blocks that attend over the whole image instead of windows."""
    background: int = 7
    """Side of the position embedding that is stretched over the image."""
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    hidden: int = 256
    """Width of features, prompts and object pointers."""
    memory: int = 64
    """Width of a remembered frame's features."""
    memory_layers: int = 4
    memory_feed_forward: int = 2048
    dropout: float = 0.1
    """In memory attention, training only."""


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
"""The four published decoders, and one that trains on a CPU (use 128 px)."""


def decoder_size(name: str, changes: Mapping[str, Any] | None = None) -> DecoderSize:
    """The sizes behind a name, "b+" or as published "configs/sam2.1_hiera_b+"; `changes` replace some.

    An unknown name is an error unless `changes` gives every size that has no default.
    """
    known = [field.name for field in fields(DecoderSize)]
    unknown = [changes] if not isinstance(changes or {}, Mapping) else sorted(set(changes or {}) - set(known))
    if unknown:
        raise ValueError(f"unknown decoder sizes {unknown}; known are {known}")
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
    """A `ValueError` where a size of a decoder is none."""
    if name == "dropout":
        is_fine = type(value) in (int, float) and 0 <= cast("float", value) < 1
    elif name in ("blocks", "windows", "global_blocks"):
        numbers = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
        least = 0 if name == "global_blocks" else 1
        is_fine = all(type(one) is int and least <= one <= MAX_WIDTH for one in numbers)
        is_fine = is_fine and (bool(numbers) if name == "global_blocks" else len(numbers) == STAGES)
    else:
        is_fine = type(value) is int and 1 <= value <= MAX_WIDTH
    if not is_fine:
        raise ValueError(f"sizes of a mask decoder: {name} is {value!r}, expected whole numbers from 1 to {MAX_WIDTH}")


class UniPixelConfig(Qwen2_5_VLConfig):
    """Config of a UniPixel checkpoint. What else config.json holds is kept as it is and not used."""

    model_type = "pixel_qwen2_5_vl"

    sam2_config: str = "b+"
    """Name of the mask decoder in `DECODERS`; the published form with folder and prefix works too."""
    sam2_sizes: dict | None = None
    """Sizes that differ from the named decoder's (fields of `DecoderSize`)."""
    sam2_image_size: int = 768
    """Side of the square that the decoder sees, in pixels, a multiple of 32."""
    sam2_hidden_tokens: int = 2
    """Prompt vectors per `<|seg|>`."""
    ref_token_id: int = 151665
    seg_token_id: int = 151666
    mem_token_id: int = 151667
    sample_objects: int = -1
    """Most objects of a sample that one training step tracks, drawn at random; -1 = all."""
    mem_order: str = "window"
    """How the cells of a `<|mem|>` object are looked up: "window" = as released, a slip that hits mostly other
    cells; "raster" = the object's own cells. A checkpoint must be asked as it learnt (see `referring`)."""
    clock: str = "legacy"
    """What the model is told of time: "legacy" = as if all videos had 2 fps, "true" = seconds as temporal positions
    of video tokens, "marked" = that, and the seconds in words behind each video (see `clock`)."""
    clock_horizon: float = 0.0
    """Seconds from a video's start that the clock "true" keeps free of text; 0 = the video's own length."""
    sample_frames: int = 16
    """Frames of a video that the language model sees at inference unless asked otherwise."""
    min_pixels: int = 128 * 28 * 28
    """Fewest pixels of a frame as the language model sees it."""
    max_pixels: int = 256 * 28 * 28
    """Most pixels of a frame as the language model sees it."""

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is not None:  # published files repeat the text config's fields beside it
            kwargs = {key: value for key, value in kwargs.items() if key not in ("rope_scaling", "rope_theta")}
        super().__post_init__(**kwargs)
        if self.clock not in ("legacy", "true", "marked"):
            raise ValueError(f"clock is 'legacy', 'true' or 'marked', got {self.clock!r}")
        if self.mem_order not in ("window", "raster"):
            raise ValueError(f"mem_order is 'window' or 'raster', got {self.mem_order!r}")
        if self.sam2_image_size % 32:
            raise ValueError(f"sam2_image_size is a multiple of 32, got {self.sam2_image_size}")

    @property
    def language(self) -> Qwen2_5_VLTextConfig:
        """The language model's sizes."""
        assert isinstance(self.text_config, Qwen2_5_VLTextConfig), type(self.text_config)
        return self.text_config

    @property
    def vision(self) -> Qwen2_5_VLVisionConfig:
        """The vision tower's sizes."""
        assert isinstance(self.vision_config, Qwen2_5_VLVisionConfig), type(self.vision_config)
        return self.vision_config

    @property
    def mask_decoder(self) -> DecoderSize:
        """The mask decoder's sizes."""
        return decoder_size(self.sam2_config, self.sam2_sizes)

    def to_dict(self) -> dict[str, Any]:
        """As transformers does it, with the published architecture name instead of our class's."""
        return super().to_dict() | {"architectures": [ARCHITECTURE]}
