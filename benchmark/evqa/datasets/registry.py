"""The data sets: one row each, which owns its folder, format, source, licence, and the file of its samples."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.datasets.benchmark_rows import QUESTION_SETS, evaluation_splits
from evqa.datasets.spec import MADE_HERE as MADE_HERE
from evqa.datasets.spec import (
    NON_COMMERCIAL,
    RESEARCH_ONLY,
    SAMPLES,
    UNSTATED,
    HubFiles,
    PublishedLayout,
    SampleFile,
)
from evqa.datasets.spec import DatasetFormat as DatasetFormat
from evqa.datasets.spec import DatasetSpec as DatasetSpec

GENERATIVE = DatasetFormat(
    "st_evidence_gen.csv, videos at 6 fps, a folder of mask images per entry",
    "st_evidence:gen_samples",
    "st_evidence_gen.csv",
)
INSTRUCT = DatasetFormat(
    "st_evidence.csv (or st_evidence_meta.pkl), frames at 6 fps, a JSON of polygons or run lengths per entry",
    "st_evidence_instruct:samples",
    "st_evidence.csv",
)

ST_EVIDENCE_BENCH = "Salesforce/ST-Evidence-Bench"
ST_EVIDENCE_INSTRUCT = "Salesforce/ST-Evidence-Instruct"
UNIPIXEL = "PolyU-ChenLab/UniPixel-SFT-1M"
"""Repository in which the authors of UniPixel collected their training data."""
UNIPIXEL_URL = f"https://huggingface.co/datasets/{UNIPIXEL}"

REF_VOS_ENTRIES = "meta_expressions/train/meta_expressions.json"
REF_VOS_LAYOUT = "meta_expressions, mask_dict.pkl or palette images, frames"


def _shapes(split: str, description: str) -> DatasetSpec:
    """A split of the synthetic data set, written in a layout of ST-Evidence."""
    return DatasetSpec(
        folder=f"shapes/{split}",
        description=description,
        source=MADE_HERE,
        licence="Apache-2.0",
        prepare=f"python data/shapes/prepare.py --splits {split}",
        format=INSTRUCT if split == "train" else GENERATIVE,
        is_benchmark=split != "train",
    )


def _bench(folder: str, description: str, dataset_format: DatasetFormat, note: str = "") -> DatasetSpec:
    """A part of ST-Evidence."""
    mirrors = ("Salesforce/ST-Evidence",)
    return DatasetSpec(
        folder=folder,
        description=description,
        source=f"https://huggingface.co/datasets/{ST_EVIDENCE_BENCH}",
        licence=NON_COMMERCIAL,
        prepare=f"python data/{folder}/prepare.py",
        format=dataset_format,
        is_benchmark=True,
        hub=HubFiles(ST_EVIDENCE_BENCH, (f"{folder}/*",), in_own_folder=True, mirrors=mirrors, note=note),
    )


def _instruct(part: str, note: str = "") -> HubFiles:
    """Files of a part of ST-Evidence-Instruct."""
    return HubFiles(ST_EVIDENCE_INSTRUCT, (f"{part}/*",), mirrors=("wang-sj16/ST-Evidence-Instruct",), note=note)


def _unipixel(  # noqa: PLR0913  (each differs between the data sets)
    folder: str,
    description: str,
    dataset_format: DatasetFormat,
    *,
    origin: str = "",
    note: str = "",
    is_on_hub: bool = True,
    published: PublishedLayout | None = None,
) -> DatasetSpec:
    """A data set of UniPixel's collection, there a folder or an archive of one."""
    return DatasetSpec(
        folder=folder,
        description=description,
        source=f"{UNIPIXEL_URL}, {origin}" if origin else UNIPIXEL_URL,
        licence=UNSTATED,
        prepare=f"python data/{folder}/prepare.py",
        format=dataset_format,
        hub=HubFiles(UNIPIXEL, (f"{folder}/*", f"{folder}.*"), in_own_folder=True, note=note) if is_on_hub else None,
        published=published,
    )


