"""The whole project once, small: `bash scripts/quickstart.sh`. Every step is a command that can be run alone.

data -> score the tiny base model -> fine-tune it with LoRA -> predict held-out clips -> score -> a page to look at.
A step that is done is left alone, one that was cut off goes on, so the same command resumes.
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
    """One command of the story."""

    about: str
    minutes: float
    """What it takes on two cores, measured; printed as an expectation."""
    command: list[str]


def main(*, quick: bool = False, seed: int = 42, out: Path = Path("outputs/quickstart")) -> int:
    """Train, predict, score and show the tiny model on the synthetic world.

    Args:
        quick: A smoke test of about two minutes: few steps, few clips; its scores mean nothing.
        seed: Of fine-tuning (order of the data, frames drawn).
        out: Folder of everything that is made; delete it to start again.
    """
    started = time.monotonic()
    steps = _steps(out / "quick" if quick else out, seed, quick=quick)
    expected = sum(step.minutes for step in steps) / (4 if quick else 1)
    _say(f"{len(steps)} steps, about {expected:.0f} minutes on two cores; the same command goes on where it stops")
    for number, step in enumerate(steps, 1):
        begun = time.monotonic()
        _say(f"\n[{number}/{len(steps)}] {step.about}\n    $ python {shlex.join(step.command)}")
        code = subprocess.run([sys.executable, *step.command], check=False)
        if code.returncode:
            _say(f"this step failed (exit code {code.returncode}); after it is fixed, the same command goes on here")
            return code.returncode
        _say(f"    {time.monotonic() - begun:.0f} s")
    _say(f"\nall done in {(time.monotonic() - started) / 60:.1f} minutes")
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
        QuickstartStep("write the synthetic world as video files", 1, ["data/shapes/prepare.py"]),
        QuickstartStep(
            "the base model on held-out clips", 1, [*predict, "shapes-test", "tiny", "--out", runs["base"], *few]
        ),
        QuickstartStep("fine-tune with LoRA", 5, train),
        QuickstartStep("the fine-tuned model", 1, [*predict, "shapes-test", model, "--out", runs["tuned"], *few]),
        QuickstartStep(
            "... and on level 2", 1, [*predict, "shapes2-test", model, "--out", runs["tuned-level-2"], *few]
        ),
        QuickstartStep("scores of level 2", 0.2, level2),
        QuickstartStep("tables, plots and the page", 0.5, report),
    ]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(tyro.cli(main))
