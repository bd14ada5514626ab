"""The data sets: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class DatasetSpec:
    """Where a data set comes from."""

    folder: str
    """Below a root of data (see `roots.DATA`)."""
    about: str
    source: str
    """Where the published files are; the command that fetches or makes them is in the folder's README."""
    licence: str
    prepare: str
    """The command that writes its samples."""
    file: str = "samples.jsonl"
    """The file of samples in the folder; data sets that share a folder have one each."""


MADE_HERE = "made by the command itself"
"""`DatasetRow.source` of data that are not published anywhere."""


class SampleFile(NamedTuple):
    """Where a file of samples lies below the data root."""

    folder: str
    file: str


IN_PLACE: dict[str, SampleFile] = {
    "st-evidence-instruct": SampleFile("st-evidence-instruct/gen_mask", "samples.jsonl"),
    "st-evidence-instruct-qa": SampleFile(".", "st_evidence_instruct_qa.jsonl"),
    "ref-sav": SampleFile(".", "ref_sav.jsonl"),
    "llava-instruct": SampleFile(".", "llava_instruct.jsonl"),
}
"""Data sets whose published folders are called otherwise than ours, or are several: read in place.

The published root is `train/data`: `ref_sav` is beside `sav`, `llava_instruct` beside `videogpt_plus` and `general`,
and `st-evidence-instruct` has `gen_mask` and `gen_qa/vicas`.
"""

PUBLISHED: dict[str, tuple[str, ...]] = {
    "st-evidence-instruct": ("st-evidence-instruct/gen_mask",),
    "st-evidence-instruct-qa": ("st-evidence-instruct/gen_qa",),
    "ref-sav": ("sav",),
    "llava-instruct": ("general", "llava_instruct", "videogpt_plus"),
}
"""Of those data sets, what their readers expect in one folder, below the published root."""


def _shapes(split: str, about: str) -> DatasetSpec:
    return DatasetSpec(
        folder=f"shapes/{split}",
        about=about,
        source=MADE_HERE,
        licence="Apache-2.0",
        prepare=f"python data/shapes/prepare.py --splits {split}",
    )


UNIPIXEL_DATA = "https://huggingface.co/datasets/PolyU-ChenLab/UniPixel-SFT-1M"
"""Where the authors of UniPixel gathered what they trained on."""
SHARED_FOLDERS = {
    "lisa": "https://github.com/dvlab-research/LISA (its README names the source of each set)",
    "videorefer": f"VideoRefer-700K, as in {UNIPIXEL_DATA}",
    "inst_it": f"Inst-IT-Dataset, as in {UNIPIXEL_DATA}",
    "osprey": f"Osprey-724K, as in {UNIPIXEL_DATA}",
}
"""Folder of several data sets -> where the published files are."""
UNSTATED = "its authors' own, see README.md in its folder"
RESEARCH_ONLY = "research, not for commercial use"


def _trained(
    folder: str, about: str, source: str, licence: str = UNSTATED, *, prepare: str = "", file: str = "samples.jsonl"
) -> DatasetSpec:
    """A set of the training mixture."""
    script = f"python data/{prepare or folder}/prepare.py"
    return DatasetSpec(folder=folder, about=about, source=source, licence=licence, prepare=script, file=file)


def _sharing(folder: str, name: str, about: str) -> DatasetSpec:
    """One of the sets that share a folder."""
    file = f"{name.replace('-', '_')}.jsonl"
    script = f"python data/{folder}/prepare.py {name}"
    source = SHARED_FOLDERS[folder]
    return DatasetSpec(folder=folder, about=about, source=source, licence=UNSTATED, prepare=script, file=file)


