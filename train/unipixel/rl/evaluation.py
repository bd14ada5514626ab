"""Evaluation during training: the policy plays the held-out episodes, scored by the metrics of the benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.metrics.means import Mean
from evqa.runs import run_folder
from evqa.schema import Prediction, Run, Sample, SampleSelection
from evqa.scoring import results
from evqa.scoring.engine import System, score
from unipixel.rl import policy, rollout
from unipixel.rl.rollout import Rollout, StartEpisode

PRESET = "episode"
METRICS = {
    "Acc": "Acc",
    "Acc lenient": "Acc_lenient",
    "parse rate": "parse_rate",
    "grounding final": "final_clip",
    "grounding any": "any_clip",
    "turns": "turns",
    "looks": "looks",
    "relocations": "relocations",
    "invalid turns": "invalid_turns",
}
"""Metric of the preset -> name in the log, behind `eval_`."""

COUNTS = frozenset({"turns", "looks", "relocations", "invalid_turns"})
"""Metrics that are no shares."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Evaluation on held-out questions; called with the trainer, by all processes."""

    samples: Sequence[Sample]
    start: StartEpisode
    folder: Path
    """For the predictions and scores of each evaluation."""
    seed: int
    updates_per_step: int
    has_samples: bool = False
    """Whether replies are also sampled at the temperature of training (metrics `eval_sampled_...`)."""
    dataset: Dataset | None = None
    """Data set of the questions; with it, the folders are runs that `evqa report` shows."""

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Metrics in percent, or numbers per question, on all processes."""
        step = trainer.state.global_step // self.updates_per_step
        metrics = {f"eval_{name}": value for name, value in self._scores(trainer, f"step-{step}").items()}
        if self.has_samples:
            sampled = self._scores(trainer, f"step-{step}-sampled", is_greedy=False)
            metrics |= {f"eval_sampled_{name}": value for name, value in sampled.items()}
        return metrics

    def _scores(self, trainer: Any, name: str, *, is_greedy: bool = True) -> dict[str, float]:
        played = play_held_out(trainer, self.samples, self.start, self.seed, is_greedy=is_greedy)
        lines = [entry.prediction.model_dump_json() for entry in played]
        accelerator = trainer.accelerator
        if accelerator.num_processes > 1:
            lines = gather_object(lines)
        metrics = [self._score_and_write(lines, self.folder / name) if accelerator.is_main_process else {}]
        if accelerator.num_processes > 1:
            broadcast_object_list(metrics)
        return metrics[0]

    def _score_and_write(self, lines: Sequence[str], folder: Path) -> dict[str, float]:
        predictions = [Prediction.model_validate_json(line) for line in lines]
        folder.mkdir(parents=True, exist_ok=True)
        if self.dataset is not None:
            run_folder.write_run_info(folder, self._run(self.dataset))
        jsonl.write_records(folder / run_folder.PREDICTIONS, predictions)
        base = self.dataset or Dataset("held-out", folder, (), (), "")
        (result,) = score(replace(base, samples=tuple(self.samples)), [System(folder.name, predictions)], (PRESET,))
        results.write_scores(folder / "scores.json", [result])
        return _means(result.metrics) | {"failed": float(result.counts.failed)}

    def _run(self, dataset: Dataset) -> Run:
        identity = {"data": dataset.name, "data_sha256": dataset.sha256, "model": policy.NAME, "method": PRESET}
        only = SampleSelection(only=tuple(sample.id for sample in self.samples))
        return Run(identity=dict(identity), packages=run_folder.package_versions(), selection=only)


def play_held_out(
    trainer: Any, samples: Sequence[Sample], start: StartEpisode, seed: int, *, is_greedy: bool = True
) -> list[Rollout]:
    """Play episodes with the model in training, those of this process, without training on them.

    Args:
        trainer: the trainer, with `policy_model` and `agreement`.
        samples: samples of all processes.
        start: starts an episode.
        seed: seed of the first episode.
        is_greedy: greedy decoding; else sampled as in training.
    """
    process, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
    device = trainer.accelerator.device
    is_training = trainer.model.training
    trainer.model.eval()
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        policy.greedy(trainer) if is_greedy else contextlib.nullcontext(),
    ):
        played = rollout.play(
            trainer.policy_model,
            start,
            samples[process::processes],
            [seed + place for place in range(process, len(samples), processes)],
            largest_of=trainer.agreement,
        )
    trainer.model.train(is_training)
    return played


def _means(metrics: Mapping[str, Mean]) -> dict[str, float]:
    means = {name: metrics[metric].mean for metric, name in METRICS.items() if metric in metrics}
    return {name: mean * (1 if name in COUNTS else 100) for name, mean in means.items() if mean is not None}
