"""Commands that score and compare runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from evqa.cli.arguments import Folder, Name, Number, RunPath
from evqa.cli.console import print_line
from evqa.report import build
from evqa.runs import locate

BaselineChoice = Literal["all", "fast", "none"]
TableStyle = Literal["text", "markdown", "latex"]


def score(  # noqa: PLR0913  (each is an option of the command)
    run: RunPath,
    *,
    data: Name = None,
    preset: Annotated[str, arg(metavar="PRESET")] = "both",
    masks: Folder = None,
    train_data: Name = None,
    baselines: BaselineChoice = "all",
    workers: int = 1,
    samples: Annotated[Path | None, arg(metavar="FILE")] = None,
    format: TableStyle = "text",
    whole: bool = False,
) -> int:
    """Score any file of predictions: a table with 95 % intervals, and scores.json beside it. Needs no model.

    What can be scored; the command finds out which it is, and says so:

      a folder that `evqa predict` wrote, or a .jsonl file with one record a line, such as
      {"sample": "ID", "status": "ok", "answer": 1, "spans": [[3.0, 7.5]], "mask_folder": "ID/masks"}
      (answer: index of the option, from 0; spans: seconds; masks: run lengths in "tracks", or a folder of 00000.png
      and so on; boxes: {"12": [x0, y0, x1, y1]} by frame index, in pixels; leave out what you do not have;
      `evqa schema prediction` has every field)

      a .json file as the original's scripts write it, generative or multiple-choice, with the masks beside it in
      FILE/ENTRY/masks/00000.png or FILE/concat/ENTRY/masks/00000.png

    How to read the table, in percent, with the 95 % interval over videos in brackets:

      Acc: right answers. mIoU, mIoP, t-mean: evidence in time. J, F, J&F: evidence in space. joint: all three right.

      Every sample counts. One without a prediction, or with one that failed or cannot be read, counts 0; below each
      table stands over how many samples its means are, and how many of these are missing, failed or
      unparsed. What cannot be read is named by file, line or key, and field.

    Trivial baselines, which see no video, stand below: a score that does not beat them is none.

    More: `evqa list metrics` defines each metric, docs/metrics.md gives the reasons.

    Example: evqa score outputs/shapes-test/tiny-single-turn --train-data shapes-train

      evqa score qwen_st_evidence_1fps.json --data st-evidence-gen --samples per_sample.csv

      evqa score mine.jsonl --data st-evidence-gen --preset st-evidence --format latex

    Args:
        run: folder of a run, or a file of predictions.
        data: data set that was predicted; the one that the run names, where none is given.
        preset: strict (ours: right by default), st-evidence (the published convention, with its defects), both of
            these, or that of another benchmark (evqa list presets).
        masks: folder with ENTRY/masks/00000.png, where an original's file does not have it beside it.
        train_data: data set to fit the trivial baselines on (their constant span, their letter).
        baselines: all trivial baselines; fast leaves out those of masks, which read all gold masks again; or none.
        workers: processes that compare masks, at most one a core; the scores are the same with any number.
        samples: write the scores of each sample there too, as .csv or .jsonl.
        format: of the table: text, markdown or latex.
        whole: score all samples of the data set, also of a run that was asked for some of them (--limit, --only,
            --shard): those that it was not asked for count 0.
    """
    from evqa.report import sample_table
    from evqa.report import tables as tables
    from evqa.scoring import evaluate

    if samples is not None:
        sample_table.check(samples, locate.file_of(run))
    dataset = locate.dataset_of(run, data)
    part = evaluate.ScoredSubset(dataset) if whole else evaluate.subset_of(dataset, locate.selection_of(run))
    trivial = evaluate.trivial_scores(part.dataset, train_data, preset, baselines, workers=workers)
    scores, path = evaluate.score_run(run, part, preset, trivial, masks, workers=workers)
    style = "rich" if format == "text" and sys.stdout.isatty() else format
    found, written = (tables.prose(text, style) for text in (scores[0].source, f"written to {path}"))
    head = tables.prose(tables.partial_line(scores), style)
    print_line(f"{head}{found}\n\n{tables.report(scores, trivial, style)}\n{written}")
    if samples is not None:
        build.write_samples(samples, scores, part.dataset)
        print_line(tables.prose(f"each sample is in {samples}", style))
    return 0


def compare(
    first: Positional[Annotated[Path, arg(metavar="A")]],
    second: Positional[Annotated[Path, arg(metavar="B")]],
    *,
    data: Name = None,
    preset: Annotated[str | None, arg(metavar="PRESET")] = None,
) -> int:
    """Is B better than A? Both on the same samples: differences with 95 % intervals over videos, and p.

    Example: evqa compare outputs/shapes-test/base-single-turn outputs/shapes-test/tuned-single-turn

    Args:
        first: folder of a run, or any file of predictions that evqa score takes; or a file that it wrote (scores.json),
            if the second one is too.
        second: another one, of the same data set.
        data: data set that was predicted; the one that the first run names, where none is given.
        preset: whose metrics (evqa list presets); strict where none is given, mcq for data with options in time or
            space.
    """
    from evqa.report import compare as paired

    print_line(paired.compare(first, second, data, preset))
    return 0


def report(  # noqa: PLR0913
    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN...")]],
    *,
    out: Folder = None,
    data: Name = None,
    train_data: Name = None,
    training: tuple[Path, ...] = (),
    limit: Number = None,
    format: Annotated[Literal["page", "markdown", "latex", "csv"], arg(metavar="FORMAT")] = "page",
    intervals: bool = True,
    preset: Annotated[str | None, arg(metavar="PRESET")] = None,
) -> int:
    """Compare runs on one data set with the trivial baselines: tables, plots, and a page of every sample.

    The main tables are printed; report.md has all of them, by question type and with every metric.

    Example: evqa report outputs/shapes-test/* --train-data shapes-train

      evqa report outputs/shapes-test/* --format latex --no-intervals > table.tex

    Args:
        runs: folders of runs, or .jsonl files of predictions, all of one data set; with a format of a table also
            files that evqa score wrote (scores.json), which are not scored again.
        out: folder for report.html and report.md; outputs/report where none is given.
        data: data set that was predicted; the one that the first run names, where none is given.
        train_data: data set to fit the trivial baselines on.
        training: folders of training runs, whose losses are drawn on the page.
        limit: show at most so many samples on the page, at even distances; scores are of all.
        format: page, or nothing but a table on stdout, with one row a run and the best of each column in bold:
            markdown, latex (with the package booktabs), or csv.
        intervals: show 95 % intervals in such a table.
        preset: whose metrics such a table shows; that of the page's first table where none is given.
    """
    from evqa.files import roots
    from evqa.report import tables as tables
    from evqa.scoring import evaluate

    if not runs:
        raise ValueError("a report needs at least one run: evqa report outputs/DATA/MODEL-METHOD")
    if format != "page":
        rows = build.compact_report(runs, data, preset)
        partial = "" if format == "csv" else tables.prose(tables.partial_line(rows), format)
        print_line(partial + tables.compact_table(rows, format, intervals=intervals))
        return 0
    if preset is not None:
        raise ValueError("the page shows both presets: leave --preset out, or give --format markdown, latex or csv")
    out = out or roots.outputs("report")
    dataset = locate.dataset_of(runs[0], data)
    for run in runs[1:]:
        locate.dataset_of(run, data or dataset.name)
    trivial = evaluate.trivial_scores(evaluate.subset_of_any(runs, dataset).dataset, train_data, "both")
    text, page = build.write_report(runs, dataset, trivial, out, limit=limit, training=training)
    print_line(f"{text}\nall tables: {out / 'report.md'}\nopen {page}")
    return 0