DATASETS: dict[str, DatasetSpec] = {
    "shapes-train": _shapes("train", "synthetic world, training split (levels 1 and 2)"),
    "shapes-val": _shapes("val", "synthetic world, validation split (level 1)"),
    "shapes-test": _shapes("test", "synthetic world, test split (level 1)"),
    "shapes2-test": _shapes("test2", "synthetic world, harder test split (level 2)"),
    "st-evidence-gen": DatasetSpec(
        folder="st_evidence_gen",
        about="ST-Evidence, generative: answer, evidence in time, evidence masks",
        source="https://huggingface.co/datasets/Salesforce/ST-Evidence-Bench",
        licence="CC-BY-NC-4.0",
        prepare="python data/st_evidence_gen/prepare.py",
    ),
    "st-evidence-mcq": DatasetSpec(
        folder="st_evidence_mcq",
        about="ST-Evidence, multiple choice: answer, evidence in time, evidence in space",
        source="https://huggingface.co/datasets/Salesforce/ST-Evidence-Bench",
        licence="CC-BY-NC-4.0",
        prepare="python data/st_evidence_mcq/prepare.py",
    ),
    "st-evidence-instruct": DatasetSpec(
        folder="st_evidence_instruct",
        about="ST-Evidence-Instruct, the training part with generated masks (gen_mask)",
        source="https://huggingface.co/datasets/Salesforce/ST-Evidence-Instruct",
        licence="CC-BY-NC-4.0",
        prepare="python data/st_evidence_instruct/prepare.py",
    ),
    "st-evidence-instruct-qa": _trained(
        "vicas",
        "ST-Evidence-Instruct, generated questions on the videos and masks of ViCaS (gen_qa)",
        "https://huggingface.co/datasets/Salesforce/ST-Evidence-Instruct",
        "CC-BY-NC-4.0",
        prepare="st_evidence_instruct_qa",
        file="st_evidence_qa.jsonl",
    ),
    "vicas": _trained("vicas", "objects of videos by sentences", "https://github.com/Ali2500/ViCaS", RESEARCH_ONLY),
    "revos": _trained("revos", "objects of videos by reasoning", f"{UNIPIXEL_DATA}, and the authors of ReVOS"),
    "mevis": _trained("mevis", "objects of videos by motion", f"{UNIPIXEL_DATA}, and the authors of MeViS"),
    "lvvis": _trained("lvvis", "objects of videos by category", f"{UNIPIXEL_DATA}, and the authors of LV-VIS"),
    "ref-youtube-vos": _trained("ref_youtube_vos", "objects of videos by expressions", UNIPIXEL_DATA),
    "ref-davis17": _trained("ref_davis17", "objects of videos by expressions", UNIPIXEL_DATA),
    "ref-sav": _trained("ref_sav", "objects of SA-V by descriptions", f"{UNIPIXEL_DATA}, videos of SA-V from Meta"),
    "groundmore": _trained("groundmore", "questions on motion, with word and mask", UNIPIXEL_DATA),
    "llava-instruct": _trained("llava_instruct", "conversations: LLaVA-665k, VideoGPT+ 576k", UNIPIXEL_DATA),
    "reason-seg": _sharing("lisa", "reason-seg", "targets of pictures by reasoning"),
    "ade20k": _sharing("lisa", "ade20k", "classes of pictures"),
    "cocostuff": _sharing("lisa", "cocostuff", "classes of pictures, things and stuff"),
    "mapillary": _sharing("lisa", "mapillary", "classes of street scenes"),
    "paco-lvis": _sharing("lisa", "paco-lvis", "objects of pictures and their parts"),
    "pascal-part": _sharing("lisa", "pascal-part", "objects of pictures and their parts"),
    "refcoco": _sharing("lisa", "refcoco", "objects of pictures by expressions"),
    "refcoco+": _sharing("lisa", "refcoco+", "objects of pictures by expressions without places"),
    "refcocog": _sharing("lisa", "refcocog", "objects of pictures by longer expressions"),
    "refclef": _sharing("lisa", "refclef", "objects of pictures by expressions"),
    "videorefer-short-caption": _sharing(
        "videorefer", "videorefer-short-caption", "short descriptions of an object that is pointed at"
    ),
    "videorefer-detailed-caption": _sharing(
        "videorefer", "videorefer-detailed-caption", "long descriptions of a marked object"
    ),
    "videorefer-qa": _sharing("videorefer", "videorefer-qa", "questions about marked objects"),
    "videorefer-qa-mem": _sharing(
        "videorefer", "videorefer-qa-mem", "the same questions, whose objects are to be found again"
    ),
    "inst-it-image": _sharing("inst_it", "inst-it-image", "short descriptions of an object that is pointed at"),
    "inst-it-video-qa": _sharing("inst_it", "inst-it-video-qa", "questions about marked objects"),
    "inst-it-video-qa-mem": _sharing(
        "inst_it", "inst-it-video-qa-mem", "the same questions, whose objects are to be found again"
    ),
    "osprey-conversation": _sharing("osprey", "osprey-conversation", "conversations about marked regions"),
    "osprey-pos-neg": _sharing("osprey", "osprey-pos-neg", "is a marked region of a category"),
    "osprey-detail-description": _sharing("osprey", "osprey-detail-description", "long descriptions of marked regions"),
}


class HubFiles(NamedTuple):
    """Files of a data set on the hub."""

    repository: str
    files: tuple[str, ...]
    """Patterns."""
    in_own_folder: bool = False
    """Whether the repository holds them below a folder with the name of the data set's own."""
    mirrors: tuple[str, ...] = ()
    """Other names of the repository, tried in turn."""
    note: str = ""
    """What else has to be fetched."""


BENCH = "Salesforce/ST-Evidence-Bench"
UNIPIXEL = "PolyU-ChenLab/UniPixel-SFT-1M"


def _bench(folder: str, note: str = "") -> HubFiles:
    return HubFiles(BENCH, (f"{folder}/*",), in_own_folder=True, mirrors=("Salesforce/ST-Evidence",), note=note)


def _instruct(part: str, note: str = "") -> HubFiles:
    mirrors = ("wang-sj16/ST-Evidence-Instruct",)
    return HubFiles("Salesforce/ST-Evidence-Instruct", (f"{part}/*",), mirrors=mirrors, note=note)


def _unipixel(folder: str, note: str = "") -> HubFiles:
    """A set of UniPixel's collection: a folder, or an archive of one."""
    return HubFiles(UNIPIXEL, (f"{folder}/*", f"{folder}.*"), in_own_folder=True, note=note)


HUB: dict[str, HubFiles] = {
    "st-evidence-gen": _bench("st_evidence_gen"),
    "st-evidence-mcq": _bench("st_evidence_mcq", "the videos are those of NExT-QA, fetched from its authors"),
    "st-evidence-instruct": _instruct("gen_mask"),
    "st-evidence-instruct-qa": _instruct("gen_qa", "its frames and masks are those of ViCaS (vicas)"),
    "vicas": HubFiles("Ali2500/ViCaS", ("annotations/*", "splits/*"), note="the videos come from Oops, see README.md"),
    "revos": _unipixel("revos"),
    "mevis": _unipixel("mevis"),
    "lvvis": _unipixel("lvvis"),
    "ref-youtube-vos": _unipixel("ref_youtube_vos"),
    "ref-davis17": _unipixel("ref_davis17"),
    "ref-sav": _unipixel("ref_sav", "the videos are those of SA-V, from Meta, under its licence"),
    "groundmore": _unipixel("groundmore"),
}
"""Data sets whose files lie on the hub as their readers expect them; no hash is known beforehand.

The benchmark's own come first. Sets that are left out are published under terms that each user has to accept, or in
parts at many places: `DATASETS` says where.
"""
