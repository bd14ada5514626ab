"""TRL's GRPOConfig, PEFT's LoraConfig and DeepSpeed config of an `RLConfig`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from unipixel.rl.configs import RLConfig, RLLoopConfig
from unipixel.training.arguments import checkpointing_arguments, report_to, with_automatic_values

if TYPE_CHECKING:
    import peft
    from trl.trainer.grpo_config import GRPOConfig


def grpo_arguments(config: RLConfig, *, processes: int, has_evaluation: bool = False) -> GRPOConfig:
    """The arguments of `GRPOTrainer`.

    Args:
        config: the config of the run.
        processes: number of processes.
        has_evaluation: whether the model is evaluated during training.
    """
    from trl.trainer.grpo_config import GRPOConfig

    loop, grpo, rollout = config.loop, config.grpo, config.rollout
    is_cpu = not torch.cuda.is_available()
    passes, updates = config.passes(processes), grpo.updates_per_step
    return GRPOConfig(
        output_dir=str(config.out),
        run_name=config.out.name,
        max_steps=config.num_updates,
        per_device_train_batch_size=loop.per_device_batch_size,
        gradient_accumulation_steps=passes // updates,
        steps_per_generation=passes,
        num_generations=rollout.group_size,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        max_completion_length=rollout.max_reply_tokens,
        learning_rate=grpo.learning_rate,
        warmup_steps=math.ceil(grpo.warmup_ratio * config.num_updates),
        lr_scheduler_type=grpo.lr_scheduler,
        adam_beta1=grpo.betas[0],
        adam_beta2=grpo.betas[1],
        weight_decay=grpo.weight_decay,
        max_grad_norm=grpo.max_grad_norm,
        beta=grpo.kl,
        epsilon=grpo.clip,
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        reward_weights=[term.weight for term in config.rewards],
        bf16=loop.bf16,
        use_cpu=is_cpu,
        ddp_backend="gloo" if is_cpu and processes > 1 else None,
        ddp_timeout=1800,
        deepspeed=deepspeed_config(loop),
        **checkpointing_arguments(is_on=loop.gradient_checkpointing),
        **_vllm(config),
        seed=config.seed,
        logging_steps=loop.logging_steps * updates,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=report_to(tensorboard=loop.tensorboard, wandb=loop.wandb),
        save_strategy="steps",
        save_steps=loop.save_steps * updates,
        eval_strategy="steps" if has_evaluation else "no",
        eval_steps=loop.eval_steps * updates if has_evaluation else None,
        num_generations_eval=1,
        remove_unused_columns=False,
        dataloader_pin_memory=not is_cpu,
    )


def _vllm(config: RLConfig) -> dict[str, Any]:
    rollout = config.rollout
    if rollout.engine != "vllm":
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": rollout.vllm_memory,
        "vllm_tensor_parallel_size": rollout.vllm_gpus,
        "vllm_max_model_length": rollout.max_prompt_tokens + rollout.max_reply_tokens,
    }


def lora_arguments(config: RLConfig) -> peft.LoraConfig | None:
    """The adapter on all linear layers of the language model; None = all weights are trained."""
    import peft

    if config.lora.rank == 0:
        return None
    return peft.LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def deepspeed_config(config: RLLoopConfig) -> dict[str, Any] | None:
    """DeepSpeed config for a ZeRO stage, or None without DeepSpeed."""
    if config.zero_stage is None:
        return None
    zero: dict[str, Any] = {"stage": config.zero_stage, "overlap_comm": True, "contiguous_gradients": True}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if config.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return with_automatic_values(zero)
