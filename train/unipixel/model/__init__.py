"""UniPixel: Qwen2.5-VL generates `<|seg|>` tokens, and SAM 2 segments and tracks the objects that they refer to.

The model is `unipixel.model.unipixel.UniPixel`.
"""

from transformers import AutoConfig

from unipixel.model import weight_names
from unipixel.model.config import UniPixelConfig

__all__ = ["UniPixelConfig"]

# transformers looks up configs and names of weights in global tables, so importing this package registers ours
AutoConfig.register(UniPixelConfig.model_type, UniPixelConfig, exist_ok=True)
weight_names.register(tracker_class="MaskTracker", parent_class="UniPixel")