def _sharing(folder: str, name: str, description: str, source: str, dataset_format: DatasetFormat) -> DatasetSpec:
    """A data set that shares its folder with others."""
    return DatasetSpec(
        folder=folder,
        description=description,
        source=source,
        licence=UNSTATED,
        prepare=f"python data/{folder}/prepare.py {name}",
        format=dataset_format,
        file=f"{name.replace('-', '_')}.jsonl",
    )


def _lisa(name: str, description: str, layout: str, entries: str) -> DatasetSpec:
    """A data set of images that LISA trained on."""
    source = "https://github.com/dvlab-research/LISA (its README names the source of each set)"
    reader = f"lisa:{name.replace('-', '_').replace('+', '_plus')}"
    return _sharing("lisa", name, description, source, DatasetFormat(layout, reader, entries))


def _refer(name: str, description: str, split_by: str) -> DatasetSpec:
    """A data set of the refer API: RefCOCO and its relatives."""
    references = f"refs({split_by}).p"
    return _lisa(name, description, f"{references} and instances.json", f"refer_seg/{name}/{references}")


def _regions(folder: str, name: str, description: str, entries: str) -> DatasetSpec:
    """A data set of text about marked objects or regions."""
    source = {
        "videorefer": f"VideoRefer-700K, as in {UNIPIXEL_URL}",
        "inst_it": f"Inst-IT-Dataset, as in {UNIPIXEL_URL}",
        "osprey": f"Osprey-724K, as in {UNIPIXEL_URL}",
    }[folder]
    reader = f"videorefer_inst_it_osprey:{name.replace('-', '_')}"
    return _sharing(folder, name, description, source, DatasetFormat(description, reader, entries))


def _synthetic_episodes(
    folder: str, description: str, layout: DatasetFormat, *, training: Sequence[str], evaluation: Sequence[str]
) -> dict[str, DatasetSpec]:
    """The splits of synthetic episodes, in the layout of LongTVQA or LongTVQA+."""
    return {
        f"{folder.replace('_', '-')}-{split}": DatasetSpec(
            folder=f"{folder}/{split}",
            description=f"{description}, {split} split",
            source=MADE_HERE,
            licence="Apache-2.0",
            prepare=f"python data/{folder}/prepare.py --splits {split}",
            format=layout,
            is_benchmark=split in evaluation,
        )
        for split in (*training, *evaluation)
    }


EPISODES = DatasetFormat(
    "LongTVQA_plus_val.json, subtitles of clips, videos of episodes and clips",
    "tvqa:samples",
    "LongTVQA_plus_val.json",
    ("longtvqa-plus", "val"),
)
TEXT_EPISODES = DatasetFormat(
    "LongTVQA_val.jsonl, subtitles of clips, clip_texts.json, grounding_cache.json",
    "tvqa:samples",
    "LongTVQA_val.jsonl",
    ("longtvqa", "val"),
)


def _tvqa(folder: str, split: str, description: str, entries: str) -> DatasetSpec:
    """A split of a data set of questions about TV episodes; the validation split has the name of the data set."""
    is_long = folder.startswith("long")
    name = folder.replace("_", "-")
    repository = f"longvideoagent/{entries.rpartition('_')[0]}"
    note = "the frames come from the hub's Yuxuan0701/tvqa-frames, see README.md"
    return DatasetSpec(
        folder=folder,
        file=SAMPLES if split == "val" else f"{split}.jsonl",
        description=description,
        source=f"https://huggingface.co/datasets/{repository}"
        if is_long
        else "https://nlp.cs.unc.edu/data/jielei/tvqa",
        licence="MIT; frames and subtitles belong to the owners of the shows" if is_long else UNSTATED,
        prepare=f"python data/{folder}/prepare.py {name if split == 'val' else f'{name}-{split}'}",
        format=DatasetFormat(
            f"{entries}, subtitles of clips or episodes, frames/CLIP/00001.jpg",
            "tvqa:samples",
            entries,
            (name, split),
        ),
        is_benchmark=True,
        hub=HubFiles(repository, ("*.json", "*.jsonl"), note=note) if is_long else None,
    )


