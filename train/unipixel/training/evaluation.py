"""Evaluation during training: the model answers samples with ground truth, scored by the metrics of the benchmark."""

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
"""Metric of the preset `strict` -> name in the log."""


class PeriodicEvaluation:
    """Predicts and scores a data set with the model in training; processes share the samples."""

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """Create an evaluation.

        Args:
            dataset: samples with ground truth.
            tokenizer: that of the model.
            folder: for the predictions and scores of each evaluation.
        """
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.folder = folder

    def evaluate(self, model: UniPixel, accelerator: Accelerator, step: int) -> dict[str, float]:
        """Return the metrics in percent on the first process, {} on the others."""
        samples = self.dataset.samples[accelerator.process_index :: accelerator.num_processes]
        device = accelerator.device.type
        lines: list[str] = []
        with (
            _inference_mode(model),
            torch.autocast(device, torch.bfloat16, enabled=accelerator.mixed_precision == "bf16"),
        ):
            chat = UniPixelChat(model, self.tokenizer, name="live", identity={"checkpoint": f"step {step}"})
            for sample in samples:
                lines.append(methods.method("trained")(Models(chat), sample).model_dump_json())
        if accelerator.num_processes > 1:
            lines = gather_object(lines)
        return self._score(lines, step) if accelerator.is_main_process else {}

    def _score(self, lines: list[str], step: int) -> dict[str, float]:
        predictions = [Prediction.model_validate_json(line) for line in lines]
        self.folder.mkdir(parents=True, exist_ok=True)
        jsonl.write_records(self.folder / f"step-{step}.jsonl", predictions)
        (result,) = score(self.dataset, [System(f"step {step}", predictions)])
        results.write_scores(self.folder / f"step-{step}.scores.json", [result])
        for prediction in predictions:
            if prediction.error is not None:
                logger.warning("eval step %d: sample %s failed: %s", step, prediction.sample_id, prediction.error)
        return {
            **_means(result.metrics),
            "eval_failed": result.counts.failed,
            "eval_samples": result.counts.samples,
        }


def _means(metrics: Mapping[str, Mean]) -> dict[str, float]:
    means = {name: metrics[metric].mean for metric, name in METRICS.items() if metric in metrics}
    return {f"eval_{name}": 100 * mean for name, mean in means.items() if mean is not None}


@contextmanager
def _inference_mode(model: UniPixel) -> Iterator[None]:
    """Set evaluation mode; on exit, training mode and the generation config are restored."""
    generation_config = model.generation_config
    model.eval()
    try:
        yield
    finally:
        model.generation_config = generation_config
        model.train()
