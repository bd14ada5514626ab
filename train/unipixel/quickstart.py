"""Quickstart: the whole pipeline with the tiny model, `bash scripts/quickstart.sh`.

Steps: data, evaluation of the base model, fine-tuning with LoRA, evaluation of the fine-tuned model, report. Each step
is a command that can be run alone. Finished steps are skipped and interrupted ones resume, so the same command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from evqa.files.output_streams import checked_output_streams
from unipixel.training.steps import PipelineStep, run_steps


def main(*, quick: bool = False, seed: int = 42, out: Path = Path("outputs/quickstart")) -> int:
    """Train and evaluate the tiny model on the synthetic world.

    Args:
        quick: Smoke test of about two minutes with few steps and clips; its scores are not meaningful.
        seed: Random seed of fine-tuning.
        out: Output folder; delete it to start again.
    """
    steps = _steps(out / "quick" if quick else out, seed, quick=quick)
    return run_steps(steps, sum(step.minutes for step in steps) / (4 if quick else 1))


def _steps(out: Path, seed: int, *, quick: bool) -> list[PipelineStep]:
    model, runs = str(out / "sft" / "model"), {name: str(out / name) for name in ("base", "tuned", "tuned-level-2")}
    few = ["--limit", "12"] if quick else []
    short = ["--max-steps", "20"] if quick else []
    predict = ["-m", "evqa", "predict"]
    train = ["-m", "unipixel.sft", "tiny", "base", "--out", str(out / "sft"), "--seed", str(seed), *short]
    report = ["-m", "evqa", "report", runs["base"], runs["tuned"], "--train-data", "shapes-train"]
    report += ["--training", str(out / "sft"), "--out", str(out)]
    level2 = ["-m", "evqa", "score", runs["tuned-level-2"], "--train-data", "shapes-train"]
    return [
        PipelineStep("write the videos of the synthetic world", 1, ["data/shapes/prepare.py"]),
        PipelineStep(
            "predict held-out clips with the base model",
            1,
            [*predict, "shapes-test", "tiny", "--out", runs["base"], *few],
        ),
        PipelineStep("fine-tune with LoRA", 5, train),
        PipelineStep(
            "predict held-out clips with the fine-tuned model",
            1,
            [*predict, "shapes-test", model, "--out", runs["tuned"], *few],
        ),
        PipelineStep(
            "predict clips of level 2 with the fine-tuned model",
            1,
            [*predict, "shapes2-test", model, "--out", runs["tuned-level-2"], *few],
        ),
        PipelineStep("score level 2", 0.2, level2),
        PipelineStep("write tables, plots and the report page", 0.5, report),
    ]


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(tyro.cli(main))
