"""Tiny master from nothing to scores: `bash scripts/rl.sh tiny [OPTIONS]`, minutes on two cores.

Steps: synthetic episodes without pixels, warm start, reinforcement learning, evaluation of both models by `evqa
predict` and `evqa score`. Each step is a command that can be run alone; finished ones are skipped. All options but
`--warm-seed` are those of `python -m unipixel.rl.run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evqa.datasets import prepared_file
from evqa.files import roots
from unipixel import aliases
from unipixel.rl.configs import RLConfig, build_recipe
from unipixel.training.steps import PipelineStep, run_steps

DATA = "text-episodes-test"
ONLY_RUN = {"-h", "--help", "--print-config"}
"""Options with which the run of reinforcement learning is the only step."""

RESTART = {"--from-scratch", "--overwrite"}
"""Options with which finished predictions are made again."""


def main(arguments: Sequence[str]) -> int:
    """Run the pipeline; the exit code is that of the first step that fails."""
    return run_steps(pipeline(arguments))


def pipeline(arguments: Sequence[str]) -> list[PipelineStep]:
    """Return the steps that are to be run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--warm-seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options, rest = parser.parse_known_args([aliases.hyphenated(word) for word in arguments])
    config = build_recipe("tiny", "tiny")
    start = Path(config.weights)
    if options.warm_seed:
        start = roots.outputs("rl", f"warm-start-{options.warm_seed}", "model")
    out = options.out or config.out
    train = ["-m", "unipixel.rl.run", "tiny", "--recipe", "tiny", "--weights", str(start), "--out", str(out), *rest]
    training = PipelineStep("train by GRPO", 2, train)
    if ONLY_RUN & set(rest):
        return [training]
    preparation = [*_data_steps(), PipelineStep("warm start and gate", 3, warm_start_command(start, options.warm_seed))]
    if "--dry-run" in rest:
        return [*preparation, training]
    again = ["--overwrite"] if RESTART & set(rest) else []
    return [*preparation, training, *_evaluation_steps(config, start, out, again)]


def _data_steps() -> list[PipelineStep]:
    splits = ("text-episodes-train", "text-episodes-val", DATA)
    if all(prepared_file(name) is not None for name in splits):
        return []
    return [PipelineStep("write the synthetic episodes", 0.1, ["data/text_episodes/prepare.py"])]


def warm_start_command(folder: Path, seed: int) -> list[str]:
    """Return the command that trains a warm start."""
    return ["-m", "unipixel.rl.warm_start", "--out", str(folder), "--seed", str(seed)]


def _evaluation_steps(config: RLConfig, start: Path, out: Path, again: list[str]) -> list[PipelineStep]:
    before, after = str(out / "predictions-before"), str(out / "predictions-after")
    prediction_before = [*prediction_command(config, str(start), before), *again]
    prediction_after = [*prediction_command(config, str(out / "model"), after), *again]
    return [
        PipelineStep("predict unseen questions, before", 0.3, prediction_before),
        PipelineStep("predict unseen questions, after", 0.3, prediction_after),
        PipelineStep("score, before", 0.1, ["-m", "evqa", "score", before]),
        PipelineStep("score, after", 0.1, ["-m", "evqa", "score", after]),
        PipelineStep("compare both", 0.1, ["-m", "evqa", "compare", before, after, "--preset", "episode"]),
    ]


def prediction_command(config: RLConfig, model: str, out: str) -> list[str]:
    """Return the command that evaluates a model as it is trained."""
    episode = config.episode
    files = ["--clip-texts", str(episode.clip_texts), "--grounding-cache", str(episode.grounding_cache)]
    options = [
        "--method",
        "episode",
        "--prompts",
        episode.prompts,
        *files,
        "--max-tokens",
        str(config.rollout.max_reply_tokens),
    ]
    return ["-m", "evqa", "predict", DATA, model, *options, "--batch-size", "64", "--out", out]
