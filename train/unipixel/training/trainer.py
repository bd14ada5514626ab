"""transformers' Trainer with what fine-tuning UniPixel needs on top.

That is: learning rates by part, a loss that does not depend on how a step is split, its parts in the log, samples
that do not load, an order of the data that goes on exactly where it was cut off, and checkpoints that are either
complete or not there.

A checkpoint holds weights as safetensors (`adapter_model.safetensors`, `pytorch_model.safetensors`, as
published) and what Trainer needs to go on: optimizer, schedule and random state. Those are torch files;
Trainer reads them with `weights_only=True`, DeepSpeed (--zero) with pickle. Go on from checkpoints of your
own only.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainerState, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from evqa.models.weights import MALFORMED, is_finite
from unipixel import integrity
from unipixel.configs import LossConfig, SFTConfig
from unipixel.data.collate import IGNORED, SkippedSample
from unipixel.data.mixture import MixtureSampler
from unipixel.model import checkpoints, lora
from unipixel.training import checkpoint_folder
from unipixel.training.arguments import parameter_groups
from unipixel.training.divergence import DivergenceMonitor
from unipixel.training.evaluation import PeriodicEvaluation
from unipixel.training.log_lines import ProgressCallback
from unipixel.training.statistics import TrainingStatistics, loss_parts
from unipixel.training.zero3 import Zero3Shards

logger = logging.getLogger(__name__)

MAX_DEVIATIONS = 4.0
"""Standard deviations by which the samples that fail may be more than --skip-limit says, until a run is over."""

PUBLISHED = LossConfig()


class SFTTrainer(Trainer):
    """Trains on the order of a whole run as one epoch, so that going on is skipping what came before."""

    def __init__(
        self,
        model: nn.Module,
        *,
        config: SFTConfig,
        order: MixtureSampler,
        record: checkpoint_folder.Record,
        looks: PeriodicEvaluation | None = None,
        **kwargs: Any,
    ) -> None:
        watched = None if looks is None else looks.dataset.samples
        super().__init__(model=model, callbacks=[ProgressCallback()], eval_dataset=watched, **kwargs)
        self.remove_callback(PrinterCallback)
        self.trained = model
        """The model that nothing is wrapped around."""
        self.config = config
        self.order = order
        self.record = record
        self.looks = looks
        self.model_accepts_loss_kwargs = False  # `compute_loss` weighs a pass by its tokens; Trainer divides by passes
        self.books = TrainingStatistics(order, config.loop.global_batch)
        self.divergence = DivergenceMonitor(config.optimizer.max_rise)
        self.shards = Zero3Shards(model, self.args) if config.loop.zero == 3 else None

    def _get_train_sampler(self, train_dataset: object = None) -> MixtureSampler:  # type: ignore[override]
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
            self.books.reset(0)
        else:
            folder = Path(resume_from_checkpoint)
            with state_read_errors(folder):
                TrainerState.load_from_json(str(folder / integrity.STATE))
                history = checkpoint_folder.log_history(folder)
                num_skipped = max((line.get("skipped", 0) for line in history), default=0)
                self.books.reset(checkpoint_folder.step_of(folder), num_skipped)
                self.divergence = DivergenceMonitor(self.config.optimizer.max_rise, history)
        result = super().train(resume_from_checkpoint, **kwargs)
        self._check_skipped(is_over=True)
        unset_hf_deepspeed_config()  # what is loaded from here on, one process loads alone
        return result

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass. A batch of which no sample loaded adds nothing to the gradient."""
        if self.shards is not None:
            self.shards.before_pass(self.deepspeed)
        self._count(inputs.pop("skipped"), num_loaded=_num_samples(inputs))
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
        """The sum of the parts by the weights of the config; each part is kept for the log.

        Trainer takes the mean over the passes of a step, and over processes. With `num_items_in_batch`, the tokens
        that the whole step learns, a pass is therefore weighed by its tokens over the mean number of a pass, and its
        masks by its samples over those that were drawn: the step's loss is the mean over its tokens and samples.
        """
        outputs = model(**inputs)
        tokens, masks = self._pass_weights(inputs, num_items_in_batch)
        loss = outputs.loss  # of the published weights and a step of one pass; what follows is the difference to ours
        for name, part in loss_parts(outputs).items():
            weight, published = getattr(self.config.loss, name), getattr(PUBLISHED, name)
            if name == "lm":
                difference = weight * tokens - published
            else:
                difference = (weight * masks - published) * outputs.mask_share
            loss = loss if isinstance(difference, float) and difference == 0 else loss + difference * part
        self.books.add(outputs, inputs, tokens)
        return (loss, outputs) if return_outputs else loss

    def _pass_weights(self, inputs: Mapping[str, Any], num_tokens: Tensor | int | None) -> tuple[Tensor | float, float]:
        """What a pass's mean over tokens and its mean over samples weigh in the means over the passes of its step."""
        if num_tokens is None:
            return 1.0, 1.0
        num_passes = self.args.gradient_accumulation_steps * self.args.world_size
        return _num_learnt(inputs) * num_passes / num_tokens, _num_samples(inputs) / self.config.loop.batch

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Tokens that a step learns on all processes; None where each pass has a mean of its own (--lm-mean pass)."""
        if self.config.loop.lm_mean == "pass":
            return None
        count = sum((_num_learnt(batch) for batch in batch_samples), start=torch.zeros((), dtype=torch.long))
        count = count.to(device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(count)
        return count.clamp(min=1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the books tell; stop a run that learns no more."""
        if "loss" in logs:
            step = self.state.global_step
            if (trouble := self.divergence.update(logs, step)) is not None:
                raise FloatingPointError(self._stopped(trouble))
            logs |= self.books.log_entries(self.accelerator, step)
            self._check_skipped()
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """The benchmark's metrics on the samples that are looked at."""
        assert self.looks is not None, "Trainer looks where arguments say so, and they do where there is something"
        with nullcontext() if self.shards is None else self.shards.gathered(self.deepspeed):
            metrics = self.looks.evaluate(lora.unwrap(self.trained), self.accelerator, self.state.global_step)
        if metrics:
            self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _stopped(self, trouble: str) -> str:
        """What to do about a run that is stopped."""
        out = self.config.out
        good = checkpoint_folder.checkpoints(out)
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

    def _count(self, skipped: list[SkippedSample], *, num_loaded: int) -> None:
        self.books.count(skipped=len(skipped), loaded=num_loaded)
        for sample, reason in skipped:
            logger.warning("skipped sample %s: %s", sample, reason)
        if skipped:
            write_skipped(self.config.out / checkpoint_folder.SKIPPED, skipped, self.state.global_step)

    def _check_skipped(self, *, is_over: bool = False) -> None:
        """Stop all processes at once, by what all of them counted, where too many samples do not load."""
        num_skipped, limit = self.books.num_skipped, self.config.data.skip_limit
        num_drawn = num_skipped + self.books.num_loaded
        is_end = is_over or self.state.global_step >= self.state.max_steps
        if num_skipped > max_skipped(num_drawn, limit, is_end=is_end):
            raise ValueError(
                f"{num_skipped} of {num_drawn} samples did not load, more than --skip-limit {limit} allows; see "
                f"{self.config.out / checkpoint_folder.SKIPPED}, mend the data or raise the limit; "
                f"{checkpoint_folder.resume_advice(self.config.out)}"
            )

    # Checkpoints

    def _get_output_dir(self, trial: object) -> str:
        """Trainer writes here; `_save_checkpoint` moves what is complete."""
        del trial
        return str(self.config.out / checkpoint_folder.PARTIAL)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """A folder that is complete once it has its name. All processes share the file system of the run."""
        if not (torch.isfinite(self._tr_loss).all() and all(map(_is_finite, self.trained.parameters()))):
            raise FloatingPointError(self._stopped("the loss or a weight is not finite"))
        name = f"checkpoint-{self.state.global_step}"
        partial, final = self.config.out / checkpoint_folder.PARTIAL / name, self.config.out / name
        with checkpoint_folder.write_checkpoint(partial, final):
            super()._save_checkpoint(model, trial)  # type: ignore[arg-type]
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            checkpoint_folder.write_record(partial, self.record)
            with checkpoint_folder.write_checkpoint(partial, final):
                integrity.write_manifest(partial)
                checkpoint_folder.commit_folder(partial, final)
            checkpoint_folder.keep_newest(self.config.out, self.config.loop.keep)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Adapter and other trained weights, by their published names."""
        if self.args.should_save:
            assert output_dir is not None, "every checkpoint has its folder"
            checkpoints.save_trained(self.trained, Path(output_dir), state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoints.load_trained(self.trained if model is None else model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Trainer's, and the learning rates of this run's schedule: the one that was saved may have been shorter."""
        if checkpoint is None:
            return
        with state_read_errors(Path(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)
            if self.config.loop.zero is None:
                check_states(self.optimizer)
        scheduler = self.lr_scheduler
        if not isinstance(scheduler, LambdaLR):
            return
        with state_read_errors(Path(checkpoint)):
            if scheduler.last_epoch != checkpoint_folder.step_of(Path(checkpoint)):
                raise ValueError(f"scheduler.pt is of step {scheduler.last_epoch}")
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
        scheduler._last_lr = list(rates)
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Trainer's, with this run's steps between checkpoints, looks and log lines, not the earlier part's."""
        begun = super()._init_training_state(*args, **kwargs)
        self.state.compute_steps(self.args, self.state.max_steps)
        return begun

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Trainer's; with another number of processes than before, each begins a random state of its own."""
        if checkpoint is None:
            return
        before = checkpoint_folder.read_record(Path(checkpoint))["processes"]
        if before == self.args.world_size:
            with state_read_errors(Path(checkpoint)):
                super()._load_rng_state(checkpoint)
            return
        logger.warning("%d processes go on where %d were: dropout begins anew", self.args.world_size, before)
        entropy = [self.config.seed, checkpoint_folder.step_of(Path(checkpoint)), self.args.process_index]
        set_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.config.loop.zero == 0 and not self.config.loop.bf16:
            record_gradient_norm(self.deepspeed, self.config.optimizer.clip)
        return prepared


@contextmanager
def state_read_errors(checkpoint: Path) -> Generator[None]:
    """While the state of a checkpoint is read: what is no state of this run ends as a `ValueError` of one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except MALFORMED as error:
        # torch's own message advises to unpickle whatever is in the file, so it is not repeated
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise ValueError(
            f"{checkpoint} has a state that training cannot go on from ({reason}): its files are damaged, or of "
            f"another run; copy it again, or remove it: the same command goes on from an earlier one or starts again"
        ) from error


def check_states(optimizer: Any) -> None:
    """A `ValueError` where what an optimizer remembers is not of the shape of its weights; a kernel would crash."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    states = [optimizer.state.get(weight) or {} for weight in weights]
    if not any(states):
        raise ValueError("optimizer.pt holds the state of no weight")
    for weight, state in zip(weights, states, strict=True):
        for name, value in state.items():
            if not isinstance(value, Tensor):
                continue
            if not is_finite(value):
                raise ValueError(f"optimizer.pt has values of {name} that are NaN or infinite")
            if value.ndim and value.shape != weight.shape:
                raise ValueError(f"optimizer.pt has {name} {list(value.shape)} for a weight {list(weight.shape)}")


def record_gradient_norm(engine: Any, clip: float) -> None:
    """Clip the gradient as DeepSpeed does without ZeRO in fp32, and keep its norm, which DeepSpeed drops there."""

    def clip_gradient(*_: object) -> None:
        engine._global_grad_norm = nn.utils.clip_grad_norm_(engine.module.parameters(), clip or math.inf)

    engine.clip_fp32_gradients = lambda: None
    engine.basic_optimizer.register_step_pre_hook(clip_gradient)


def max_skipped(num_drawn: int, limit: float, *, is_end: bool) -> float:
    """How many of the samples drawn may have failed to load at most, where a share `limit` of all may.

    While a run goes on, that share may be exceeded by chance: by `MAX_DEVIATIONS` standard deviations.
    """
    if limit == 0:
        return 0
    if is_end:
        return max(min(1, num_drawn - 1), limit * num_drawn)
    return limit * num_drawn + MAX_DEVIATIONS * math.sqrt(limit * (1 - limit) * num_drawn)


def _num_samples(inputs: Mapping[str, Any]) -> int:
    """Samples of a batch that loaded."""
    return len(inputs.get("frames", ()))


def _num_learnt(inputs: Mapping[str, Any]) -> Tensor:
    """Tokens of a batch that are learnt: all labels but the first of each row, which nothing predicts."""
    labels = inputs.get("labels")
    return torch.zeros((), dtype=torch.long) if labels is None else (labels[:, 1:] != IGNORED).sum()


def fill_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """A weight that no pass of a step used has a gradient of zero, as it has where processes share a step.

    Adam goes on by what it remembers then, and leaves a weight without a gradient alone. Where no weight has one, no
    sample of the step did load, and nothing is learnt.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    unused = [weight for weight in weights if weight.grad is None]
    for weight in unused if len(unused) < len(weights) else ():
        weight.grad = torch.zeros_like(weight)


def write_skipped(path: Path, skipped: list[SkippedSample], step: int) -> None:
    """Append what was skipped; whole lines, so that processes may share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for sample, reason in skipped:
            file.write(json.dumps({"step": step, "sample": sample, "reason": reason}) + "\n")


def _is_finite(weight: nn.Parameter) -> bool:
    """Of a weight that is trained; of one that ZeRO 3 shards, the part that lies here."""
    return not weight.requires_grad or bool(torch.isfinite(getattr(weight, "ds_tensor", weight)).all())
