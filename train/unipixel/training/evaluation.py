"""Looks at a model while it learns: it answers samples with gold, and the benchmark's own metrics score them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from evqa import methods
from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.metrics.means import Mean
from evqa.models.base import Models
from evqa.schema import Prediction
from evqa.scoring import results
from evqa.scoring.engine import System, score
from unipixel.inference.chat import UniPixelChat
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

METRICS = {"Acc": "acc", "t-mean": "t_mean", "J&F": "jf"}
"""Metric of the preset `strict` -> its name in the log."""


class PeriodicEvaluation:
    """Answers a few samples with the live model. Processes share them; training goes on as if nothing had been."""

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """`folder`: where each look leaves its predictions and scores."""
        self.dataset, self.tokenizer, self.folder = dataset, tokenizer, folder

    def evaluate(self, model: UniPixel, accelerator: Accelerator, step: int) -> dict[str, float]:
        """The metrics in percent, on the first process; the others get none."""
        mine = self.dataset.samples[accelerator.process_index :: accelerator.num_processes]
        kind = accelerator.device.type
        found: list[str] = []
        with _answering(model), torch.autocast(kind, torch.bfloat16, enabled=accelerator.mixed_precision == "bf16"):
            chat = UniPixelChat(model, self.tokenizer, name="live", identity={"checkpoint": f"step {step}"})
            for sample in mine:
                found.append(methods.method("trained")(Models(chat), sample).model_dump_json())
        if accelerator.num_processes > 1:
            found = gather_object(found)
        return self._scored(found, step) if accelerator.is_main_process else {}

    def _scored(self, found: list[str], step: int) -> dict[str, float]:
        predictions = [Prediction.model_validate_json(line) for line in found]
        self.folder.mkdir(parents=True, exist_ok=True)
        jsonl.write_records(self.folder / f"step-{step}.jsonl", predictions)
        (result,) = score(self.dataset, [System(f"step {step}", predictions)])
        results.write_scores(self.folder / f"step-{step}.scores.json", [result])
        for one in predictions:
            if one.error is not None:
                logger.warning("look at step %d: no answer to %s: %s", step, one.sample_id, one.error)
        return {
            **_means(result.metrics),
            "eval_failed": result.counts.failed,
            "eval_samples": result.counts.samples,
        }


def _means(metrics: Mapping[str, Mean]) -> dict[str, float]:
    means = {name: metrics[metric].mean for metric, name in METRICS.items() if metric in metrics}
    return {f"eval_{name}": 100 * mean for name, mean in means.items() if mean is not None}


@contextmanager
def _answering(model: UniPixel) -> Iterator[None]:
    """The model in evaluation mode; the settings of generation that it had are given back."""
    before = model.generation_config
    model.eval()
    try:
        yield
    finally:
        model.generation_config = before
        model.train()