def _ego4d_nlq(split: str, words: str, file: str) -> DatasetSpec:
    name = "ego4d-nlq" if split == "val" else f"ego4d-nlq-{split}"
    return DatasetSpec(
        folder="ego4d_nlq",
        file=file,
        description=f"Ego4D natural language queries, {words} split: when in a long first-person video",
        source="https://ego4d-data.org",
        licence="Ego4D licence agreement, to be signed; not for redistribution",
        prepare=f"python data/ego4d_nlq/prepare.py {name}",
        format=DatasetFormat(
            f"ego4d.json, nlq_{split}.json, whole videos by uid", f"ego4d_nlq:{split}_samples", f"nlq_{split}.json"
        ),
        is_benchmark=True,
    )


def _pairs(folder: str, description: str, source: str, layout: DatasetFormat) -> DatasetSpec:
    """A benchmark of judges: pairs of videos with preferences."""
    return DatasetSpec(
        folder=folder,
        description=description,
        source=source,
        licence=UNSTATED,
        prepare=f"python data/{folder}/prepare.py",
        format=layout,
        is_benchmark=True,
    )


DATASETS: dict[str, DatasetSpec] = {
    "shapes-train": _shapes("train", "synthetic videos, training split (levels 1 and 2)"),
    "shapes-val": _shapes("val", "synthetic videos, validation split (level 1)"),
    "shapes-test": _shapes("test", "synthetic videos, test split (level 1)"),
    "shapes2-test": _shapes("test2", "synthetic videos, harder test split (level 2)"),
    "shapes-dev": _shapes("dev", "synthetic videos, larger validation split (level 1), to choose settings"),
    "shapes-large": _shapes("large", "synthetic videos, larger test split (level 1), to compare training methods"),
    "st-evidence-gen": _bench(
        "st_evidence_gen", "ST-Evidence, generative: answer, temporal evidence, evidence masks", GENERATIVE
    ),
    "st-evidence-mcq": _bench(
        "st_evidence_mcq",
        "ST-Evidence, multiple choice: answer, temporal evidence, spatial evidence",
        DatasetFormat(
            "st_evidence_mcq.csv, temp_options.json, mask_options.json, option images, videos by name",
            "st_evidence_mcq:mcq_samples",
            "st_evidence_mcq.csv",
        ),
        note="the videos are those of NExT-QA, fetched from its authors",
    ),
    "lvbench": DatasetSpec(
        folder="lvbench",
        description="LVBench: multiple-choice questions about videos of about an hour, with time references",
        source="https://huggingface.co/datasets/THUDM/LVBench",
        licence="CC-BY-NC-SA-4.0, research only; the videos belong to their authors",
        prepare="python data/lvbench/prepare.py",
        format=DatasetFormat(
            "video_info.meta.jsonl or a flat list of questions, videos or folders of frames by YouTube id",
            "lvbench:samples",
            "video_info.meta.jsonl",
        ),
        is_benchmark=True,
        hub=HubFiles(
            "THUDM/LVBench",
            ("video_info.meta.jsonl",),
            mirrors=("zai-org/LVBench",),
            note="the videos come from YouTube, by their ids, see README.md",
        ),
    ),
    "genai-bench-video": _pairs(
        "genai_bench_video",
        "GenAI-Bench, video generation: pairs of videos with votes of four classes",
        "https://huggingface.co/datasets/TIGER-Lab/GenAI-Bench",
        DatasetFormat(
            "genai_bench_video.json, a list of {prompt, left_video, right_video, vote_type}",
            "video_pairs:genai_bench",
            "genai_bench_video.json",
        ),
    ),
    "videogen-rewardbench": _pairs(
        "videogen_rewardbench",
        "VideoGen-RewardBench: pairs of videos with preferences in TA, MQ, VQ and overall",
        "https://huggingface.co/datasets/KwaiVGI/VideoGen-RewardBench",
        DatasetFormat(
            "videogen-rewardbench.csv and the videos that path_A and path_B name",
            "video_pairs:videogen_rewardbench",
            "videogen-rewardbench.csv",
        ),
    ),
    "mj-bench-video": _pairs(
        "mj_bench_video",
        "MJ-Bench-Video: pairs of videos with preferences in five categories and overall",
        "https://huggingface.co/datasets/MJ-Bench/MJ-BENCH-VIDEO",
        DatasetFormat(
            "mj-bench-video.json, a list of {caption, video_0_path, video_1_path, category_preference, ...}",
            "video_pairs:mj_bench",
            "mj-bench-video.json",
        ),
    ),
    "longvidsearch": DatasetSpec(
        folder="longvidsearch",
        description="LongVidSearch: open questions that need two to four slices of a long video",
        source="https://huggingface.co/datasets/Fishiing/LongVidSearch",
        licence="MIT; the videos belong to their authors",
        prepare="python data/longvidsearch/prepare.py",
        format=DatasetFormat(
            "full-QA(3000).json or dataset/VID_qa.json, embeddings per slice, videos by YouTube id",
            "longvidsearch:samples",
            "full-QA(3000).json",
        ),
        is_benchmark=True,
        hub=HubFiles(
            "Fishiing/LongVidSearch",
            ("full-QA(3000).json", "video_embeddings/*"),
            note="the videos come from YouTube, by their ids, see README.md",
        ),
    ),
    "video-simpleqa": DatasetSpec(
        folder="video_simpleqa",
        description="Video SimpleQA: factual multi-hop questions about short videos, with their chains",
        source="https://github.com/VideoSimpleQA/VideoSimpleQA",
        licence="CC-BY-NC-SA-4.0",
        prepare="python data/video_simpleqa/prepare.py",
        format=DatasetFormat(
            "VideoSimpleQA.json, videos or folders of frames by date", "video_simpleqa:samples", "VideoSimpleQA.json"
        ),
        is_benchmark=True,
    ),
    **_synthetic_episodes(
        "episodes", "synthetic episodes with dialogue", EPISODES, training=("train",), evaluation=("val", "test")
    ),
    **_synthetic_episodes(
        "text_episodes",
        "synthetic episodes without pixels",
        TEXT_EPISODES,
        training=("train", "val"),
        evaluation=("test", "final"),
    ),
    "tvqa": _tvqa("tvqa", "val", "TVQA: multiple choice about clips of TV episodes, with times", "tvqa_val.jsonl"),
    "tvqa-train": _tvqa("tvqa", "train", "TVQA, training split", "tvqa_train.jsonl"),
    "tvqa-test": _tvqa("tvqa", "test", "TVQA, public test split without answers", "tvqa_test_public.jsonl"),
    "tvqa-plus": _tvqa(
        "tvqa_plus", "val", "TVQA+: multiple choice about clips of one show, with times and boxes", "tvqa_plus_val.json"
    ),
    "tvqa-plus-train": _tvqa("tvqa_plus", "train", "TVQA+, training split", "tvqa_plus_train.json"),
    "tvqa-plus-test": _tvqa(
        "tvqa_plus", "test", "TVQA+, test split without answers", "tvqa_plus_test_preprocessed_no_anno.json"
    ),
    "longtvqa": _tvqa("longtvqa", "val", "LongTVQA: the questions of TVQA about whole episodes", "LongTVQA_val.jsonl"),
    "longtvqa-train": _tvqa("longtvqa", "train", "LongTVQA, training split", "LongTVQA_train.jsonl"),
    "longtvqa-plus": _tvqa(
        "longtvqa_plus", "val", "LongTVQA+: the questions of TVQA+ about whole episodes", "LongTVQA_plus_val.json"
    ),
    "longtvqa-plus-train": _tvqa("longtvqa_plus", "train", "LongTVQA+, training split", "LongTVQA_plus_train.json"),
    "ego4d-nlq": _ego4d_nlq("val", "validation", "samples.jsonl"),
    "ego4d-nlq-train": _ego4d_nlq("train", "training", "train.jsonl"),
    "st-evidence-instruct": DatasetSpec(
        folder="st_evidence_instruct",
        description="ST-Evidence-Instruct, the training part with generated masks (gen_mask)",
        source=f"https://huggingface.co/datasets/{ST_EVIDENCE_INSTRUCT}",
        licence=NON_COMMERCIAL,
        prepare="python data/st_evidence_instruct/prepare.py",
        format=INSTRUCT,
        hub=_instruct("gen_mask"),
        published=PublishedLayout(
            SampleFile("st-evidence-instruct/gen_mask", SAMPLES), ("st-evidence-instruct/gen_mask",)
        ),
    ),
    "st-evidence-instruct-qa": DatasetSpec(
        folder="vicas",
        description="ST-Evidence-Instruct, generated questions on the videos and masks of ViCaS (gen_qa)",
        source=f"https://huggingface.co/datasets/{ST_EVIDENCE_INSTRUCT}",
        licence=NON_COMMERCIAL,
        prepare="python data/st_evidence_instruct_qa/prepare.py",
        format=DatasetFormat(
            "st_evidence_vicas.csv beside the frames and annotations of ViCaS",
            "vicas:questions",
            "st_evidence_vicas.csv",
        ),
        file="st_evidence_qa.jsonl",
        hub=_instruct("gen_qa", "its frames and masks are those of ViCaS (vicas)"),
        published=PublishedLayout(SampleFile(".", "st_evidence_instruct_qa.jsonl"), ("st-evidence-instruct/gen_qa",)),
    ),
    "vicas": DatasetSpec(
        folder="vicas",
        description="video objects by sentences",
        source="https://github.com/Ali2500/ViCaS",
        licence=RESEARCH_ONLY,
        prepare="python data/vicas/prepare.py",
        format=DatasetFormat(
            "referrals to objects, masks per video or per referral", "vicas:samples", "splits/v1.0/train.json"
        ),
        hub=HubFiles("Ali2500/ViCaS", ("annotations/*", "splits/*"), note="the videos come from Oops, see README.md"),
    ),
    "revos": _unipixel(
        "revos",
        "video objects by reasoning",
        DatasetFormat(
            "meta_expressions_train_.json, mask_dict.json, frames",
            "referring_vos:revos",
            "meta_expressions_train_.json",
        ),
        origin="and the authors of ReVOS",
    ),
    "mevis": _unipixel(
        "mevis",
        "video objects by motion",
        DatasetFormat(
            "train/meta_expressions.json, train/mask_dict.json, frames",
            "referring_vos:mevis",
            "train/meta_expressions.json",
        ),
        origin="and the authors of MeViS",
    ),
    "lvvis": _unipixel(
        "lvvis",
        "video objects by category",
        DatasetFormat("meta_expressions.json, mask_dict.json, frames", "referring_vos:lvvis", "meta_expressions.json"),
        origin="and the authors of LV-VIS",
    ),
    "ref-youtube-vos": _unipixel(
        "ref_youtube_vos",
        "video objects by expressions",
        DatasetFormat(REF_VOS_LAYOUT, "referring_vos:ref_youtube_vos", REF_VOS_ENTRIES),
    ),
    "ref-davis17": _unipixel(
        "ref_davis17",
        "video objects by expressions",
        DatasetFormat(REF_VOS_LAYOUT, "referring_vos:ref_davis17", REF_VOS_ENTRIES),
    ),
    "ref-sav": _unipixel(
        "ref_sav",
        "objects of SA-V by descriptions",
        DatasetFormat(
            "Ref-SAV-Min-Ratio-0.3.json, videos and masklets of SA-V", "ref_sav:samples", "Ref-SAV-Min-Ratio-0.3.json"
        ),
        origin="videos of SA-V from Meta",
        note="the videos are those of SA-V, from Meta, under its licence",
        published=PublishedLayout(SampleFile(".", "ref_sav.jsonl"), ("sav",)),
    ),
    "groundmore": _unipixel(
        "groundmore",
        "questions about motion, answered in text and masks",
        DatasetFormat("trainval_v2.json, frames and label images per video", "groundmore:samples", "trainval_v2.json"),
    ),
    "llava-instruct": _unipixel(
        "llava_instruct",
        "conversations: LLaVA-665k, VideoGPT+ 576k",
        DatasetFormat(
            "one JSON of conversations, images, videos",
            "llava_instruct:samples",
            "llava_v1_5_mix665k_with_videogpt_plus_576k.json",
        ),
        is_on_hub=False,
        published=PublishedLayout(
            SampleFile(".", "llava_instruct.jsonl"), ("general", "llava_instruct", "videogpt_plus")
        ),
    ),
    "reason-seg": _lisa(
        "reason-seg", "image objects by reasoning", "ReasonSeg: polygons per image", "reason_seg/ReasonSeg/train"
    ),
    "ade20k": _lisa("ade20k", "image classes", "label images and objectInfo150.txt", "ade20k"),
    "cocostuff": _lisa("cocostuff", "image classes, things and stuff", "label images and labels.txt", "cocostuff"),
    "mapillary": _lisa("mapillary", "classes of street scenes", "label images and config_v2.0.json", "mapillary"),
    "paco-lvis": _lisa(
        "paco-lvis",
        "image objects and their parts",
        "annotations in COCO's form",
        "vlpart/paco/annotations/paco_lvis_v1_train.json",
    ),
    "pascal-part": _lisa(
        "pascal-part",
        "image objects and their parts",
        "annotations in COCO's form",
        "vlpart/pascal_part/train.json",
    ),
    "refcoco": _refer("refcoco", "image objects by expressions", "unc"),
    "refcoco+": _refer("refcoco+", "image objects by expressions without locations", "unc"),
    "refcocog": _refer("refcocog", "image objects by longer expressions", "umd"),
    "refclef": _refer("refclef", "image objects by expressions", "unc"),
    "videorefer-short-caption": _regions(
        "videorefer",
        "videorefer-short-caption",
        "short descriptions of a marked object",
        "videorefer-short-caption-500k-wo-masks.json",
    ),
    "videorefer-detailed-caption": _regions(
        "videorefer",
        "videorefer-detailed-caption",
        "long descriptions of a marked object",
        "videorefer-detailed-caption-125k-wo-masks.json",
    ),
    "videorefer-qa": _regions(
        "videorefer", "videorefer-qa", "questions about marked objects", "videorefer-qa-75k-wo-masks.json"
    ),
    "videorefer-qa-mem": _regions(
        "videorefer",
        "videorefer-qa-mem",
        "the same questions, with segmentation of the marked objects",
        "videorefer-qa-75k-wo-masks.json",
    ),
    "inst-it-image": _regions(
        "inst_it",
        "inst-it-image",
        "short descriptions of a marked object",
        "inst_it_dataset_image_51k_w_mask.json",
    ),
    "inst-it-video-qa": _regions(
        "inst_it", "inst-it-video-qa", "questions about marked objects", "inst_it_dataset_video_21k_w_mask.json"
    ),
    "inst-it-video-qa-mem": _regions(
        "inst_it",
        "inst-it-video-qa-mem",
        "the same questions, with segmentation of the marked objects",
        "inst_it_dataset_video_21k_w_mask.json",
    ),
    "osprey-conversation": _regions(
        "osprey", "osprey-conversation", "conversations about marked regions", "osprey_conversation.json"
    ),
    "osprey-pos-neg": _regions(
        "osprey",
        "osprey-pos-neg",
        "whether a marked region is of a category",
        "osprey_lvis_positive_negative.json",
    ),
    "osprey-detail-description": _regions(
        "osprey",
        "osprey-detail-description",
        "long descriptions of marked regions",
        "osprey_detail_description.json",
    ),
}

DATASETS.update(evaluation_splits(DATASETS) | QUESTION_SETS)
