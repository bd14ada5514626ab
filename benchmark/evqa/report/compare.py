"""Two runs on one data set: is the second better, and how sure is that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evqa.metrics.intervals import Difference, holm, mcnemar, paired_difference
from evqa.metrics.presets import preset as preset_named
from evqa.report.tables import NONE, counted, left_out_lines, partial_line, table
from evqa.runs import locate
from evqa.scoring import evaluate
from evqa.scoring.results import Scores


def compare(first: Path, second: Path, data: str | None, choice: str | None = None) -> str:
    """The table of differences as text: B minus A on the samples that both are scored on.

    Under our own preset for the data set where none is chosen. Two files of scores are compared as they are.
    """
    if choice is not None:
        preset_named(choice)
    read = _read if evaluate.is_scores(first) and evaluate.is_scores(second) else _scored
    one, two = read(first, second, data, choice)
    titles = [title for title in one.metrics if title in two.metrics]
    counts = counted({"A": one.metrics, "B": two.metrics}, titles)
    left_out = "".join(f"\n{line}" for row in (one, two) for line in left_out_lines(row))
    head = f"{partial_line([one, two])}A: {first}\nB: {second}\n{legend(one.preset)}"
    return f"{head}\n\n{metric_differences(one, two)}\n\n{counts}{left_out}"


def _scored(first: Path, second: Path, data: str | None, choice: str | None) -> tuple[Scores, Scores]:
    """The scores of two runs on the samples that both were asked for."""
    dataset = locate.dataset_of(first, data)
    preset = choice or evaluate.presets_of(evaluate.BOTH, dataset)[0]
    locate.dataset_of(second, data or dataset.name)
    part = evaluate.common_subset([first, second], dataset)
    one, two = (
        part.mark(evaluate.scores_of(locate.predictions_of(run, part.dataset), part.dataset, [preset], name))[0]
        for run, name in ((first, "A"), (second, "B"))
    )
    return one, two


def _read(first: Path, second: Path, data: str | None, choice: str | None) -> tuple[Scores, Scores]:
    """The scores of two files of scores, of one data set and preset."""
    if data is not None:
        raise ValueError(f"files of scores name their data set: leave --data {data} out")
    one, two = (evaluate.read_run(path, choice) for path in (first, second))
    if (one.data_sha256, one.preset) != (two.data_sha256, two.preset):
        raise ValueError(
            f"{first} is of {one.dataset} ({one.data_sha256[:12]}) under {one.preset}, {second} of {two.dataset} "
            f"({two.data_sha256[:12]}) under {two.preset}: compare scores of one data set and preset"
        )
    return one.model_copy(update={"name": "A"}), two.model_copy(update={"name": "B"})


def legend(preset: str) -> str:
    """How to read the table."""
    return (
        f"preset {preset}, in percent; intervals and p by drawing videos (the same ones for both); "
        "'only A' and 'only B' are samples that only one has right, with McNemar's exact p, which takes samples "
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


def metric_differences(first: Scores, second: Scores) -> str:
    """One row per metric: both means, their difference, and for metrics that are right or wrong McNemar's test."""
    tests = [test for title in first.metrics if title in second.metrics and (test := _test(first, second, title))]
    drawn = _adjusted([test.gain.p for test in tests])
    paired = _adjusted([test.pairs[2] if test.pairs else None for test in tests])
    header = ["", "A", "B", "B - A", "p", "p (Holm)", "n", "McNemar (Holm)", "only A", "only B", "p (McNemar)"]
    return table(header, [_row(*each) for each in zip(tests, drawn, paired, strict=True)])


def _adjusted(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's p-values of the tests that there are."""
    adjusted = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(adjusted) for p in ps]


def _test(first: Scores, second: Scores, title: str) -> MetricDifference | None:
    pairs = [
        (one, two, sample.video_id)
        for name, sample in first.samples.items()
        if name in second.samples
        and (one := sample.values.get(title)) is not None
        and (two := second.samples[name].values.get(title)) is not None
    ]
    if not pairs:
        return None
    ours, theirs, videos = zip(*pairs, strict=True)
    return MetricDifference(
        title=title,
        means=(sum(ours) / len(ours), sum(theirs) / len(theirs)),
        gain=paired_difference(ours, theirs, videos),
        num_samples=len(pairs),
        pairs=mcnemar(ours, theirs) if {*ours, *theirs} <= {0.0, 1.0} else None,
    )


def _row(test: MetricDifference, drawn: float | None, paired: float | None) -> list[str]:
    return [
        test.title,
        *(f"{100 * mean:.1f}" for mean in test.means),
        _difference(test.gain),
        _p(test.gain.p),
        _p(drawn),
        str(test.num_samples),
        _p(paired),
        *([NONE] * 3 if test.pairs is None else [str(test.pairs[0]), str(test.pairs[1]), _p(test.pairs[2])]),
    ]


def _p(p: float | None) -> str:
    return NONE if p is None else f"{p:.4f}"


def _difference(gain: Difference) -> str:
    if gain.low is None or gain.high is None:
        return f"{100 * gain.mean:+.1f}"
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
