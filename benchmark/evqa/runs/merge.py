"""Merging of the shards of a run into one file of predictions.

All records that the shards have so far are merged; missing samples are reported, and `evqa predict` without a shard
predicts them. The records are in the order of the data set, and memory holds one record at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from evqa.datasets import Dataset
from evqa.files import jsonl
from evqa.models.api.budget import Prices, usages
from evqa.runs import image_checks, run_folder
from evqa.runs.ledger import check_usages
from evqa.runs.run_folder import PREDICTIONS, RUN, user_errors_of_disk
from evqa.runs.shards import Selection, shards_of, union_of
from evqa.schema import Prediction, Run, TotalUsage


@dataclass(frozen=True, kw_only=True)
class MergeSummary:
    """Counts of `merge`."""

    folder: Path
    num_shards: int
    num_ok: int
    failed: Mapping[str, str]
    """Sample id -> error."""
    missing: tuple[str, ...]
    """Ids of samples without a prediction in any shard."""


class _RecordLocation(NamedTuple):
    """File and offset of the record of a sample."""

    path: Path
    offset: int
    error: str | None
    content: int
    """Hash of the record, equal for its copies."""

    def read(self) -> Prediction:
        return jsonl.record_at(self.path, self.offset, Prediction)


def run_info_of_shards(folder: Path) -> Run:
    """Return the run info that all shards of a run share. `ValueError`: there are no shards, or they differ."""
    shards = shards_of(folder)
    if not shards:
        if not folder.exists():
            raise ValueError(f"no such folder: {folder}; expected a run that was predicted in shards")
        raise ValueError(f"{folder} has no shards (shard-0-of-8, ...): `evqa predict ... --shard I/N` makes them")
    if len({shard.count for shard in shards}) > 1:
        names = ", ".join(path.name for path in shards.values())
        raise ValueError(f"{folder} has shards of different counts ({names}): remove those that do not belong")
    whole = [folder] if (folder / RUN).is_file() else []
    folders = [*whole, *shards.values()]
    runs = [run_folder.read_run_info(path) for path in folders]
    for path, run in zip(folders[1:], runs[1:], strict=True):
        if run.identity != runs[0].identity:
            changes = run_folder.identity_diff(runs[0].identity, run.identity)
            raise ValueError(f"{path} is of another run than {folders[0]}: {changes}")
    return runs[0]


def merge(folder: Path, dataset: Dataset) -> MergeSummary:
    """Merge the predictions of the shards of a run, and its own, into its own file.

    Raises:
        ValueError: the folder has no shards, they are of different runs, or a record is of an unknown sample.
    """
    run, shards = run_info_of_shards(folder), shards_of(folder)
    with run_folder.run_lock(folder, has_out=False):
        files = [folder / PREDICTIONS, *(shard / PREDICTIONS for shard in shards.values())]
        existing = sorted((path for path in files if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
        latest, retained, spent = _read_locations(existing)
        selection = _selection([folder, *shards.values()], dataset)
        checks = image_checks.merged([folder, *shards.values()])
        missing, unknown = _missing_and_unknown(latest, dataset, selection)
        if unknown:
            raise ValueError(f"{dataset.name} has no sample {unknown[0]}, which {latest[unknown[0]].path} has")
        with user_errors_of_disk(folder, has_out=False):
            ordered = (
                location for sample in dataset.samples if sample.id in latest for location in retained[sample.id]
            )
            jsonl.write_records(folder / PREDICTIONS, (location.read() for location in ordered))
            record = None if selection is None else selection.record()
            spent = functools.reduce(TotalUsage.plus, check_usages(checks), spent)
            run_folder.write_run_info(folder, run.replace(usage=spent, selection=record, image_checks=checks))
    failed = {sample: location.error for sample, location in latest.items() if location.error is not None}
    return MergeSummary(
        folder=folder, num_shards=len(shards), num_ok=len(latest) - len(failed), failed=failed, missing=missing
    )


def _read_locations(
    files: Sequence[Path],
) -> tuple[dict[str, _RecordLocation], dict[str, list[_RecordLocation]], TotalUsage]:
    """Return (sample id -> its last successful record, else its last; sample id -> records to write; total usage).

    Failed records with a cost are written before the last record, so that a resumed run knows its total cost. The file
    that was modified last takes precedence. A record that an earlier merge copied from a shard counts once.
    """
    latest: dict[str, _RecordLocation] = {}
    paid: dict[str, dict[int, _RecordLocation]] = {}
    spent = TotalUsage()
    for path in files:
        for _, offset, prediction in jsonl.numbered_records(path, Prediction):
            location = _RecordLocation(path, offset, prediction.error, hash(prediction.model_dump_json()))
            before = latest.get(prediction.sample_id)
            if before is None or location.error is None or before.error is not None:
                latest[prediction.sample_id] = location
            costs, counted = usages(prediction, Prices()), paid.setdefault(prediction.sample_id, {})
            if costs and location.content not in counted:
                counted[location.content] = location
                spent = functools.reduce(TotalUsage.plus, costs, spent)
    retained = {
        sample: [
            *(location for location in paid[sample].values() if location.error and location.content != last.content),
            last,
        ]
        for sample, last in latest.items()
    }
    return latest, retained, spent


def _selection(folders: Sequence[Path], dataset: Dataset) -> Selection | None:
    """Return the selection of the whole run, including absent shards; None = not recorded."""
    records = [run_folder.read_run_info(folder).selection for folder in folders if (folder / RUN).is_file()]
    selections = [replace(Selection.read(record), shard=None) for record in records if record is not None]
    return union_of(selections, dataset) if len(selections) == len(records) else None


def _missing_and_unknown(
    latest: Mapping[str, _RecordLocation], dataset: Dataset, selection: Selection | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the ids of selected samples without a record, and the ids of records without a sample."""
    ids = {sample.id for sample in dataset.samples}
    selected = [sample.id for sample in (selection or Selection()).of(dataset)]
    return tuple(sample for sample in selected if sample not in latest), sorted(set(latest) - ids)
