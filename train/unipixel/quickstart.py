"""Quickstart: the whole pipeline with the tiny model, `bash scripts/quickstart.sh`.

Steps: data, evaluation of the base model, fine-tuning with LoRA, evaluation of the fine-tuned model, report. Each step
is a command that can be run alone. Finished steps are skipped and interrupted ones resume, so the same command resumes.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from evqa.files.output_streams import checked_output_streams


@dataclass(frozen=True)
class QuickstartStep:
    """A command of the quickstart."""

    title: str
    minutes: float
    """Measured time on two cores, printed as estimate."""
    command: list[str]


def main(*, quick: bool = False, seed: int = 42, out: Path = Path("outputs/quickstart")) -> int:
    """Train and evaluate the tiny model on the synthetic world.

    Args:
        quick: Smoke test of about two minutes with few steps and clips; its scores are not meaningful.
        seed: Random seed of fine-tuning.
        out: Output folder; delete it to start again.
    """
    started = time.monotonic()
    steps = _steps(out / "quick" if quick else out, seed, quick=quick)
    expected = sum(step.minutes for step in steps) / (4 if quick else 1)
    _print(
        f"{len(steps)} steps, about {expected:.0f} minutes on two cores; the same command resumes after an interruption"
    )
    for number, step in enumerate(steps, 1):
        step_started = time.monotonic()
        _print(f"\n[{number}/{len(steps)}] {step.title}\n    $ python {shlex.join(step.command)}")
        code = subprocess.run([sys.executable, *step.command], check=False)
        if code.returncode:
            _print(f"this step failed (exit code {code.returncode}); the same command resumes with it")
            return code.returncode
        _print(f"    {time.monotonic() - step_started:.0f} s")
    _print(f"\nfinished in {(time.monotonic() - started) / 60:.1f} minutes")
    return 0


def _steps(out: Path, seed: int, *, quick: bool) -> list[QuickstartStep]:
    model, runs = str(out / "sft" / "model"), {name: str(out / name) for name in ("base", "tuned", "tuned-level-2")}
    few = ["--limit", "12"] if quick else []
    short = ["--max-steps", "20"] if quick else []
    predict = ["-m", "evqa", "predict"]
    train = ["-m", "unipixel.sft", "tiny", "base", "--out", str(out / "sft"), "--seed", str(seed), *short]
    report = ["-m", "evqa", "report", runs["base"], runs["tuned"], "--train-data", "shapes-train"]
    report += ["--training", str(out / "sft"), "--out", str(out)]
    level2 = ["-m", "evqa", "score", runs["tuned-level-2"], "--train-data", "shapes-train"]
    return [
        QuickstartStep("write the videos of the synthetic world", 1, ["data/shapes/prepare.py"]),
        QuickstartStep(
            "predict held-out clips with the base model",
            1,
            [*predict, "shapes-test", "tiny", "--out", runs["base"], *few],
        ),
        QuickstartStep("fine-tune with LoRA", 5, train),
        QuickstartStep(
            "predict held-out clips with the fine-tuned model",
            1,
            [*predict, "shapes-test", model, "--out", runs["tuned"], *few],
        ),
        QuickstartStep(
            "predict clips of level 2 with the fine-tuned model",
            1,
            [*predict, "shapes2-test", model, "--out", runs["tuned-level-2"], *few],
        ),
        QuickstartStep("score level 2", 0.2, level2),
        QuickstartStep("write tables, plots and the report page", 0.5, report),
    ]


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(tyro.cli(main))
