"""TrainingArguments, DeepSpeed config and parameter groups of an `SFTConfig`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.integrations.integration_utils import is_tensorboard_available

from unipixel.configs import LoopConfig, OptimizerConfig, SFTConfig


def training_arguments(
    config: SFTConfig, *, num_steps: int, processes: int, is_saving: bool = True
) -> TrainingArguments:
    """The arguments of Trainer for a config.

    Args:
        config: the config of the run.
        num_steps: number of optimizer steps.
        processes: number of processes.
        is_saving: whether to write checkpoints and evaluate.
    """
    loop, optimizer = config.loop, config.optimizer
    is_cpu = not torch.cuda.is_available()
    evaluation = config.evaluation if is_saving and config.evaluation.eval_data is not None else None
    return TrainingArguments(
        output_dir=str(config.out),
        run_name=config.out.name,
        max_steps=num_steps,
        per_device_train_batch_size=loop.per_device_batch_size,
        gradient_accumulation_steps=config.accumulation(processes),
        learning_rate=optimizer.learning_rate,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        weight_decay=optimizer.weight_decay,
        warmup_steps=config.warmup_steps(num_steps),
        lr_scheduler_type=optimizer.lr_scheduler,
        max_grad_norm=optimizer.max_grad_norm,
        bf16=loop.bf16,
        tf32=None if is_cpu else True,
        **checkpointing_arguments(is_on=loop.gradient_checkpointing),
        use_cpu=is_cpu,
        ddp_backend="gloo" if is_cpu and processes > 1 else None,
        ddp_find_unused_parameters=False,  # every trained weight has a gradient (`unused_parameters`)
        ddp_timeout=1800,
        deepspeed=deepspeed_config(loop),
        seed=config.seed,
        dataloader_num_workers=loop.num_workers,
        dataloader_pin_memory=not is_cpu,
        remove_unused_columns=False,
        logging_steps=loop.logging_steps,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=report_to(tensorboard=loop.tensorboard, wandb=loop.wandb),
        eval_strategy="no" if evaluation is None else "steps",
        eval_steps=None if evaluation is None else evaluation.eval_steps,
        eval_on_start=evaluation is not None,
        save_strategy="steps" if is_saving else "no",
        save_steps=loop.save_steps,
    )


def checkpointing_arguments(*, is_on: bool) -> dict[str, Any]:
    """Arguments of activation checkpointing, which transformers 5.23 renamed."""
    names = {field.name for field in fields(TrainingArguments)}
    name = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in names)
    return {name: is_on, f"{name}_kwargs": {"use_reentrant": False} if is_on else None}


def report_to(*, tensorboard: bool, wandb: bool) -> list[str]:
    """The loggers of Trainer. `ValueError`: Weights & Biases is not installed."""
    targets = ["tensorboard"] if tensorboard and is_tensorboard_available() else []
    if wandb:
        if find_spec("wandb") is None:
            raise ValueError("--wandb True needs the package wandb: pip install wandb, or omit the option")
        targets.append("wandb")
    return targets


def deepspeed_config(config: LoopConfig) -> dict[str, Any] | None:
    """DeepSpeed config for a ZeRO stage of 0 to 3, or None without DeepSpeed."""
    if config.zero_stage is None:
        return None
    return with_automatic_values(_zero(config.zero_stage) | (_offloaded(config.zero_stage) if config.offload else {}))


def with_automatic_values(zero: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed config with the settings `zero` of ZeRO, in which Trainer sets all values that are "auto"."""
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _zero(stage: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"stage": stage, "overlap_comm": stage < 3, "contiguous_gradients": True}
    if stage < 3:
        return settings
    return settings | {
        "stage3_param_persistence_threshold": 0,  # `unipixel.training.zero3` selects what is sharded
        "stage3_prefetch_bucket_size": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    }


def _offloaded(stage: int) -> dict[str, Any]:
    target = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {"offload_optimizer": target} | ({"offload_param": target} if stage == 3 else {})


def skip_deepspeed_build() -> None:
    """Prevent DeepSpeed from compiling its CPU extension, which is used in inference only.

    A run killed during compilation leaves a lock file on which the next run would hang. DeepSpeed reads
    `__compatible_ops__` before it compiles.
    """
    import deepspeed.ops

    deepspeed.ops.__dict__["__compatible_ops__"] = defaultdict(bool)


def parameter_groups(model: nn.Module, config: OptimizerConfig, decayed: set[str]) -> list[dict[str, Any]]:
    """Parameter groups by part and weight decay: adapter, image encoder of SAM 2, the rest of SAM 2, all others.

    These are the eight groups of the published training without the empty ones (an adapter has no bias).

    Args:
        model: parameters that require a gradient are trained.
        config: learning rates and weight decay.
        decayed: names of the parameters with weight decay.
    """
    rates = {
        "lora": config.learning_rate if config.lora_lr is None else config.lora_lr,
        "sam2_encoder": config.sam2_lr if config.sam2_encoder_lr is None else config.sam2_encoder_lr,
        "sam2": config.sam2_lr,
        "base": config.learning_rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[part_of(name), name in decayed].append(parameter)
    return [
        {"params": parameters, "lr": rates[part], "weight_decay": config.weight_decay if is_decayed else 0.0}
        for (part, is_decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def part_of(name: str) -> str:
    """The part of the model of a parameter: "lora", "sam2_encoder", "sam2" or "base"."""
    path = name.split(".")
    if any(step.startswith("lora_") for step in path):
        return "lora"
    if "sam2" in path:
        return "sam2_encoder" if "vision_encoder" in path else "sam2"
    return "base"
