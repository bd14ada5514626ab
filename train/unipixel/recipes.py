"""Recipes: functions (size, decoder) -> config, whose fields the command line can replace.

The published recipes are the fine-tuning of UniPixel in ST-Evidence (`scripts/sft.sh` there) and the three stages of
the training of UniPixel from a plain Qwen2.5-VL and SAM 2.1 (`launch_3b.sh`, `launch_7b.sh` there).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evqa import suggestions
from evqa.files import roots
from unipixel.configs import (
    SIZES,
    DataConfig,
    EvaluationConfig,
    EvidenceConfig,
    LoopConfig,
    LoraConfig,
    LossConfig,
    OptimizerConfig,
    PolicyConfig,
    SFTConfig,
)

Datasets = tuple[tuple[str, float], ...]


def st_evidence(size: str, decoder: str) -> SFTConfig:
    """The published mixture and hyper-parameters of ST-Evidence, with time_encoding "absolute"."""
    datasets = (
        ("st-evidence-instruct", 2.0),
        ("st-evidence-instruct-qa", 2.0),
        ("revos", 5.0),
        ("mevis", 5.0),
        ("lvvis", 3.0),
        ("ref-youtube-vos", 5.0),
        ("ref-davis17", 10.0),
        ("ref-sav", 3.0),
        ("groundmore", 3.0),
        ("vicas", 3.0),
        ("llava-instruct", 1.0),
    )
    return _published("st-evidence", size, decoder, datasets, evaluation=EvaluationConfig(benchmark="st-evidence-gen"))


def evidence_only(size: str, decoder: str) -> SFTConfig:
    """The published hyper-parameters on the generated masks of ST-Evidence-Instruct alone."""
    datasets = (("st-evidence-instruct", 2.0),)
    return _published(
        "evidence-only", size, decoder, datasets, evaluation=EvaluationConfig(benchmark="st-evidence-gen")
    )


def stage_1(size: str, decoder: str) -> SFTConfig:
    """First stage of UniPixel: trains the projections of visual prompts on captions, without masks."""
    datasets = (("videorefer-short-caption", 1.0), ("inst-it-image", 1.0))
    return _stage("stage-1", size, decoder, datasets, _new(size), "ref")


def stage_2(size: str, decoder: str) -> SFTConfig:
    """Second stage of UniPixel: trains the mask prompt head; SAM 2 is frozen."""
    datasets = (
        *((name, 5.0) for name in ("refcoco", "refcoco+", "refcocog", "refclef")),
        ("ref-youtube-vos", 3.0),
    )
    return _stage("stage-2", size, decoder, datasets, str(_folder("stage-1", size, decoder) / "model"), "seg")


def stage_3(size: str, decoder: str) -> SFTConfig:
    """Third stage of UniPixel: joint training with an adapter on 27 data sets."""
    datasets = (
        ("revos", 5.0),
        ("mevis", 5.0),
        ("lvvis", 3.0),
        ("ref-youtube-vos", 5.0),
        ("ref-davis17", 10.0),
        *((name, 3.0) for name in ("ref-sav", "groundmore", "vicas")),
        ("reason-seg", 10.0),
        *((name, 3.0) for name in ("ade20k", "cocostuff", "mapillary", "paco-lvis", "pascal-part")),
        *((name, 10.0) for name in ("refcoco", "refcoco+", "refcocog", "refclef")),
        *((name, 5.0) for name in ("videorefer-detailed-caption", "videorefer-qa", "inst-it-video-qa")),
        *((f"osprey-{name}", 5.0) for name in ("conversation", "detail-description", "pos-neg")),
        *((name, 3.0) for name in ("videorefer-qa-mem", "inst-it-video-qa-mem")),
        ("llava-instruct", 1.0),
    )
    return _published(
        "stage-3",
        size,
        decoder,
        datasets,
        weights=str(_folder("stage-2", size, decoder) / "model"),
        loop=LoopConfig(per_device_batch_size=1, zero_stage=2, offload=size == "7b", save_steps=1000),
    )


def tiny(size: str, decoder: str) -> SFTConfig:
    """A few minutes on a CPU, on the synthetic world.

    Only words are trained, by an adapter of the language model and the token embedding: the base model segments what
    its `<|seg|>` states name, and a mask loss through the adapter made them name the wrong object more often
    (docs/tiny_model.md).
    """
    return SFTConfig(
        size=size,
        decoder=decoder,
        recipe="tiny",
        weights=_start(size),
        trainable=("embedding",),
        out=_folder("tiny", size, decoder),
        data=DataConfig(
            datasets=(("shapes-train", 1.0),),
            num_frames=32,
            mask_frames=2,
            evidence_frames="all",
            min_pixels=84 * 84 // 2,
            max_pixels=84 * 84,
            random_prompts=False,
            group_by="none",
        ),
        lora=LoraConfig(rank=32, alpha=64.0, dropout=0.0, scope="qkvo_llm"),
        optimizer=OptimizerConfig(learning_rate=5e-5, lora_lr=1e-3, sam2_lr=1e-5, weight_decay=0.01, betas=(0.9, 0.98)),
        loss=LossConfig(focal=0.0, dice=0.0, iou=0.0, objectness=0.0),
        loop=LoopConfig(
            per_device_batch_size=8,
            global_batch=8,
            max_steps=500,
            bf16=False,
            gradient_checkpointing=False,
            num_workers=1,
            num_threads=1,
            save_steps=50,
        ),
        evaluation=EvaluationConfig(eval_data="shapes-val", eval_steps=250, eval_samples=16, benchmark="shapes-test"),
    )


def evidence_rl(size: str, decoder: str) -> EvidenceConfig:
    """GRPO with rewards for answer, time and masks, from the model of the size's recipe of fine-tuning."""
    start = build_recipe(default_recipe(size), size, decoder)
    is_tiny = size == "tiny"
    return EvidenceConfig(
        size=size,
        decoder=decoder,
        recipe="evidence-rl",
        weights=str(start.out / "model"),
        out=_folder("evidence-rl", size, decoder),
        trainable=(),
        data=start.data if is_tiny else DataConfig(datasets=(("st-evidence-instruct", 2.0),), mask_frames=4),
        lora=LoraConfig(rank=32, alpha=64.0, dropout=0.0, scope="qkvo_llm")
        if is_tiny
        else LoraConfig(dropout=0.0, scope="qkvo_llm"),
        optimizer=OptimizerConfig(
            learning_rate=1e-3 if is_tiny else 2e-5, betas=(0.9, 0.98), warmup_ratio=0.05, divergence_factor=0.0
        ),
        loss=LossConfig(lm=0.2, focal=0.0, dice=0.0, iou=0.0, objectness=0.0),
        loop=replace(start.loop, max_steps=60)
        if is_tiny
        else LoopConfig(
            per_device_batch_size=1, max_steps=400, gradient_checkpointing=False, zero_stage=2, save_steps=50
        ),
        evaluation=start.evaluation,
        policy=PolicyConfig(max_reply_tokens=48 if is_tiny else 128),
    )


