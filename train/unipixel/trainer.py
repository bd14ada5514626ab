"""transformers' Trainer with what fine-tuning UniPixel needs on top.

That is: learning rates by part, the parts of the loss in the log, samples that do not load, an order of the
data that goes on exactly where it was cut off, and checkpoints that are either complete or not there.

A checkpoint holds weights as safetensors (`adapter_model.safetensors`, `pytorch_model.safetensors`, as
published) and what Trainer needs to go on: optimizer, schedule and random state. Those are torch files;
Trainer reads them with `weights_only=True`, DeepSpeed (--zero) with pickle. Go on from checkpoints of your
own only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from unipixel import run_folder
from unipixel.arguments import parameter_groups
from unipixel.books import Books, loss_parts
from unipixel.configs import LossConfig, SFTConfig
from unipixel.data.collate import IGNORED, Skipped
from unipixel.data.mixture import RunOrder
from unipixel.divergence import Divergence
from unipixel.looks import Looks
from unipixel.model import checkpoints, lora
from unipixel.progress import Progress
from unipixel.sharding import Shards

logger = logging.getLogger(__name__)

LEAST_SKIPPED = 20
"""So many samples may fail before their share counts."""

PUBLISHED = LossConfig()


class SFTTrainer(Trainer):
    """Trains on the order of a whole run as one epoch, so that going on is skipping what came before."""

    def __init__(
        self,
        model: nn.Module,
        *,
        config: SFTConfig,
        order: RunOrder,
        record: run_folder.Record,
        looks: Looks | None = None,
        **kwargs: Any,
    ) -> None:
        watched = None if looks is None else looks.dataset.samples
        super().__init__(model=model, callbacks=[Progress()], eval_dataset=watched, **kwargs)
        self.remove_callback(PrinterCallback)
        self.trained = model
        """The model that nothing is wrapped around."""
        self.config = config
        self.order = order
        self.record = record
        self.looks = looks
        self.model_accepts_loss_kwargs = False  # a pass gives the mean over its own tokens, as published
        self.books = Books(order, config.loop.global_batch)
        self.divergence = Divergence(config.optimizer.max_rise)
        self.shards = Shards(model, self.args) if config.loop.zero == 3 else None

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
            if self.config.loop.zero is None:
                self.optimizer.register_step_pre_hook(fill_gradients)
        assert isinstance(self.optimizer, torch.optim.Optimizer), self.optimizer
        return self.optimizer

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | None = None, **kwargs: Any
    ) -> Any:
        """Trainer's, with the books begun where the run goes on; a run that starts is looked at before it learns."""
        self.args.eval_on_start &= resume_from_checkpoint is None
        if resume_from_checkpoint is None:
            self.books.begin(0)
        else:
            folder = Path(resume_from_checkpoint)
            history = run_folder.history(folder)
            self.books.begin(run_folder.step_of(folder), max((line.get("skipped", 0) for line in history), default=0))
            self.divergence = Divergence(self.config.optimizer.max_rise, history)
        result = super().train(resume_from_checkpoint, **kwargs)
        unset_hf_deepspeed_config()  # what is loaded from here on, one process loads alone
        return result

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass. A batch of which no sample loaded adds nothing to the gradient."""
        if self.shards is not None:
            self.shards.before_pass(self.deepspeed)
        self._count(inputs.pop("skipped"), num_loaded=len(inputs.get("frames", ())))
        if inputs:
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
            weight = difference if name == "lm" else difference * outputs.mask_share
            loss = loss if weight == 0 else loss + weight * part
        self.books.add(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the books tell; stop a run that learns no more."""
        if "loss" in logs:
            step = self.state.global_step
            if (trouble := self.divergence.see(logs, step)) is not None:
                raise FloatingPointError(self._stopped(trouble))
            logs |= self.books.close(self.accelerator, step)
            self._check_skipped()
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """The benchmark's metrics on the samples that are looked at."""
        assert self.looks is not None, "Trainer looks where arguments say so, and they do where there is something"
        with nullcontext() if self.shards is None else self.shards.gathered(self.deepspeed):
            metrics = self.looks.look(lora.bare(self.trained), self.accelerator, self.state.global_step)
        if metrics:
            self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _stopped(self, trouble: str) -> str:
        """What to do about a run that is stopped."""
        out = self.config.out
        good = run_folder.checkpoints(out)
        head = f"stopped at step {self.state.global_step}: the run diverges, {trouble}"
        if not good:
            return f"{head}; there is no checkpoint of before: start again with a lower --lr, or with --bf16 False"
        return (
            f"{head}; the last checkpoint of before is {good[-1]}: start again with a lower --lr in another --out, "
            f"or from its weights (python -m unipixel.convert NEW --base {self.config.weights} --trained {good[-1]})"
        )

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
        if not torch.distributed.is_initialized():
            return torch.zeros((), device=self.args.device)
        model.train()
        ids = torch.zeros(1, 2, dtype=torch.long, device=self.args.device)
        with self.compute_loss_context_manager():
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.full_like(ids, IGNORED)).loss
        self.accelerator.backward(loss)
        return loss.detach()

    def _count(self, skipped: list[Skipped], *, num_loaded: int) -> None:
        self.books.count(skipped=len(skipped), loaded=num_loaded)
        for sample, reason in skipped:
            logger.warning("skipped sample %s: %s", sample, reason)
        if skipped:
            write_skipped(self.config.out / run_folder.SKIPPED, skipped, self.state.global_step)

    def _check_skipped(self) -> None:
        """Stop all processes at once, by what all of them counted, where too many samples do not load."""
        num_skipped, limit = self.books.num_skipped, self.config.data.skip_limit
        num_drawn = num_skipped + self.books.num_loaded
        if num_skipped > max(LEAST_SKIPPED, limit * num_drawn):
            raise ValueError(
                f"{num_skipped} of {num_drawn} samples did not load, more than --skip-limit {limit}; "
                f"see {self.config.out / run_folder.SKIPPED}"
            )

    # Checkpoints

    def _get_output_dir(self, trial: object) -> str:
        """Trainer writes here; `_save_checkpoint` moves what is complete."""
        del trial
        return str(self.config.out / run_folder.PARTIAL)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """A folder that is complete once it has its name. All processes share the file system of the run."""
        if not (torch.isfinite(self._tr_loss).all() and all(map(_is_finite, self.trained.parameters()))):
            raise FloatingPointError(self._stopped("the loss or a weight is not finite"))
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


def fill_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """A weight that no pass of a step used has a gradient of zero, as it has where processes share a step.

    Adam goes on by what it remembers then, and leaves a weight without a gradient alone. Where no weight has one, no
    sample of the step did load, and nothing is learnt.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    unused = [weight for weight in weights if weight.grad is None]
    for weight in unused if len(unused) < len(weights) else ():
        weight.grad = torch.zeros_like(weight)


def write_skipped(path: Path, skipped: list[Skipped], step: int) -> None:
    """Append what was skipped; whole lines, so that processes may share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for sample, reason in skipped:
            file.write(json.dumps({"step": step, "sample": sample, "reason": reason}) + "\n")


def _is_finite(weight: nn.Parameter) -> bool:
    """Of a weight that is trained; of one that ZeRO 3 shards, the part that lies here."""
    return not weight.requires_grad or bool(torch.isfinite(getattr(weight, "ds_tensor", weight)).all())
