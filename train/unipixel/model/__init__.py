"""UniPixel: Qwen2.5-VL that writes `<|seg|>` where it means an object, and SAM 2 that draws and tracks it.

`import unipixel.model` makes transformers' AutoConfig know `model_type: pixel_qwen2_5_vl`; the model itself is
in `unipixel.model.unipixel`.
"""

from transformers import AutoConfig

from unipixel.model.config import UniPixelConfig

AutoConfig.register(UniPixelConfig.model_type, UniPixelConfig, exist_ok=True)

__all__ = ["UniPixelConfig"]
