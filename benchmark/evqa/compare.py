"""Two runs on one data set: is the second better, and how sure is that."""

from __future__ import annotations

from pathlib import Path

from evqa import evaluate
from evqa.metrics.intervals import Difference, mcnemar, paired_difference
from evqa.metrics.presets import preset as preset_named
from evqa.report import NONE, counted, left_out_lines, partial_line, table
from evqa.scores import Scores


def compare(first: Path, second: Path, data: str | None, choice: str | None = None) -> str:
    """The table of differences as text: B minus A on the samples that both are scored on.

    Under our own preset for the data set where none is chosen.
    """
    if choice is not None:
        preset_named(choice)
    dataset = evaluate.dataset_of(first, data)
    preset = choice or evaluate.presets_of(evaluate.BOTH, dataset)[0]
    evaluate.dataset_of(second, data or dataset.name)
    part = evaluate.common_part([first, second], dataset)
    one, two = (
        part.mark(evaluate.scores_of(evaluate.predictions_of(run, part.dataset), part.dataset, [preset], name))[0]
        for run, name in ((first, "A"), (second, "B"))
    )
    titles = [title for title in one.metrics if title in two.metrics]
    counts = counted({"A": one.metrics, "B": two.metrics}, titles)
    left_out = "".join(f"\n{line}" for row in (one, two) for line in left_out_lines(row))
    head = f"{partial_line([one, two])}A: {first}\nB: {second}\n{about(preset)}"
    return f"{head}\n\n{differences(one, two)}\n\n{counts}{left_out}"


def about(preset: str) -> str:
    """How to read the table."""
    return (
        f"preset {preset}, in percent; intervals and p by drawing videos (the same ones for both); "
        "'only A' and 'only B' are samples that only one has right, with McNemar's exact p, which takes samples "
        "as independent"
    )


def differences(first: Scores, second: Scores) -> str:
    """One row per metric: both means, their difference, and for metrics that are right or wrong McNemar's test."""
    rows = [
        row for title in first.metrics if title in second.metrics and (row := _row(first, second, title)) is not None
    ]
    return table(["", "A", "B", "B - A", "p", "n", "only A", "only B", "p (McNemar)"], rows)


def _row(first: Scores, second: Scores, title: str) -> list[str] | None:
    pairs = [
        (one, two, sample.video_id)
        for name, sample in first.samples.items()
        if (one := sample.values.get(title)) is not None and (two := second.samples[name].values.get(title)) is not None
    ]
    if not pairs:
        return None
    ours, theirs, videos = zip(*pairs, strict=True)
    gain = paired_difference(ours, theirs, videos)
    means = [f"{100 * sum(values) / len(values):.1f}" for values in (ours, theirs)]
    tested = mcnemar(ours, theirs) if {*ours, *theirs} <= {0.0, 1.0} else None
    return [
        title,
        *means,
        _difference(gain),
        NONE if gain.p is None else f"{gain.p:.4f}",
        str(len(pairs)),
        *([NONE] * 3 if tested is None else [str(tested[0]), str(tested[1]), f"{tested[2]:.4f}"]),
    ]


def _difference(gain: Difference) -> str:
    if gain.low is None or gain.high is None:
        return f"{100 * gain.mean:+.1f}"
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
