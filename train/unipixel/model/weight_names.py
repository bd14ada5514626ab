"""Conversion of published names of weights to names of modules of transformers, and back.

transformers applies the rules when it loads weights and, reversed, when it saves them. A rule is a pair of patterns.
Loading applies the rules from top to bottom, saving from bottom to top with source and target swapped, so a special
rule is below a general rule that would also match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming

_DECODER = "sam2."

PARENT_RULES = (
    (r"^visual", "model.visual"),
    (r"^model(?!\.(language_model|visual))", "model.language_model"),
)
"""Published names of Qwen2.5-VL (`visual.*`, `model.layers.*`) -> names of modules."""

_ROOTS = (
    (r"^image_encoder\.trunk\.", r"^vision_encoder\.backbone\."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"^vision_encoder\.neck\.convs\.\1\."),
    (
        r"^vision_encoder\.backbone\.patch_embed\.proj\.",
        r"^vision_encoder\.backbone\.patch_embed\.projection\.",
    ),
    (r"^sam_mask_decoder\.", r"^mask_decoder\."),
    (r"^sam_prompt_encoder\.", r"^prompt_encoder\."),
    (r"^obj_ptr_proj\.", r"^object_pointer_proj\."),
    (r"^obj_ptr_tpos_proj\.", r"^temporal_positional_encoding_projection_layer\."),
    (r"^maskmem_tpos_enc", r"^memory_temporal_positional_encoding"),
    (r"^no_mem_embed", r"^no_memory_embedding"),
    (r"^no_mem_pos_enc", r"^no_memory_positional_encoding"),
    (r"^no_obj_ptr", r"^no_object_pointer"),
    (r"^no_obj_embed_spatial", r"^occlusion_spatial_embedding_parameter"),
    (r"^memory_encoder\.pix_feat_proj\.", r"^memory_encoder\.feature_projection\."),
    (r"^memory_encoder\.out_proj\.", r"^memory_encoder\.projection\."),
    (r"^memory_encoder\.fuser\.", r"^memory_encoder\.memory_fuser\."),
    (
        r"^memory_encoder\.memory_fuser\.layers\.(\d+)\.weight",
        r"^memory_encoder\.memory_fuser\.layers\.\1\.scale",
    ),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        r"^prompt_encoder\.shared_embedding\.positional_embedding",
    ),
)
_GENERAL = (
    (r"\.dwconv\.", r"\.depthwise_conv\."),
    (r"\.pwconv1\.", r"\.pointwise_conv1\."),
    (r"\.pwconv2\.", r"\.pointwise_conv2\."),
    (r"\.norm\.", r"\.layer_norm\."),
    (r"\.norm1\.", r"\.layer_norm1\."),
    (r"\.norm2\.", r"\.layer_norm2\."),
    (r"\.norm3\.", r"\.layer_norm3\."),
    (r"\.norm4\.", r"\.layer_norm4\."),
    (r"\.norm_final_attn\.", r"\.layer_norm_final_attn\."),
    (r"\.out_proj\.", r"\.o_proj\."),
    (r"\.mlp\.layers\.0\.", r"\.mlp\.proj_in\."),
    (r"\.mlp\.layers\.1\.", r"\.mlp\.proj_out\."),
)
_NUMBERED = {
    r"^memory_encoder\.mask_downsampler": {
        "encoder.0": "layers.0.conv",
        "encoder.1": "layers.0.layer_norm",
        "encoder.3": "layers.1.conv",
        "encoder.4": "layers.1.layer_norm",
        "encoder.6": "layers.2.conv",
        "encoder.7": "layers.2.layer_norm",
        "encoder.9": "layers.3.conv",
        "encoder.10": "layers.3.layer_norm",
        "encoder.12": "final_conv",
    },
    r"^prompt_encoder": {
        "mask_downscaling.0": "mask_embed.conv1",
        "mask_downscaling.1": "mask_embed.layer_norm1",
        "mask_downscaling.3": "mask_embed.conv2",
        "mask_downscaling.4": "mask_embed.layer_norm2",
        "mask_downscaling.6": "mask_embed.conv3",
    },
    r"^mask_decoder": {
        "output_upscaling.0": "upscale_conv1",
        "output_upscaling.1": "upscale_layer_norm",
        "output_upscaling.3": "upscale_conv2",
    },
}
_THREE_LAYERS = {"layers.0": "proj_in", "layers.1": "layers.0", "layers.2": "proj_out"}


def decoder_rules() -> list[tuple[str, str]]:
    """Rules for names below `sam2.`: (published pattern, pattern of transformers)."""
    rules = [*_ROOTS, *_GENERAL]
    for module, names in _NUMBERED.items():
        rules += [_numbered(module, old, new) for old, new in names.items()]
    for module in (
        r"^mask_decoder\.iou_prediction_head",
        r"^mask_decoder\.pred_obj_score_head",
        r"^object_pointer_proj",
    ):
        rules += [_numbered(module, old, new) for old, new in _THREE_LAYERS.items()]
    masks = r"^mask_decoder\.output_hypernetworks_mlps\."
    for old, new in _THREE_LAYERS.items():
        rules.append((rf"{masks}(\d+)\.{_literal(old)}\.", rf"{masks}\1\.{_literal(new)}\."))
    return rules


def published_name(name: str) -> str:
    """Published name of a weight of a module: `sam2.vision_encoder...` -> `sam2.image_encoder...`."""
    if name.startswith(_DECODER):
        reversed_rules = [(_inverse(new, old), _inverse(old, new)) for old, new in reversed(decoder_rules())]
        return _DECODER + _renamed(name.removeprefix(_DECODER), reversed_rules)
    return _renamed(name, [(r"^model\.visual\.", r"visual\."), (r"^model\.language_model\.", r"model\.")])


def module_name(name: str) -> str:
    """Name of the module weight with a published name."""
    if name.startswith(_DECODER):
        return _DECODER + _renamed(name.removeprefix(_DECODER), decoder_rules())
    return _renamed(name, PARENT_RULES)


def register(tracker_class: str, parent_class: str) -> None:
    """Register the rules with transformers, for loading and saving.

    Args:
        tracker_class: name of the class of the mask tracker.
        parent_class: name of the class of the whole model.
    """
    for name, rules in ((tracker_class, decoder_rules()), (parent_class, PARENT_RULES)):
        renamings: list[WeightConverter | WeightRenaming] = [
            WeightRenaming(source_patterns=old, target_patterns=new) for old, new in rules
        ]
        register_checkpoint_conversion_mapping(name, renamings, overwrite=True)


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        name = re.sub(
            old + r"(?!\w)" if old[-1].isalnum() else old,
            new.removeprefix("^").replace(r"\.", "."),
            name,
            count=1,
        )
    return name


def _inverse(pattern: str, counterpart: str) -> str:
    """Inverse of a pattern: a group becomes a reference to it, and a reference a group."""
    return pattern.replace(r"(\d+)", r"\1") if r"\1" in counterpart else pattern.replace(r"\1", r"(\d+)")


def _numbered(module: str, old: str, new: str) -> tuple[str, str]:
    return rf"{module}\.{_literal(old)}\.", rf"{module}\.{_literal(new)}\."


def _literal(name: str) -> str:
    return name.replace(".", r"\.")
