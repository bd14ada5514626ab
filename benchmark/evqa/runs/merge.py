"""The shards of a run become one file of predictions.

Whatever the shards hold by now is merged; what they lack is told, and `evqa predict` without a shard fills it.
The records stand in the order of the data set; one is in memory at a time.
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
from evqa.runs import run_folder
from evqa.runs.run_folder import PREDICTIONS, RUN, user_errors_of_disk
from evqa.runs.shards import Selection, shards_of, union_of
from evqa.schema import Prediction, Run, TotalUsage


@dataclass(frozen=True, kw_only=True)
class MergeSummary:
    """What became of a run's shards."""

    folder: Path
    num_shards: int
    num_ok: int
    failed: Mapping[str, str]
    """Sample id -> reason."""
    missing: tuple[str, ...]
    """Ids of samples that no shard has a prediction for."""


class _RecordLocation(NamedTuple):
    """Where the record of a sample lies."""

    path: Path
    offset: int
    error: str | None
    content: int
    """Equal for the copies of a record."""

    def read(self) -> Prediction:
        return jsonl.record_at(self.path, self.offset, Prediction)


def run_info_of_shards(folder: Path) -> Run:
    """What the shards of a run say of themselves, which is the same. `ValueError`: there are none, or they differ."""
    shards = shards_of(folder)
    if not shards:
        if not folder.exists():
            raise ValueError(f"no such folder: {folder}; expected a run that was predicted in shards")
        raise ValueError(f"{folder} has no shards (shard-0-of-8, ...): `evqa predict ... --shard I/N` makes them")
    if len({shard.count for shard in shards}) > 1:
        names = ", ".join(path.name for path in shards.values())
        raise ValueError(f"{folder} has shards of different counts ({names}): remove those that do not belong")
    whole = [folder] if (folder / RUN).is_file() else []
    places = [*whole, *shards.values()]
    runs = [run_folder.read_run_info(place) for place in places]
    for place, run in zip(places[1:], runs[1:], strict=True):
        if run.identity != runs[0].identity:
            changes = run_folder.identity_diff(runs[0].identity, run.identity)
            raise ValueError(f"{place} is of another run than {places[0]}: {changes}")
    return runs[0]


def merge(folder: Path, dataset: Dataset) -> MergeSummary:
    """Write the predictions of a run's shards, and those that it has itself, into its own file."""
    run, shards = run_info_of_shards(folder), shards_of(folder)
    with run_folder.run_lock(folder, has_out=False):
        files = [folder / PREDICTIONS, *(shard / PREDICTIONS for shard in shards.values())]
        existing = sorted((path for path in files if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
        places, retained, spent = _last_of_each(existing)
        selection = _selection([folder, *shards.values()], dataset)
        missing, unknown = _check_same_run(places, dataset, selection)
        if unknown:
            raise ValueError(f"{dataset.name} has no sample {unknown[0]}, which {places[unknown[0]].path} has")
        with user_errors_of_disk(folder, has_out=False):
            ordered = (
                location for sample in dataset.samples if sample.id in places for location in retained[sample.id]
            )
            jsonl.write_records(folder / PREDICTIONS, (place.read() for place in ordered))
            record = None if selection is None else selection.record()
            run_folder.write_run_info(folder, run.replace(usage=spent, selection=record))
    failed = {sample: place.error for sample, place in places.items() if place.error is not None}
    return MergeSummary(
        folder=folder, num_shards=len(shards), num_ok=len(places) - len(failed), failed=failed, missing=missing
    )


def _last_of_each(
    files: Sequence[Path],
) -> tuple[dict[str, _RecordLocation], dict[str, list[_RecordLocation]], TotalUsage]:
    """(sample id -> its last record that is no failure, or else its last; the records to keep; what all records took).

    Kept before the last one are failures whose replies took something, so that a run goes on with what it has spent.

    The file that was written last has the last word: masks may have been drawn anew since. A record that an earlier
    merge copied from a shard is counted once.
    """
    latest: dict[str, _RecordLocation] = {}
    paid: dict[str, dict[int, _RecordLocation]] = {}
    spent = TotalUsage()
    for path in files:
        for _, offset, prediction in jsonl.numbered_records(path, Prediction):
            place = _RecordLocation(path, offset, prediction.error, hash(prediction.model_dump_json()))
            before = latest.get(prediction.sample_id)
            if before is None or place.error is None or before.error is not None:
                latest[prediction.sample_id] = place
            took, counted = usages(prediction, Prices()), paid.setdefault(prediction.sample_id, {})
            if took and place.content not in counted:
                counted[place.content] = place
                spent = functools.reduce(TotalUsage.plus, took, spent)
    retained = {
        sample: [
            *(location for location in paid[sample].values() if location.error and location.content != last.content),
            last,
        ]
        for sample, last in latest.items()
    }
    return latest, retained, spent


def _selection(folders: Sequence[Path], dataset: Dataset) -> Selection | None:
    """What the whole run was asked for, the shares that are not here included; None = not recorded."""
    records = [run_folder.read_run_info(folder).selection for folder in folders if (folder / RUN).is_file()]
    selections = [replace(Selection.read(record), shard=None) for record in records if record is not None]
    return union_of(selections, dataset) if len(selections) == len(records) else None


def _check_same_run(
    places: Mapping[str, _RecordLocation], dataset: Dataset, selection: Selection | None
) -> tuple[tuple[str, ...], list[str]]:
    """Samples that were asked for and have no record, and records without a sample."""
    ids = {sample.id for sample in dataset.samples}
    selections = [sample.id for sample in (selection or Selection()).of(dataset)]
    return tuple(sample for sample in selections if sample not in places), sorted(set(places) - ids)
