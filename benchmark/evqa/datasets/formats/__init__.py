"""Published tasks: each reads the files as their authors lay them out and gives samples."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import cast

from evqa import suggestions
from evqa.datasets import ground_truth, path_inside
from evqa.files import links
from evqa.files.jsonl import BadEntry, BadLine, write_records, write_rows
from evqa.schema import Sample

Reader = Callable[[Path, list[BadLine]], Iterator[Sample]]
"""Folder -> samples one by one; rows that cannot be used are appended to the list."""


@dataclass(frozen=True)
class DatasetFormat:
    """A published layout."""

    about: str
    reader: str
    """Dotted name of its `Reader`, imported when it is used."""
    file: str = "samples.jsonl"
    """What is written; layouts that share a folder have a file each."""

    def samples(self, folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
        """The samples of a folder in this layout; rows that cannot be used go to `bad`."""
        module, _, function = self.reader.partition(":")
        return cast(Reader, getattr(import_module(module), function))(folder, bad)


TASKS: dict[str, DatasetFormat] = {
    "st-evidence-gen": DatasetFormat(
        "st_evidence_gen.csv, videos at 6 fps, a folder of mask images per entry",
        "evqa.datasets.formats.st_evidence:gen_samples",
    ),
    "st-evidence-mcq": DatasetFormat(
        "st_evidence_mcq.csv, temp_options.json, mask_options.json, option images, videos by name",
        "evqa.datasets.formats.st_evidence_mcq:mcq_samples",
    ),
    "st-evidence-instruct": DatasetFormat(
        "st_evidence.csv (or st_evidence_meta.pkl), frames at 6 fps, a JSON of polygons or run lengths per entry",
        "evqa.datasets.formats.st_evidence_instruct:samples",
    ),
    "st-evidence-instruct-qa": DatasetFormat(
        "st_evidence_vicas.csv beside the frames and annotations of ViCaS",
        "evqa.datasets.formats.vicas:questions",
        "st_evidence_qa.jsonl",
    ),
    "vicas": DatasetFormat(
        "referrals to objects, masks per video or per referral", "evqa.datasets.formats.vicas:samples"
    ),
    "revos": DatasetFormat(
        "meta_expressions_train_.json, mask_dict.json, frames", "evqa.datasets.formats.referring_vos:revos"
    ),
    "mevis": DatasetFormat(
        "train/meta_expressions.json, train/mask_dict.json, frames", "evqa.datasets.formats.referring_vos:mevis"
    ),
    "lvvis": DatasetFormat(
        "meta_expressions.json, mask_dict.json, frames", "evqa.datasets.formats.referring_vos:lvvis"
    ),
    "ref-youtube-vos": DatasetFormat(
        "meta_expressions, mask_dict.pkl or palette images, frames",
        "evqa.datasets.formats.referring_vos:ref_youtube_vos",
    ),
    "ref-davis17": DatasetFormat(
        "meta_expressions, mask_dict.pkl or palette images, frames", "evqa.datasets.formats.referring_vos:ref_davis17"
    ),
    "ref-sav": DatasetFormat(
        "Ref-SAV-Min-Ratio-0.3.json, videos and masklets of SA-V", "evqa.datasets.formats.ref_sav:samples"
    ),
    "groundmore": DatasetFormat(
        "trainval_v2.json, frames and label images per video", "evqa.datasets.formats.groundmore:samples"
    ),
    "llava-instruct": DatasetFormat(
        "one JSON of conversations, images, videos", "evqa.datasets.formats.llava_instruct:samples"
    ),
    "reason-seg": DatasetFormat(
        "ReasonSeg: polygons per picture", "evqa.datasets.formats.lisa:reason_seg", "reason_seg.jsonl"
    ),
    "ade20k": DatasetFormat("label images and objectInfo150.txt", "evqa.datasets.formats.lisa:ade20k", "ade20k.jsonl"),
    "cocostuff": DatasetFormat(
        "label images and labels.txt", "evqa.datasets.formats.lisa:cocostuff", "cocostuff.jsonl"
    ),
    "mapillary": DatasetFormat(
        "label images and config_v2.0.json", "evqa.datasets.formats.lisa:mapillary", "mapillary.jsonl"
    ),
    "paco-lvis": DatasetFormat("annotations in COCO's form", "evqa.datasets.formats.lisa:paco_lvis", "paco_lvis.jsonl"),
    "pascal-part": DatasetFormat(
        "annotations in COCO's form", "evqa.datasets.formats.lisa:pascal_part", "pascal_part.jsonl"
    ),
    "refcoco": DatasetFormat("refs(unc).p and instances.json", "evqa.datasets.formats.lisa:refcoco", "refcoco.jsonl"),
    "refcoco+": DatasetFormat(
        "refs(unc).p and instances.json", "evqa.datasets.formats.lisa:refcoco_plus", "refcoco+.jsonl"
    ),
    "refcocog": DatasetFormat(
        "refs(umd).p and instances.json", "evqa.datasets.formats.lisa:refcocog", "refcocog.jsonl"
    ),
    "refclef": DatasetFormat("refs(unc).p and instances.json", "evqa.datasets.formats.lisa:refclef", "refclef.jsonl"),
    "videorefer-short-caption": DatasetFormat(
        "short descriptions of an object that is pointed at",
        "evqa.datasets.formats.videorefer_inst_it_osprey:videorefer_short_caption",
        "videorefer_short_caption.jsonl",
    ),
    "videorefer-detailed-caption": DatasetFormat(
        "long descriptions of a marked object",
        "evqa.datasets.formats.videorefer_inst_it_osprey:videorefer_detailed_caption",
        "videorefer_detailed_caption.jsonl",
    ),
    "videorefer-qa": DatasetFormat(
        "questions about marked objects",
        "evqa.datasets.formats.videorefer_inst_it_osprey:videorefer_qa",
        "videorefer_qa.jsonl",
    ),
    "videorefer-qa-mem": DatasetFormat(
        "the same questions, whose objects are to be found again",
        "evqa.datasets.formats.videorefer_inst_it_osprey:videorefer_qa_mem",
        "videorefer_qa_mem.jsonl",
    ),
    "inst-it-image": DatasetFormat(
        "short descriptions of an object that is pointed at",
        "evqa.datasets.formats.videorefer_inst_it_osprey:inst_it_image",
        "inst_it_image.jsonl",
    ),
    "inst-it-video-qa": DatasetFormat(
        "questions about marked objects",
        "evqa.datasets.formats.videorefer_inst_it_osprey:inst_it_video_qa",
        "inst_it_video_qa.jsonl",
    ),
    "inst-it-video-qa-mem": DatasetFormat(
        "the same questions, whose objects are to be found again",
        "evqa.datasets.formats.videorefer_inst_it_osprey:inst_it_video_qa_mem",
        "inst_it_video_qa_mem.jsonl",
    ),
    "osprey-conversation": DatasetFormat(
        "conversations about marked regions",
        "evqa.datasets.formats.videorefer_inst_it_osprey:osprey_conversation",
        "osprey_conversation.jsonl",
    ),
    "osprey-pos-neg": DatasetFormat(
        "is a marked region of a category",
        "evqa.datasets.formats.videorefer_inst_it_osprey:osprey_pos_neg",
        "osprey_pos_neg.jsonl",
    ),
    "osprey-detail-description": DatasetFormat(
        "long descriptions of marked regions",
        "evqa.datasets.formats.videorefer_inst_it_osprey:osprey_detail_description",
        "osprey_detail_description.jsonl",
    ),
}


ROWS: dict[str, str] = {
    "st-evidence-gen": "st_evidence_gen.csv",
    "st-evidence-mcq": "st_evidence_mcq.csv",
    "st-evidence-instruct": "st_evidence.csv",
    "st-evidence-instruct-qa": "st_evidence_vicas.csv",
    "vicas": "splits/v1.0/train.json",
    "revos": "meta_expressions_train_.json",
    "mevis": "train/meta_expressions.json",
    "lvvis": "meta_expressions.json",
    "ref-youtube-vos": "meta_expressions/train/meta_expressions.json",
    "ref-davis17": "meta_expressions/train/meta_expressions.json",
    "ref-sav": "Ref-SAV-Min-Ratio-0.3.json",
    "groundmore": "trainval_v2.json",
    "llava-instruct": "llava_v1_5_mix665k_with_videogpt_plus_576k.json",
    "reason-seg": "reason_seg/ReasonSeg/train",
    "ade20k": "ade20k",
    "cocostuff": "cocostuff",
    "mapillary": "mapillary",
    "paco-lvis": "vlpart/paco/annotations/paco_lvis_v1_train.json",
    "pascal-part": "vlpart/pascal_part/train.json",
    "refcoco": "refer_seg/refcoco/refs(unc).p",
    "refcoco+": "refer_seg/refcoco+/refs(unc).p",
    "refcocog": "refer_seg/refcocog/refs(umd).p",
    "refclef": "refer_seg/refclef/refs(unc).p",
    "videorefer-short-caption": "videorefer-short-caption-500k-wo-masks.json",
    "videorefer-detailed-caption": "videorefer-detailed-caption-125k-wo-masks.json",
    "videorefer-qa": "videorefer-qa-75k-wo-masks.json",
    "videorefer-qa-mem": "videorefer-qa-75k-wo-masks.json",
    "inst-it-image": "inst_it_dataset_image_51k_w_mask.json",
    "inst-it-video-qa": "inst_it_dataset_video_21k_w_mask.json",
    "inst-it-video-qa-mem": "inst_it_dataset_video_21k_w_mask.json",
    "osprey-conversation": "osprey_conversation.json",
    "osprey-pos-neg": "osprey_lvis_positive_negative.json",
    "osprey-detail-description": "osprey_detail_description.json",
}
"""Published task -> the file (or folder) whose rows become samples, as a rejected row names it."""

BENCHMARKS = ("st-evidence-gen", "st-evidence-mcq")
"""Gold that predictions are scored against: its rows stay, whatever their times and masks are."""

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

ARCHIVES = ("*.tar.gz", "*.tgz", "*.tar", "*.zip")

LEFT_OUT = "left out"
"""Starts the reason where a part of a row cannot be used and the rest is kept."""


@dataclass(frozen=True)
class PreparationSummary:
    """What became of a published folder."""

    path: Path
    """The file of samples that was written."""
    kept: int
    dropped: tuple[BadLine, ...]
    """Rows that are dropped, and parts left out of rows that are kept."""
    without_video: int
    """Kept samples whose video is not there; predicting them fails."""
    without_masks: int
    """Kept samples without mask annotation; they have no spatial score."""
    rejected: Path
    """The file of the dropped rows and parts: line, id, file, reason."""
    packed: tuple[str, ...] = ()
    """Archives beside the table, which may hold what is missing."""

    def summary(self) -> str:
        """Counts, with the dropped rows by reason."""
        num_parts = sum(bad.reason.startswith(LEFT_OUT) for bad in self.dropped)
        lines = [
            f"{self.path}: {self.kept} samples kept, {len(self.dropped) - num_parts} rows dropped",
            f"  {self.without_video} of the kept have no video file, {self.without_masks} no masks",
        ]
        if self.packed:
            lines.append(f"  unpack these, if that is not done yet (tar -xf): {', '.join(self.packed)}")
        reasons = Counter(bad.reason.partition(":")[0] for bad in self.dropped)
        for reason, count in reasons.most_common():
            first = next(bad for bad in self.dropped if bad.reason.partition(":")[0] == reason)
            did = "" if reason.startswith(LEFT_OUT) else "dropped "
            lines.append(f"  {did}{count}: {reason}; the first is line {first.line}: {first.reason[:200]}")
        if self.dropped:
            lines.append(f"  each of them is in {self.rejected}")
        return "\n".join(lines)


def prepare(task: str, folder: Path, file: str | None = None) -> PreparationSummary:
    """Read a published folder; write its file of samples into it, and beside it the rows that cannot be used.

    Args:
        task: A name of `TASKS`.
        folder: The published files; paths of samples are relative to it.
        file: Name of the file of samples; that of the task where none is given.
    """
    if task not in TASKS:
        raise suggestions.unknown_name_message("task", task, TASKS)
    dropped: list[BadLine] = []
    counts: Counter[str] = Counter()
    links.note_data_set(folder)
    rows = TASKS[task].samples(folder, dropped)
    samples = _counted(rows if task in BENCHMARKS else _valid(rows, folder, dropped), folder, counts)
    path = folder / (file or TASKS[task].file)
    rejected = path.with_name("rejected.jsonl" if path.name == "samples.jsonl" else f"{path.stem}.rejected.jsonl")
    try:
        first = next(samples, None)
        if first is not None:
            write_records(path, chain([first], samples))
        write_rows(
            rejected,
            ({"line": bad.line, "id": _id_of(bad), "file": ROWS[task], "reason": bad.reason} for bad in dropped),
        )
    except OSError as error:
        advice = "; where it cannot be written, prepare with --source DIR" if error.errno in READ_ONLY else ""
        raise ValueError(
            f"cannot prepare {folder}: {error.strerror or error}, {error.filename or ''}{advice}"
        ) from error
    prepared = PreparationSummary(
        path, counts["kept"], tuple(dropped), counts["no video"], counts["no masks"], rejected, _packed(folder, counts)
    )
    if first is None:
        raise ValueError(f"no row is usable, so no samples are written:\n{prepared.summary()}")
    return prepared


def _packed(folder: Path, counts: Counter[str]) -> tuple[str, ...]:
    """Archives of a folder that still lacks files."""
    if counts["kept"] and not counts["no video"] and not counts["no masks"]:
        return ()
    places = (folder, *(folder / name for name in ("data", "gen_mask")))
    return tuple(
        sorted(str(path.relative_to(folder)) for place in places for kind in ARCHIVES for path in place.glob(kind))
    )


def _id_of(bad: BadLine) -> str | None:
    return bad.id if isinstance(bad, BadEntry) else None


def _valid(samples: Iterator[Sample], folder: Path, dropped: list[BadLine]) -> Iterator[Sample]:
    """Samples that training and prediction can use; the others go to `dropped` (see `evqa.datasets.ground_truth`)."""
    seen: set[str] = set()
    for number, sample in enumerate(samples, 1):
        if sample.id in seen:
            dropped.append(BadEntry(number, f"duplicate id: {sample.id} came before", sample.id))
            continue
        seen.add(sample.id)
        try:
            ground_truth.check_ground_truth(sample, ground_truth.video_of(path_inside(folder, sample.video), sample))
        except ValueError as error:
            reason, colon, detail = str(error).partition(":")
            dropped.append(BadEntry(number, f"{reason}: {sample.id}{colon}{detail}", sample.id))
        else:
            yield sample


def _counted(samples: Iterator[Sample], folder: Path, counts: Counter[str]) -> Iterator[Sample]:
    for sample in samples:
        counts["kept"] += 1
        counts["no video"] += not (folder / sample.video).exists()
        counts["no masks"] += not sample.has_masks
        yield sample
