"""Learning curve: scores of the periodic evaluation of training runs, with the best trivial baselines.

    bash scripts/sft.sh tiny base --eval-samples 0 --eval-steps 50 --out outputs/curve/true
    bash scripts/sft.sh tiny base --eval-samples 0 --eval-steps 50 --time-encoding fixed-2fps --out outputs/curve/legacy
    python benchmark/perf/learning.py outputs/curve/true outputs/curve/legacy --out docs/learning_curve.png

draws Acc, t-mean and J&F (preset strict) of the evaluations of each run, with 95 % intervals over videos and the
best trivial baseline of each metric, and prints them as a table. The results are in docs/learning_curve.md.
"""

# matplotlib's keyword arguments are only partly typed:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tyro.conf import Positional

from evqa import datasets
from evqa.report import tables
from evqa.scoring import evaluate, results
from evqa.scoring.results import Scores

METRICS = ("Acc", "t-mean", "J&F")
BASELINE = "#767676"
NUM_COLOURS = 10
"""Of matplotlib's own, `C0` and so on."""


def main(
    runs: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN...")]],
    *,
    data: str = "shapes-val",
    train_data: str = "shapes-train",
    out: Path = Path("outputs/learning_curve.png"),
) -> int:
    """Draw and print the learning curves of some training runs.

    Args:
        runs: folders of training runs with --eval-data and --eval-samples 0.
        data: their evaluation data, for the baselines.
        train_data: data that the baselines are fitted on.
        out: image file.
    """
    curves = {run.name: evaluations(run) for run in runs}
    trivial = evaluate.trivial_scores(datasets.load(data), train_data, "strict")
    best = {metric: best_of(trivial, metric) for metric in METRICS}
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn(curves, best).savefig(out, dpi=150)
    print(table(curves, best))
    return 0


def evaluations(run: Path) -> dict[int, Scores]:
    """Step -> scores; runs of earlier versions have them in `looks/`."""
    scores: dict[int, Scores] = {}
    for path in [*run.glob("looks/step-*.scores.json"), *run.glob("eval/step-*.scores.json")]:
        if name := re.fullmatch(r"step-(\d+)\.scores\.json", path.name):
            scores[int(name[1])] = results.read_scores(path)[0]
    if not scores:
        raise ValueError(f"{run} has no eval/step-*.scores.json: expected a training run with --eval-data")
    return dict(sorted(scores.items()))


def best_of(trivial: Sequence[Scores], metric: str) -> tuple[str, float]:
    """The baseline with the highest mean, and that in percent."""
    means = {one.name: one.metrics[metric].mean for one in trivial if metric in one.metrics}
    found = {name: mean for name, mean in means.items() if mean is not None}
    name = max(found, key=found.__getitem__)
    return name, 100 * found[name]


def drawn(curves: Mapping[str, Mapping[int, Scores]], best: Mapping[str, tuple[str, float]]) -> Figure:
    """One plot a metric, percent over optimizer steps."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    plots: Sequence[Axes] = list(figure.subplots(1, len(METRICS), sharey=True))
    for axes, metric in zip(plots, METRICS, strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            colour = f"C{number % NUM_COLOURS}"
            points = np.array([percents(one, metric) for one in curve.values()])  # [steps, 3]
            axes.plot(list(curve), points[:, 0], "o-", color=colour, label=name)
            axes.fill_between(list(curve), points[:, 1], points[:, 2], color=colour, alpha=0.12, linewidth=0)
        name, value = best[metric]
        axes.axhline(value, color=BASELINE, linestyle="--", linewidth=1.2)
        axes.text(
            0.99,
            value - 1,
            name.split(" (")[0],
            color=BASELINE,
            fontsize=8,
            ha="right",
            va="top",
            transform=axes.get_yaxis_transform(),
        )
        axes.set_title(metric)
        axes.set_xlabel("optimizer step")
        axes.set_ylim(0, 100)
        axes.grid(axis="y", alpha=0.3)
    plots[0].set_ylabel("percent")
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves), frameon=False)
    return figure


def percents(one: Scores, metric: str) -> list[float]:
    """Mean and the ends of its interval; NaN for what there is none of, which is a gap in the plot."""
    found = one.metrics[metric]
    return [math.nan if value is None else 100 * value for value in (found.mean, found.low, found.high)]


def table(curves: Mapping[str, Mapping[int, Scores]], best: Mapping[str, tuple[str, float]]) -> str:
    """One row per metric and run: percent at each step, and the interval of the last; then the best baselines."""
    steps = sorted({step for curve in curves.values() for step in curve})
    rows = [
        [
            metric,
            name,
            *(_percent(curve.get(step), metric) for step in steps),
            _interval(list(curve.values())[-1], metric),
        ]
        for metric in METRICS
        for name, curve in curves.items()
    ]
    lines = [f"best baseline of {metric}: {name}, {value:.1f}" for metric, (name, value) in best.items()]
    header = ["metric", "run", *map(str, steps), "95 % interval of the last"]
    return "\n".join([tables.table(header, rows, "markdown"), "", *lines])


def _percent(one: Scores | None, metric: str) -> str:
    mean = math.nan if one is None else percents(one, metric)[0]
    return tables.NONE if math.isnan(mean) else f"{mean:.1f}"


def _interval(one: Scores, metric: str) -> str:
    _, low, high = percents(one, metric)
    return tables.NONE if math.isnan(low) else f"{low:.1f} to {high:.1f}"


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
