"""transformers' Trainer with what fine-tuning UniPixel needs on top.

That is: learning rates by part, the parts of the loss in the log, samples that do not load, an order of the
data that goes on exactly where it was cut off, and checkpoints that are either complete or not there.

A checkpoint holds weights as safetensors (`adapter_model.safetensors`, `pytorch_model.safetensors`, as
published) and what Trainer needs to go on: optimizer, schedule and random state. Those are torch files;
Trainer reads them with `weights_only=True`, DeepSpeed (--zero) with pickle. Go on from checkpoints of your
own only.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.integrations.integration_utils import is_tensorboard_available

from evqa import schema
from unipixel import run_folder
from unipixel.configs import LoopConfig, LossConfig, OptimizerConfig, SFTConfig
from unipixel.data.collate import Skipped
from unipixel.data.mixture import RunOrder
from unipixel.model import checkpoints
from unipixel.progress import Progress

logger = logging.getLogger(__name__)

LEAST_SKIPPED = 20
"""So many samples may fail before their share counts."""

PUBLISHED = LossConfig()
PARTS = tuple(vars(PUBLISHED))
"""Names of the loss's parts."""


class SFTTrainer(Trainer):
    """Trains on the order of a whole run as one epoch, so that going on is skipping what came before."""

    def __init__(
        self,
        model: nn.Module,
        *,
        config: SFTConfig,
        order: RunOrder,
        record: run_folder.Record,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, callbacks=[Progress()], **kwargs)
        self.remove_callback(PrinterCallback)
        self.trained = model
        """The model that nothing is wrapped around."""
        self.config = config
        self.order = order
        self.record = record
        self.model_accepts_loss_kwargs = False  # a pass gives the mean over its own tokens, as published
        self._parts: dict[str, list[Tensor]] = defaultdict(list)
        self._clock = (0.0, 0)
        self._num_loaded = 0
        self._num_skipped = 0
        self._last_batch: dict[str, Any] = {}

    def _get_train_sampler(self, train_dataset: object = None) -> RunOrder:  # type: ignore[override]
        del train_dataset
        return self.order

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with the learning rates of the config."""
        if self.optimizer is None:
            model = self.trained if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(parameter_groups(model, self.config.optimizer, decayed), **options)
        assert isinstance(self.optimizer, torch.optim.Optimizer), self.optimizer
        return self.optimizer

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | None = None, **kwargs: Any
    ) -> Any:
        """Trainer's, with the clock of the throughput set."""
        step = run_folder.step_of(Path(resume_from_checkpoint)) if resume_from_checkpoint else 0
        self._clock = (time.perf_counter(), step * self.config.loop.global_batch)
        return super().train(resume_from_checkpoint, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass. A batch of which no sample loaded adds nothing to the gradient."""
        self._count(inputs.pop("skipped"), num_loaded=len(inputs.get("frames", ())))
        if inputs:
            if self.args.world_size > 1:
                self._last_batch = dict(inputs)
            return super().training_step(model, inputs, num_items_in_batch)
        return self._idle_step(model)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  (Trainer's signature)
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum of the parts by the weights of the config; each part is kept for the log."""
        del num_items_in_batch
        outputs = model(**inputs)
        loss = outputs.loss  # of the published weights; what follows is the difference to ours
        for name, part in loss_parts(outputs).items():
            difference = getattr(self.config.loss, name) - getattr(PUBLISHED, name)
            loss = loss if difference == 0 else loss + difference * part
            self._parts[name].append(part.detach())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss, the samples seen and the throughput."""
        if "loss" in logs:
            if not all(map(_is_finite, (logs["loss"], logs.get("grad_norm", 0.0)))):
                raise FloatingPointError(
                    f"the loss or its gradient is not finite at step {self.state.global_step}: {logs}; "
                    f"start again with a lower --lr, or with --bf16 False"
                )
            logs |= self._means() | self._throughput()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Not counted: Trainer's estimate knows neither video tokens nor SAM 2."""
        del inputs
        return 0

    def finish(self) -> None:
        """Wait for the other processes and leave their group."""
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def _idle_step(self, model: nn.Module) -> Tensor:
        """A step that learns nothing but takes part where other processes wait for this one's gradient."""
        if self.args.world_size == 1:
            return torch.zeros((), device=self.args.device)
        if not self._last_batch:
            raise ValueError("not one sample of this process's first batch loaded: see skipped.jsonl")
        with self.compute_loss_context_manager():
            loss = 0.0 * model(**self._prepare_inputs(dict(self._last_batch))).loss
        self.accelerator.backward(loss)
        return loss.detach()

    def _count(self, skipped: list[Skipped], *, num_loaded: int) -> None:
        self._num_loaded += num_loaded
        self._num_skipped += len(skipped)
        for sample, reason in skipped:
            logger.warning("skipped sample %s: %s", sample, reason)
        if not skipped:
            return
        write_skipped(self.config.out / run_folder.SKIPPED, skipped, self.state.global_step)
        share = self._num_skipped / (self._num_skipped + self._num_loaded)
        if share > self.config.data.skip_limit and self._num_skipped > LEAST_SKIPPED:
            raise ValueError(
                f"{self._num_skipped} of {self._num_skipped + self._num_loaded} samples did not load, "
                f"more than --skip-limit {self.config.data.skip_limit}; "
                f"see {self.config.out / run_folder.SKIPPED}"
            )

    # Log

    def _means(self) -> dict[str, float]:
        """Each part's mean since the last log, over all passes of all processes that had it."""
        sums = torch.zeros(len(PARTS), 2, device=self.args.device)  # of values, of passes
        for row, name in zip(sums, PARTS, strict=True):
            if values := self._parts.pop(name, None):
                row[0], row[1] = torch.stack(values).sum(), len(values)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums, reduction="sum")
            assert isinstance(sums, Tensor), sums
        return {
            f"loss_{name}": value / count for name, (value, count) in zip(PARTS, sums.tolist(), strict=True) if count
        }

    def _throughput(self) -> dict[str, float]:
        now, samples = time.perf_counter(), self.state.global_step * self.config.loop.global_batch
        then, samples_then = self._clock
        self._clock = (now, samples)
        rate = (samples - samples_then) / (now - then)
        passes = samples / len(self.order.mixture)
        return {
            "samples": samples,
            "passes": passes,
            "skipped": self._num_skipped,
            "samples_per_second": rate,
        }

    # Checkpoints

    def _get_output_dir(self, trial: object) -> str:
        """Trainer writes here; `_save_checkpoint` moves what is complete."""
        del trial
        return str(self.config.out / run_folder.PARTIAL)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """A folder that is complete once it has its name. All processes share the file system of the run."""
        if not _is_finite(self._tr_loss.item()):
            raise FloatingPointError(f"the loss is not finite at step {self.state.global_step}: nothing is saved")
        super()._save_checkpoint(model, trial)  # type: ignore[arg-type]
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            name = f"checkpoint-{self.state.global_step}"
            partial = self.config.out / run_folder.PARTIAL / name
            run_folder.write_record(partial, self.record)
            run_folder.publish(partial, self.config.out / name)
            run_folder.keep_newest(self.config.out, self.config.loop.keep)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Adapter and other trained weights, by their published names."""
        if self.args.should_save:
            assert output_dir is not None, "every checkpoint has its folder"
            checkpoints.save_trained(self.trained, Path(output_dir), state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoints.load_trained(self.trained if model is None else model, Path(resume_from_checkpoint))


def parameter_groups(model: nn.Module, config: OptimizerConfig, decayed: set[str]) -> list[dict[str, Any]]:
    """Groups by part and decay: adapter, SAM 2's image encoder, the rest of SAM 2, all else; no empty ones.

    Args:
        model: Whose parameters that require a gradient are trained.
        config: Rates and decay.
        decayed: Names of the parameters that decay.
    """
    rates = {
        "lora": config.lr if config.lora_lr is None else config.lora_lr,
        "sam2_encoder": config.sam2_lr if config.sam2_encoder_lr is None else config.sam2_encoder_lr,
        "sam2": config.sam2_lr,
        "base": config.lr,
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
    """The part of the model that a parameter belongs to."""
    path = name.split(".")
    if any(step.startswith("lora_") for step in path):
        return "lora"
    if "sam2" in path:
        return "sam2_encoder" if "vision_encoder" in path else "sam2"
    return "base"


def arguments(config: SFTConfig, *, num_steps: int, processes: int, is_saving: bool = True) -> TrainingArguments:
    """Trainer's arguments for a config."""
    loop, optimizer = config.loop, config.optimizer
    is_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(config.out),
        max_steps=num_steps,
        per_device_train_batch_size=loop.batch,
        gradient_accumulation_steps=config.accumulation(processes),
        learning_rate=optimizer.lr,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        weight_decay=optimizer.weight_decay,
        warmup_steps=config.warmup_steps(num_steps),
        lr_scheduler_type=optimizer.schedule,
        max_grad_norm=optimizer.clip,
        bf16=loop.bf16,
        tf32=None if is_cpu else True,
        activation_checkpointing=loop.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if loop.gradient_checkpointing else None,
        use_cpu=is_cpu,
        ddp_backend="gloo" if is_cpu and processes > 1 else None,
        ddp_find_unused_parameters=False,  # the model gives every trained weight a gradient
        ddp_timeout=1800,
        deepspeed=deepspeed(loop),
        seed=config.seed,
        dataloader_num_workers=loop.num_workers,
        dataloader_pin_memory=not is_cpu,
        remove_unused_columns=False,
        logging_steps=loop.log_steps,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=["tensorboard"] if loop.tensorboard and is_tensorboard_available() else [],
        save_strategy="steps" if is_saving else "no",
        save_steps=loop.save_steps,
    )


def deepspeed(config: LoopConfig) -> dict[str, Any] | None:
    """DeepSpeed's settings for ZeRO 1 or 2, else None. Trainer fills in what is "auto"."""
    if config.zero == 0:
        return None
    zero: dict[str, Any] = {"stage": config.zero, "overlap_comm": True, "contiguous_gradients": True}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
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


def loss_parts(outputs: Any) -> dict[str, Tensor]:
    """The parts of the loss by the names of `LossConfig`; no mask parts where the batch has no masks."""
    parts = {"lm": outputs.lm_loss}
    return parts if outputs.mask_loss is None else parts | outputs.mask_loss._asdict()


def write_skipped(path: Path, skipped: list[Skipped], step: int) -> None:
    """Append what was skipped; whole lines, so that processes may share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for sample, reason in skipped:
            file.write(schema.json.dumps({"step": step, "sample": sample, "reason": reason}) + "\n")


def _is_finite(value: float) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)))
