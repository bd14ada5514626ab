"""What ZeRO 3 shards of a UniPixel, where each process has batches of its own kind.

DeepSpeed gathers a weight when a module that holds it is called, all processes together, so every process has to call
modules with sharded weights in one order. Language model and vision tower are called once a pass on every process
(`model.company`), whatever its batch holds; how often SAM 2 and the heads are depends on frames, objects and marks.
Sharded are therefore the frozen and trained matrices of the former; all else is gathered before a pass and stays whole
until the optimizer's step. Two habits of DeepSpeed (0.19, `runtime/zero/partitioned_param_coordinator.py`) are in the
way, and `Shards.before_pass` sees to both:

- it shards a weight again when its module returns, those below its persistence threshold too while it still records the
  order of modules: only a weight that a module is using stays, and what is kept whole here is in use by a module of
  no number;
- it compares that order between processes, and fetches ahead by it: the record is thrown away before each pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import TrainingArguments
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from unipixel.model import lora

SHARDED = ("model.", "lm_head.")
"""How the names of language model and vision tower begin."""

NO_MODULE = -1
"""DeepSpeed numbers modules from 0."""


def is_sharded(name: str, weight: nn.Parameter) -> bool:
    """Whether ZeRO 3 shards a weight, by its name in a UniPixel; adapters are small, and vectors smaller."""
    return name.startswith(SHARDED) and weight.ndim > 1 and "lora_" not in name


class Zero3Shards:
    """The weights of a model in training with ZeRO 3; made before DeepSpeed takes their shapes."""

    def __init__(self, model: nn.Module, arguments: TrainingArguments) -> None:
        inside = lora.unwrap(model)
        self._all = list(inside.parameters())
        self._whole = [weight for name, weight in inside.named_parameters() if not is_sharded(name, weight)]
        self._arguments = arguments

    def before_pass(self, engine: Any) -> None:
        """Gather what stays whole, where the optimizer's step has sharded it, and drop the record of modules."""
        coordinator = engine.optimizer.parameter_offload.get_param_coordinator()
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()
        _hold(self._whole)

    @contextmanager
    def gathered(self, engine: Any) -> Iterator[None]:
        """The whole model on every process, each of which may use it as it likes; transformers knows of no ZeRO 3."""
        _hold(self._all)
        unset_hf_deepspeed_config()  # or `generate` waits for the other processes at every token
        try:
            yield
        finally:
            set_hf_deepspeed_config(self._arguments.hf_deepspeed_config)
            engine.optimizer.parameter_offload.partition_all_parameters()


def _hold(weights: Sequence[Any]) -> None:
    """Make weights whole, and keep DeepSpeed from sharding them until it shards all."""
    if weights:
        weights[0].all_gather(list(weights))
    for weight in weights:
        weight.ds_active_sub_modules.add(NO_MODULE)
