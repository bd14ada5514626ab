"""Paired comparison of two runs on one data set: differences of metrics, intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evqa.metrics.intervals import Difference, holm, mcnemar, paired_difference
from evqa.metrics.presets import preset as preset_named
from evqa.report.tables import NONE, left_out_lines, partial_line, sample_counts, table
from evqa.runs import locate
from evqa.scoring import evaluate
from evqa.scoring.results import Scores


def compare(first: Path, second: Path, data: str | None, choice: str | None = None) -> str:
    """Return the table of differences as text: B minus A on the samples that both are scored on.

    `choice`: preset; None = our own preset for the data set. Two files of scores are compared as they are.
    """
    if choice is not None:
        preset_named(choice)
    read = _read if evaluate.is_scores(first) and evaluate.is_scores(second) else _scored
    a, b = read(first, second, data, choice)
    titles = [title for title in a.metrics if title in b.metrics]
    counts = sample_counts({"A": a.metrics, "B": b.metrics}, titles)
    left_out = "".join(f"\n{line}" for row in (a, b) for line in left_out_lines(row))
    head = f"{partial_line([a, b])}A: {first}\nB: {second}\n{legend(a.preset)}"
    return f"{head}\n\n{metric_differences(a, b)}\n\n{counts}{left_out}"


def _scored(first: Path, second: Path, data: str | None, choice: str | None) -> tuple[Scores, Scores]:
    """Return the scores of two runs on the samples that both were run on."""
    dataset = locate.dataset_of(first, data)
    preset = choice or evaluate.presets_of(evaluate.BOTH, dataset)[0]
    locate.dataset_of(second, data or dataset.name)
    part = evaluate.common_subset([first, second], dataset)
    a, b = (
        part.mark(evaluate.scores_of(locate.predictions_of(run, part.dataset), part.dataset, [preset], name))[0]
        for run, name in ((first, "A"), (second, "B"))
    )
    return a, b


def _read(first: Path, second: Path, data: str | None, choice: str | None) -> tuple[Scores, Scores]:
    """Return the scores of two scores.json files, of one data set and preset."""
    if data is not None:
        raise ValueError(f"files of scores name their data set: leave --data {data} out")
    a, b = (evaluate.read_run(path, choice) for path in (first, second))
    if (a.data_sha256, a.preset) != (b.data_sha256, b.preset):
        raise ValueError(
            f"{first} is of {a.dataset} ({a.data_sha256[:12]}) under {a.preset}, {second} of {b.dataset} "
            f"({b.data_sha256[:12]}) under {b.preset}: compare scores of one data set and preset"
        )
    return a.model_copy(update={"name": "A"}), b.model_copy(update={"name": "B"})


def legend(preset: str) -> str:
    """Return how to read the table."""
    return (
        f"preset {preset}, in percent; intervals and p by a paired bootstrap over videos; "
        "'only A' and 'only B' are samples that only one run has right, with McNemar's exact p, which takes samples "
        "as independent; '(Holm)' are the p-values adjusted for all tests of their kind in this table (Holm 1979)"
    )


class MetricDifference(NamedTuple):
    """One metric of two runs on the same samples."""

    title: str
    means: tuple[float, float]
    gain: Difference
    num_samples: int
    pairs: tuple[int, int, float] | None
    """Only A, only B, p of McNemar's test; None where values are not 0 or 1."""


HEADER = ("", "A", "B", "B - A", "p", "p (Holm)", "n", "McNemar (Holm)", "only A", "only B", "p (McNemar)")


def metric_differences(first: Scores, second: Scores) -> str:
    """Return a table with one row per metric: both means, their difference, and McNemar's test of binary metrics."""
    return table(HEADER, difference_rows(first, second))


def difference_rows(first: Scores, second: Scores, titles: Sequence[str] | None = None) -> list[list[str]]:
    """Return the rows of `metric_differences` as text in the order of `HEADER`; `titles`: None = all shared metrics."""
    titles = [title for title in titles or first.metrics if title in first.metrics and title in second.metrics]
    tests = [test for title in titles if (test := _test(first, second, title))]
    bootstrap_ps = _adjusted([test.gain.p for test in tests])
    mcnemar_ps = _adjusted([test.pairs[2] if test.pairs else None for test in tests])
    return [_row(*cells) for cells in zip(tests, bootstrap_ps, mcnemar_ps, strict=True)]


def _adjusted(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted by Holm's method; None stays None."""
    adjusted = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(adjusted) for p in ps]


def _test(first: Scores, second: Scores, title: str) -> MetricDifference | None:
    pairs = [
        (a, b, sample.video_id)
        for name, sample in first.samples.items()
        if name in second.samples
        and (a := sample.values.get(title)) is not None
        and (b := second.samples[name].values.get(title)) is not None
    ]
    if not pairs:
        return None
    first_values, second_values, videos = zip(*pairs, strict=True)
    return MetricDifference(
        title=title,
        means=(sum(first_values) / len(pairs), sum(second_values) / len(pairs)),
        gain=paired_difference(first_values, second_values, videos),
        num_samples=len(pairs),
        pairs=mcnemar(first_values, second_values) if {*first_values, *second_values} <= {0.0, 1.0} else None,
    )


def _row(test: MetricDifference, bootstrap_p: float | None, mcnemar_p: float | None) -> list[str]:
    return [
        test.title,
        *(f"{100 * mean:.1f}" for mean in test.means),
        _difference(test.gain),
        _p(test.gain.p),
        _p(bootstrap_p),
        str(test.num_samples),
        _p(mcnemar_p),
        *([NONE] * 3 if test.pairs is None else [str(test.pairs[0]), str(test.pairs[1]), _p(test.pairs[2])]),
    ]


def _p(p: float | None) -> str:
    return NONE if p is None else f"{p:.4f}"


def _difference(gain: Difference) -> str:
    if gain.low is None or gain.high is None:
        return f"{100 * gain.mean:+.1f}"
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
