"""Rows of evaluation data: splits of data sets that are also trained on, and sets of questions.

An evaluation split shares folder, source and licence with the row that it belongs to; it has a format and a file of
samples of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from evqa.datasets.spec import DatasetFormat, DatasetSpec

# Segmentation


class EvaluationSplit(NamedTuple):
    """An evaluation split of a data set with a row."""

    base: str
    """Row whose folder, source and licence it shares."""
    description: str
    format: DatasetFormat


def _referring(base: str, split: str, description: str, layout: str, entries: str) -> EvaluationSplit:
    """A split in the layout of Ref-YouTube-VOS."""
    name = f"{base}-{split}"
    return EvaluationSplit(base, description, DatasetFormat(layout, "referring_vos:evaluation", entries, (name,)))


def _refer(base: str, split: str) -> tuple[str, EvaluationSplit]:
    """A split of RefCOCO and its relatives."""
    split_by = "umd" if base == "refcocog" else "unc"
    references = f"refs({split_by}).p"
    layout = DatasetFormat(
        f"{references} and instances.json", "lisa:refer_evaluation", f"refer_seg/{base}/{references}", (base, split)
    )
    return f"{base}-{split.lower()}", EvaluationSplit(base, f"image objects by expressions, split {split}", layout)


def _reason_seg(split: str) -> EvaluationSplit:
    entries = f"reason_seg/ReasonSeg/{split}"
    layout = DatasetFormat("ReasonSeg: polygons per image", "lisa:reason_seg_evaluation", entries, (split,))
    return EvaluationSplit("reason-seg", f"image objects by reasoning, split {split}", layout)


SERVER = "masks on the server of the benchmark"

EVALUATION_SPLITS: dict[str, EvaluationSplit] = {
    "mevis-valid-u": _referring(
        "mevis",
        "valid-u",
        "video objects by motion, validation split with masks",
        "valid_u/meta_expressions.json, valid_u/mask_dict.json, frames",
        "valid_u/meta_expressions.json",
    ),
    "mevis-valid": _referring(
        "mevis",
        "valid",
        f"video objects by motion, validation split, {SERVER}",
        "valid/meta_expressions.json, frames",
        "valid/meta_expressions.json",
    ),
    "ref-youtube-vos-valid": _referring(
        "ref-youtube-vos",
        "valid",
        f"video objects by expressions, validation split, {SERVER}",
        "meta_expressions of valid and test, frames",
        "meta_expressions/valid/meta_expressions.json",
    ),
    "ref-davis17-valid": _referring(
        "ref-davis17",
        "valid",
        "video objects by expressions of four annotators, validation split",
        "meta_expressions, mask_dict.pkl or palette images, frames",
        "meta_expressions/valid/meta_expressions.json",
    ),
    "revos-valid": _referring(
        "revos",
        "valid",
        "video objects by referring and reasoning, validation split",
        "meta_expressions_valid_.json, mask_dict.json, frames",
        "meta_expressions_valid_.json",
    ),
    "ref-sav-valid": _referring(
        "ref-sav",
        "valid",
        "objects of SA-V by descriptions, evaluation split",
        "valid/meta_expressions_valid.json, valid/mask_dict.json, frames in valid/videos",
        "valid/meta_expressions_valid.json",
    ),
    "lvvis-val": EvaluationSplit(
        "lvvis",
        "video objects by category, validation split",
        DatasetFormat(
            "val_instances.json in the form of YouTube-VIS, frames", "lvvis_instances:samples", "val_instances.json"
        ),
    ),
    "groundmore-test": EvaluationSplit(
        "groundmore",
        "questions about motion, answered in masks, test split",
        DatasetFormat("test_v2.json, frames and label images per video", "groundmore:test_samples", "test_v2.json"),
    ),
    **{
        f"vicas-{split}": EvaluationSplit(
            "vicas",
            f"video objects by sentences, split {split}",
            DatasetFormat(
                "referrals to objects, masks per video or per referral",
                "vicas:evaluation",
                f"splits/v1.0/{split}.json",
                (split,),
            ),
        )
        for split in ("val", "test")
    },
    **{f"reason-seg-{split}": _reason_seg(split) for split in ("val", "test")},
    **dict(_refer(base, split) for base in ("refcoco", "refcoco+") for split in ("val", "testA", "testB")),
    **dict(_refer("refcocog", split) for split in ("val", "test")),
}


def evaluation_splits(rows: Mapping[str, DatasetSpec]) -> dict[str, DatasetSpec]:
    """Return the rows of all evaluation splits, made from the rows that they belong to."""
    return {name: _split_row(name, split, rows[split.base]) for name, split in EVALUATION_SPLITS.items()}


def _split_row(name: str, split: EvaluationSplit, base: DatasetSpec) -> DatasetSpec:
    script = " ".join(base.prepare.split()[:2])
    return replace(
        base,
        description=split.description,
        prepare=f"{script} {name}",
        format=split.format,
        file=f"{name.replace('-', '_').replace('+', '_plus')}.jsonl",
        is_benchmark=True,
        published=None,
    )


# Questions

QUESTION_SETS: dict[str, DatasetSpec] = {}
