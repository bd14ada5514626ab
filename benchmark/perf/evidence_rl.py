"""Evidence RL of the tiny model against continued fine-tuning of equal CPU time, on 800 held-out questions.

    bash scripts/sft.sh tiny base                                # the start, unless --start names another model
    python data/shapes/prepare.py --splits dev large
    python benchmark/perf/evidence_rl.py                         # trains, evaluates and prints the table; resumes
    python benchmark/perf/evidence_rl.py --data shapes-dev --seeds 1 --arms sft rl --rl-options="--baseline group"

Arms: `start` (no further training), `sft` (the start's data and token loss, the adapter of `rl`), `rl` (recipe
`evidence-rl`). Every finished training and evaluation is kept in --out, so the same command resumes. CPU time is that
of the training process and its loader, start and export included.
"""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tyro

from evqa import datasets
from evqa.files import jsonl
from evqa.metrics.intervals import paired_difference
from unipixel.rl.evidence_evaluation import EvenFrames, QuestionScores, evaluate

Rows = list[QuestionScores]
Measure = Callable[[QuestionScores], float]
Selection = Callable[[QuestionScores], bool]

SELECTIONS: dict[str, Selection] = {
    "all": lambda row: True,
    "order": lambda row: row.question_type.startswith("order"),
    "other types": lambda row: not row.question_type.startswith("order"),
    "one span": lambda row: row.gold_spans == 1,
    "two spans": lambda row: row.gold_spans == 2,
}
"""Groups of questions; further rows are the question types."""

MEASURES: dict[str, Measure] = {
    "Acc": lambda row: row.accuracy,
    "tIoU": lambda row: row.tiou,
    "t-mean": lambda row: row.tmean,
    "J&F": lambda row: row.jf,
    "area": lambda row: row.area,
    "joint": lambda row: row.joint,
}

TRAIN = [sys.executable, "-m", "unipixel.sft", "tiny", "base", "--eval-data", "None", "--save-total-limit", "1"]
SFT = "--trainable --warmup-ratio 0.05 --learning-rate 1e-3 --lora-lr None"


def main(  # noqa: PLR0913  (options of a command)
    *,
    start: str = "outputs/sft/tiny-tiny-base/model",
    data: str = "shapes-large",
    out: Path = Path("outputs/evidence-rl"),
    seeds: tuple[int, ...] = (1, 2, 3),
    arms: tuple[str, ...] = ("sft", "rl"),
    sft_steps: int = 160,
    rl_steps: int = 60,
    rl_options: str = "",
    is_training_only: bool = False,
) -> None:
    """Train the arms with each seed, evaluate them, and print the table.

    Args:
        start: Model that all arms start from.
        data: Data set of the evaluation.
        out: Folder of the trained models and scores.
        seeds: Seeds of training.
        arms: Arms of the table: sft, rl, or names for `rl` with other options.
        sft_steps: Optimizer steps of the arm sft.
        rl_steps: Optimizer steps of the other arms.
        rl_options: Further options of the other arms.
        is_training_only: Train without evaluation.
    """
    seconds: dict[str, list[float]] = {}
    for seed in seeds:
        for arm in arms:
            options = [*shlex.split(SFT), "--max-steps", str(sft_steps)]
            if arm != "sft":
                options = ["--recipe", "evidence-rl", "--max-steps", str(rl_steps), *shlex.split(rl_options)]
            options += ["--weights", start, "--seed", str(seed)]
            seconds.setdefault(arm, []).append(_trained(out / f"{arm}-{seed}", options))
    if is_training_only:
        return
    scores = {"start": [_evaluated(start, data, out / "start")] * len(seeds)}
    for arm in arms:
        folders = [out / f"{arm}-{seed}" for seed in seeds]
        scores[arm] = [_evaluated(str(folder / "model"), data, folder) for folder in folders]
    for arm, values in seconds.items():
        print(f"{arm}: {', '.join(f'{value:.0f}' for value in values)} CPU s by seed")
    print("\n".join(table(scores)))


def _trained(folder: Path, options: Sequence[str]) -> float:
    """Train into a folder unless that is finished; CPU seconds, of all attempts."""
    path = folder / "seconds.json"
    seconds = json.loads(path.read_text()) if path.is_file() else 0.0
    if not (folder / "model").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = subprocess.run([*TRAIN, "--out", str(folder), *options], check=False).returncode
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        jsonl.write_json(path, seconds)
        if code:
            sys.exit(f"training in {folder} failed; the same command resumes")
    return seconds


def _evaluated(model: str, data: str, folder: Path) -> Rows:
    """Scores of a model on a data set, computed unless they are stored."""
    path = folder / f"{data}.json"
    if not path.is_file():
        from unipixel.inference.chat import load_chat

        chat = load_chat(model)
        chat.policy = EvenFrames()
        rows = list(evaluate(chat, datasets.load(data).samples))
        folder.mkdir(parents=True, exist_ok=True)
        jsonl.write_json(path, [list(row) for row in rows])
    return [QuestionScores(*row) for row in json.loads(path.read_text())]


def table(scores: dict[str, list[Rows]]) -> list[str]:
    """Markdown: means of each arm over its seeds, and differences to the start and to the arm sft.

    Intervals: 95 %, drawing clips with replacement, on the means over seeds of each question.
    """
    arms = list(scores)
    pairs = [(arm, base) for base in ("sft", "start") if base in arms for arm in arms if arm not in {base, "start"}]
    head = ["questions", "n", "measure", *arms, *(f"{arm} - {base}" for arm, base in pairs)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    types = sorted({row.question_type for row in scores[arms[0]][0]})
    selections = SELECTIONS | {name: (lambda row, name=name: row.question_type == name) for name in types}
    for name, selected in selections.items():
        kept = [place for place, row in enumerate(scores[arms[0]][0]) if selected(row)]
        for measure, value in MEASURES.items():
            values = {arm: _means(rows, kept, value) for arm, rows in scores.items()}
            clips = [scores[arms[0]][0][place].video for place in kept]
            cells = [f"{100 * np.mean(values[arm]):.1f}" for arm in arms]
            cells += [_difference(values[base], values[arm], clips) for arm, base in pairs]
            lines.append(f"| {name} | {len(kept)} | {measure} | {' | '.join(cells)} |")
    lines.append(_row_of_spans(scores, len(pairs)))
    return lines


def _means(runs: Sequence[Rows], kept: Sequence[int], value: Measure) -> list[float]:
    """Value of each kept question, mean over the seeds."""
    return [float(np.mean([value(rows[place]) for rows in runs])) for place in kept]


def _difference(first: Sequence[float], second: Sequence[float], clips: Sequence[str]) -> str:
    difference = paired_difference(first, second, clips)
    text = f"{100 * difference.mean:+.1f}"
    if difference.low is None or difference.high is None:
        return text
    interval = f"{text} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"**{interval}**" if difference.low * difference.high > 0 else interval


def _row_of_spans(scores: dict[str, list[Rows]], num_pairs: int) -> str:
    """Number of predicted spans per reply, and predicted over true seconds."""
    first = next(iter(scores.values()))[0]
    gold = np.mean([row.gold_spans for row in first])
    cells = [
        f"{np.mean([row.spans for rows in runs for row in rows]):.2f}, "
        f"{np.mean([row.seconds for rows in runs for row in rows]):.2f}"
        for runs in scores.values()
    ]
    return (
        f"| all | {len(first)} | spans ({gold:.2f}), seconds / true | {' | '.join(cells)} | {' | ' * (num_pairs - 1)} |"
    )


if __name__ == "__main__":
    tyro.cli(main)
