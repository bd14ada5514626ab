"""Command that checks a data set: check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from evqa.cli.arguments import DataName
from evqa.cli.console import print_line
from evqa.models.options import option

MAX_LISTED = 20
"""Problems that are printed."""


def check(
    data: DataName,
    *,
    out: Annotated[Path | None, option("FOLDER", default="outputs/check/DATA")] = None,
    preview: Annotated[int, option("N")] = 24,
    write_samples: Annotated[Path | None, option("FILE", default="not written")] = None,
) -> int:
    """Check a data set: counts, invalid rows, preview page.

    Works for the data sets of `evqa list datasets` and for your own questions (docs/own_data.md): a folder or file
    that `evqa predict` accepts. Reports rows that cannot be used with their reasons, missing videos, spans and masks
    outside of the video, masks of another size, and questions that cannot be scored. Writes a page with spans and
    masks. Exits with 1 where anything is found.

    Example: evqa check my_data

      evqa check my_data/questions.csv --preview 100

    Args:
        data: name of a data set, its folder, or a file of questions (.jsonl, .json, .csv).
        out: folder of the preview page and of rejected.jsonl.
        preview: most samples on the page; 0 = no page.
        write_samples: write the usable samples as records into this file beside the questions, for training.
    """
    from evqa.datasets import load, records_of
    from evqa.datasets.checks import check_dataset
    from evqa.files import roots
    from evqa.files.jsonl import write_records, write_rows
    from evqa.report import preview_page
    from evqa.runs.run_folder import user_errors_of_disk
    from evqa.runs.shards import file_name_of
    from evqa.tasks import registry as tasks

    dataset = load(tasks.data_of(data))
    result = check_dataset(dataset)
    for name, value in preview_page.count_rows(result).items():
        print_line(f"{name}: {value}")
    rows = result.messages()
    for place, reason in rows[:MAX_LISTED]:
        print_line(f"  {place}: {reason}")
    if len(rows) > MAX_LISTED:
        print_line(f"  and {len(rows) - MAX_LISTED} more")
    folder = out or roots.outputs("check", file_name_of(data))
    with user_errors_of_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / "rejected.jsonl", ({"place": place, "reason": reason} for place, reason in rows))
        if preview:
            print_line(f"open {preview_page.write_preview(folder, dataset, result, num_samples=preview)}")
        if write_samples is not None:
            write_records(write_samples, records_of(dataset, write_samples))
            print_line(f"{result.num_samples} samples written to {write_samples}")
    return 0 if result.is_clean else 1