Recipe = Callable[[str, str], SFTConfig]

RECIPES: dict[str, Recipe] = {
    "st-evidence": st_evidence,
    "evidence-only": evidence_only,
    "stage-1": stage_1,
    "stage-2": stage_2,
    "stage-3": stage_3,
    "tiny": tiny,
    "evidence-rl": evidence_rl,
}
"""Recipes by name."""


def build_recipe(name: str, size: str, decoder: str) -> SFTConfig:
    """The config of a recipe.

    Raises:
        ValueError: an unknown name, size or decoder.
    """
    if name not in RECIPES:
        raise suggestions.unknown_name_message("recipe", name, RECIPES)
    return RECIPES[name](size, decoder)


def default_recipe(size: str) -> str:
    """The default recipe of a size."""
    return "tiny" if size == "tiny" else "st-evidence"


def _published(name: str, size: str, decoder: str, datasets: Datasets, **changes: Any) -> SFTConfig:
    """A config with published values, which are the defaults of the fields."""
    fields: dict[str, Any] = {
        "weights": _start(size),
        "out": _folder(name, size, decoder),
        "data": DataConfig(datasets=datasets),
    }
    return SFTConfig(size=size, decoder=decoder, recipe=name, **fields | changes)


def _stage(name: str, size: str, decoder: str, datasets: Datasets, weights: str, module: str) -> SFTConfig:
    """A config of the first two stages: one trained part, a high learning rate, large batches."""
    return _published(
        name,
        size,
        decoder,
        datasets,
        weights=weights,
        trainable=(module,),
        lora=LoraConfig(rank=0),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        loop=LoopConfig(per_device_batch_size=1, global_batch=256, zero_stage=2, save_steps=1000),
    )


def _folder(name: str, size: str, decoder: str) -> Path:
    return roots.outputs("sft", f"{name}-{size}-{decoder}")


def _start(size: str) -> str:
    if size not in SIZES:
        raise suggestions.unknown_name_message("size", size, SIZES)
    return SIZES[size]


def _new(size: str) -> str:
    """A model created by `unipixel.convert` from a plain Qwen2.5-VL and SAM 2.1."""
    return _start(size) if size == "tiny" else f"model_zoo/new-{size}"
