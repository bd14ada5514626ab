"""The published scripts: the command line of each, as the command of `evqa` that does the same.

`python gpt_st_evidence.py --model gpt-4o --fps 1.0` becomes `evqa predict st-evidence-gen gpt-4o --fps 1.0 --out
results/openai/gpt_4o_st_evidence_single_turn_1.0fps`. The folder of a run is called as the published file of
predictions without `.json`, so that the next published command (`--pred_file results/openai/....json`) finds it.
Published spellings are read as they are (`--gpu-num`, `--target_fps`, `seperate`), with `_` or `-`.

Nothing is run here (see `evqa.published`); only `samples.jsonl` of published files that lie in place is written.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from evqa import models
from evqa.datasets import load
from evqa.datasets.formats import prepare
from evqa.datasets.registry import DATASETS
from evqa.hub import checkpoints as hub_checkpoints

logger = logging.getLogger(__name__)

GEN, MCQ = "st-evidence-gen", "st-evidence-mcq"

Words = list[str]


class ScriptCommand(NamedTuple):
    """One command of ours."""

    arguments: Words
    """Behind `evqa`."""
    gpus: str | None = None
    """Value of CUDA_VISIBLE_DEVICES; None = as it is."""
    notes: tuple[str, ...] = ()
    """What of the published command line has no effect here, and why."""


Translate = Callable[[argparse.Namespace], ScriptCommand]


@dataclass(frozen=True)
class PublishedScript:
    """One published script."""

    parser: Callable[[str], argparse.ArgumentParser]
    translate: Translate


@dataclass(frozen=True)
class ModelFamily:
    """A model class of the published scripts."""

    model: str
    """Default of --model."""
    folder: str
    """Below results/, of the generative scripts."""
    choice_folder: str
    """Below result/, of the multiple-choice scripts."""
    word: tuple[str, str] = ("single_turn", "multi_turn")
    """The mode in the name of the output file; "" = it does not stand there."""
    prefix: str = ""
    """Before the name of the model in the name of the output file; "size" = 3b_ or 7b_."""
    options: tuple[str, ...] = ()
    """Options of ours that are always needed."""
    tokens: str = "--max-tokens"
    """Our option for the number of tokens of a reply."""


OUR_TOKENS = "--max-new-tokens"

FAMILIES: dict[str, ModelFamily] = {
    "gpt": ModelFamily("gpt-4o", "openai", "gpt"),
    "gemini": ModelFamily("gemini-2.5-pro", "gemini", "gemini", ("single", "multi")),
    "internvl": ModelFamily("OpenGVLab/InternVL3_5-8B", "internvl", "internvl", ("single", "multi")),
    "qwen2_5vl": ModelFamily("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5vl", "qwen2_5"),
    "qwen3vl": ModelFamily("Qwen/Qwen3-VL-8B-Instruct", "qwen3vl", "qwen"),
    "videollama3": ModelFamily("DAMO-NLP-SG/VideoLLaMA3-7B", "videollama3", "videollama3"),
    "llava_ov1_5": ModelFamily(
        "lmms-lab/LLaVA-OneVision-1.5-8B-Instruct", "llava_ov", "llava_ov", options=("--trust-remote-code",)
    ),
    "unipixel": ModelFamily("PolyU-ChenLab/UniPixel-3B", "unipixel", "unipixel", ("", ""), tokens=OUR_TOKENS),
    "sa2va": ModelFamily("Sa2VA-Qwen2_5-VL-7B", "sa2va", "sa2va", ("", ""), options=("--trust-remote-code",)),
    "ours": ModelFamily("PolyU-ChenLab/UniPixel-3B", "ours", "ours", ("", ""), "size", tokens=OUR_TOKENS),
}
"""Models of the published scripts."""

METHODS = {
    "all": "choose",
    "qa": "choose-answer",
    "time_evidence": "choose-time",
    "spatial_evidence": "choose-space",
    "multiturn": "choose-chat",
}
"""--task of the multiple-choice scripts -> our method."""

MASK_MODES = {"seperate": "separate", "separate": "separate", "concat": "concat", "both": "both"}

WITHOUT_EFFECT = {
    "num_threads": "a video is decoded by as many threads as help",
    "save_every": "every record is written at once",
    "resume": "the same command always goes on where it stopped",
    "skip_existing": "the same command always goes on where it stopped",
    "project_id": "the key is read from GEMINI_API_KEY",
    "location": "the key is read from GEMINI_API_KEY",
    "print_thinking": "thoughts are counted, not kept",
    "max_num": "InternVL gets one tile a frame",
    "input_size": "the processor of the checkpoint knows its size",
    "do_sample": "--temperature alone decides",
    "save_masks": "masks are in the records; evqa export RUN writes the images",
    "skip_viz": "nothing is drawn; evqa report RUN shows the masks",
    "batch_size": "evqa segment asks one question after the other",
    "eval_masks": "masks are always scored",
    "output_file": "the scores are in scores.json beside the predictions",
    "save_metrics": "the scores are in scores.json beside the predictions",
    "verbose": "evqa report RUN shows each sample",
    "dtype": "the numbers are those of the weights on a GPU",
    "base_model": "the folder of the model says what it is",
    "skip_stage2": "each question is asked; a run goes on where it stopped",
    "split": "the published table has one split",
}
"""Published option -> why it has no effect here."""

TRANSLATED = {
    "fps": "--fps",
    "max_frames": "--max-frames",
    "max_size": "--max-size",
    "batch_size": "--batch-size",
    "temperature": "--temperature",
    "dtype": "--dtype",
    "max_new_tokens": "--max-tokens",
    "thinking_budget": "--thinking-budget",
}
"""Published option -> ours, with the same value."""


def translate(script: str, arguments: Sequence[str]) -> ScriptCommand:
    """The command of `evqa` that does what a published script does; a `ValueError` where there is none.

    Raises:
        SystemExit: --help was asked for.
    """
    script = Path(script).name
    if script not in SCRIPTS:
        raise ValueError(f"unknown script {script!r}; the published scripts are: {', '.join(SCRIPTS)}")
    command = SCRIPTS[script]
    parser = command.parser(script)
    namespace = parser.parse_args([_underscored(word) for word in arguments])
    step = command.translate(namespace)
    return step._replace(notes=(*step.notes, *_notes(parser, namespace)))


class ScriptParser(argparse.ArgumentParser):
    """A parser whose errors are `ValueError`s."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ValueError(f"{self.prog}: {message}")


def _rate(word: str) -> str:
    """A number above 0 as it is written, since names of files have it so."""
    if not _number(word) > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word!r}")
    return word


def _seconds(word: str) -> float:
    """A time of at least 0."""
    if not (number := _number(word)) >= 0:
        raise argparse.ArgumentTypeError(f"expected seconds of at least 0, got {word!r}")
    return number


def _number(word: str) -> float:
    """A finite number, NaN for anything else."""
    try:
        number = float(word)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _notes(parser: argparse.ArgumentParser, namespace: argparse.Namespace) -> list[str]:
    """Notes on options that are accepted and have no effect."""
    without = getattr(namespace, "without_effect", ())
    return [
        f"--{name} has no effect: {WITHOUT_EFFECT[name]}"
        for name in without
        if getattr(namespace, name, None) not in {None, parser.get_default(name)}
    ]


# Prediction


def _predicting(family: str, data: str, script: str) -> ScriptParser:
    family_row = FAMILIES[family]
    parser = ScriptParser(
        prog=script, allow_abbrev=False, description=f"Published script, run as evqa predict {data} MODEL."
    )
    parser.add_argument("--model", default=family_row.model)
    parser.add_argument("--fps", type=_rate)
    for name in ("max_frames", "max_size", "batch_size", "temperature", "dtype", "thinking_budget"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--max_new_tokens", "--max_tokens")
    parser.add_argument("--gpu_num", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--delay", type=_seconds)
    parser.add_argument("--chunk", type=int, default=1)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--start_idx", type=int, default=0)
    parser.add_argument("--end_idx", type=int)
    parser.add_argument("--data_file", type=Path)
    parser.add_argument("--video_dir", type=Path)
    flags = ("resume", "print_thinking", "do_sample", "skip_existing", "save_masks", "skip_stage2")
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    values = ("num_threads", "save_every", "project_id", "location", "max_num", "input_size", "split")
    for name in values:
        parser.add_argument(f"--{name}")
    parser.set_defaults(family=family, data=data, without_effect=(*flags, *values))
    return parser


def _generative_parser(family: str, script: str) -> ScriptParser:
    parser = _predicting(family, GEN, script)
    parser.add_argument("--mode", choices=("single-turn", "multi-turn"), default="single-turn")
    parser.add_argument("--output_dir", type=Path)
    return parser


def _generative(namespace: argparse.Namespace) -> ScriptCommand:
    """Output: `results/FOLDER/MODEL_st_evidence[_MODE]_FPSfps`."""
    family_row = FAMILIES[namespace.family]
    word = family_row.word[1 if namespace.mode == "multi-turn" else 0]
    parts = [
        _model_word(namespace.model, family_row),
        "st_evidence",
        *([word] if word else []),
        f"{namespace.fps or _fps(namespace)}fps",
    ]
    out = (namespace.output_dir or Path("results", family_row.folder)) / "_".join(parts)
    method = ["--method", "multi-turn"] if namespace.mode == "multi-turn" else []
    return _predict(namespace, method, out)


def _choice_parser(family: str, script: str) -> ScriptParser:
    parser = _predicting(family, MCQ, script)
    parser.add_argument("--task", choices=tuple(METHODS), default="all" if "qwen" in family else None)
    parser.add_argument("--save_file", type=Path)
    parser.add_argument("--distractors_file", type=Path)
    parser.add_argument("--mask_file", type=Path)
    return parser


def _multiple_choice(namespace: argparse.Namespace) -> ScriptCommand:
    """Output: `result/FOLDER/MODEL_TASK_FPSfps`."""
    if namespace.task is None:
        raise ValueError(f"--task is needed: one of {', '.join(METHODS)}")
    family_row = FAMILIES[namespace.family]
    is_unchanged = namespace.family in {"gpt", "gemini", "internvl", "qwen2_5vl", "qwen3vl"}
    word = Path(namespace.model.rstrip("/")).name if is_unchanged else _model_word(namespace.model, family_row)
    name = f"{word}_{namespace.task}_{namespace.fps or _fps(namespace)}fps"
    out = namespace.save_file.with_suffix("") if namespace.save_file else Path("result", family_row.choice_folder, name)
    return _predict(namespace, ["--method", METHODS[namespace.task]], out)


def _predict(namespace: argparse.Namespace, method: Words, out: Path) -> ScriptCommand:
    family_row = FAMILIES[namespace.family]
    model = _model(namespace.model)
    data = _data(namespace)
    options = [*method, *family_row.options, *_translated(namespace), *_selection(namespace, data)]
    if namespace.delay:
        options += ["--rpm", f"{60 / namespace.delay:g}"]
    if namespace.gpu_num > 1:
        options += (
            ["--tensor-parallel", str(namespace.gpu_num)] if model.endswith("-vllm") else ["--device-map", "auto"]
        )
    return ScriptCommand(["predict", data, model, *options, "--out", str(out)], _gpus(namespace.device))


def _translated(namespace: argparse.Namespace) -> Words:
    table = TRANSLATED | {"max_new_tokens": FAMILIES[namespace.family].tokens}
    values = ((option, getattr(namespace, name, None)) for name, option in table.items())
    return [word for option, value in values if value not in {None, "None"} for word in (option, str(value))]


def _gpus(device: str) -> str | None:
    """CUDA_VISIBLE_DEVICES for a published --device: auto, cpu, cuda, or cuda:N."""
    if device in {"auto", "cuda"}:
        return None
    kind, _, number = device.partition(":")
    if device != "cpu" and not (kind == "cuda" and number.isdecimal()):
        raise ValueError(f"--device is auto, cpu, cuda or cuda:N, got {device!r}")
    return number


def _selection(namespace: argparse.Namespace, data: str) -> Words:
    if namespace.chunk > 1:
        return ["--shard", f"{namespace.index}/{namespace.chunk}"]
    if namespace.start_idx <= 0 <= (namespace.end_idx or 0):
        return [] if namespace.end_idx is None else ["--limit", str(namespace.end_idx)]
    ids = [sample.id for sample in load(data).samples[namespace.start_idx : namespace.end_idx]]
    if not ids:
        raise ValueError(f"no sample from --start_idx {namespace.start_idx} to --end_idx {namespace.end_idx} in {data}")
    return ["--sample-ids", *ids]


def _fps(namespace: argparse.Namespace) -> str:
    """The default, as the name of the published output file writes it: `1` where the option is a whole number."""
    return "1" if namespace.family in {"gemini", "qwen2_5vl", "qwen3vl"} else "1.0"


def _model_word(model: str, family_row: ModelFamily) -> str:
    """A model in the name of an output file."""
    name = Path(model.rstrip("/")).name
    if family_row.folder == "gemini":
        name = name.replace(".", "_")
    word = name.replace("-", "_").lower()
    size = next((f"{size}_" for size in ("3b", "7b") if size in model.lower()), "") if family_row.prefix else ""
    return size + word


def _model(published: str) -> str:
    """The name of our row for a published model id; a folder, and what is unknown, as they are."""
    checkpoints = {_plain(row.hub): name for name, row in hub_checkpoints.CHECKPOINTS.items() if row.hub is not None}
    checkpoint = None if Path(published).is_dir() else checkpoints.get(_plain(published))
    rows = (name for name, row in models.MODELS.items() if row.arguments.get("checkpoint") == checkpoint)
    return published if checkpoint is None else next(rows, published)


def _plain(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2].lower().removesuffix("-hf")


def _data(namespace: argparse.Namespace) -> str:
    """The data set: that of the table that is named, or lies where the published default is; else ours by name.

    The published files lie in `data/` of the folder that a script is started in; samples are made of them in place.
    """
    names = ("data_file", "distractors_file", "mask_file")
    files = [path for name in names if (path := getattr(namespace, name, None)) is not None]
    usual = Path("data", f"{namespace.data.replace('-', '_')}.csv")
    table = namespace.data_file or usual
    if not table.is_file():
        if table != usual:
            raise ValueError(
                f"--data_file: {namespace.data_file} is no file; leave it out to use the data set {namespace.data}"
            )
        return namespace.data
    home = table.parent.parent if table.parent.name == "data" else table.parent
    for path in (*files, *([namespace.video_dir] if namespace.video_dir else [])):
        if not path.absolute().is_relative_to(home.absolute()):
            raise ValueError(f"{path} is not below {home.absolute()}, where {table.name} is: link it there")
    samples = home / DATASETS[namespace.data].file
    if not samples.is_file() or samples.stat().st_mtime < table.stat().st_mtime:
        logger.warning("%s", prepare(namespace.data, home).summary())
    return str(home)


# Masks for expressions


def _segment_parser(script: str) -> ScriptParser:
    parser = ScriptParser(prog=script, allow_abbrev=False, description="Published script, run as evqa segment RUN.")
    parser.add_argument("ref_exp_file", type=Path)
    parser.add_argument("--csv_file", dest="data_file", type=Path)
    parser.add_argument("--video_dir", type=Path)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--model_path", default="PolyU-ChenLab/UniPixel-3B")
    parser.add_argument("--mode", choices=tuple(MASK_MODES), default="both")
    sampling = parser.add_mutually_exclusive_group()
    for name in ("every_n_frames", "target_fps", "frame_num"):
        sampling.add_argument(f"--{name}")
    parser.add_argument("--chunk", type=int, default=1)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--device", default="auto")
    for name in ("dtype", "batch_size", "num_threads"):
        parser.add_argument(f"--{name}")
    flags = ("save_masks", "skip_viz", "skip_existing")
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    parser.set_defaults(data=GEN, without_effect=(*flags, "batch_size", "num_threads", "dtype"))
    return parser


SAMPLING = {"every_n_frames": "--frame-stride", "target_fps": "--fps", "frame_num": "--num-frames"}


def _segment(namespace: argparse.Namespace) -> ScriptCommand:
    values = {option: value for name, option in SAMPLING.items() if (value := getattr(namespace, name)) is not None}
    sampling = [word for pair in (values or {"--fps": "1.0"}).items() for word in pair]
    run = run_of(namespace.ref_exp_file)
    model = _model(namespace.model_path)
    arguments = ["segment", str(run), "--segmenter", model, "--mode", MASK_MODES[namespace.mode], *sampling]
    if not run.is_dir():
        arguments += ["--data", _data(namespace)]
    if namespace.chunk > 1:
        arguments += ["--shard", f"{namespace.index}/{namespace.chunk}"]
    return ScriptCommand(
        [*arguments, *(["--out", str(namespace.output_dir)] if namespace.output_dir else [])], _gpus(namespace.device)
    )


def run_of(path: Path) -> Path:
    """A file of predictions; or, where it is not there, the folder of the run that is called like it."""
    folder = path.with_suffix("")
    return folder if not path.exists() and folder.is_dir() else path


# Scores


def _score_parser(script: str) -> ScriptParser:
    parser = ScriptParser(prog=script, allow_abbrev=False, description="Published script, run as evqa score FILE.")
    parser.add_argument("--pred_file", type=Path, required=True)
    parser.add_argument("--gt_file", dest="data_file", type=Path)
    parser.add_argument("--gt_mask_dir", dest="video_dir", type=Path)
    parser.add_argument("--pred_mask_dir", type=Path)
    parser.add_argument("--mask_mode", choices=("concat", "seperate", "separate"), default="concat")
    parser.add_argument("--num_workers", "--workers")
    parser.add_argument("--output_file")
    parser.add_argument("--eval_masks", action="store_true")
    parser.set_defaults(data=GEN, without_effect=("output_file",))
    return parser


def _score(namespace: argparse.Namespace) -> ScriptCommand:
    """Of a run of general models, the masks are in the run beside it that `evqa segment` made."""
    run = run_of(namespace.pred_file)
    masks: Words = []
    if run.is_dir():
        masked_run = run.with_name(f"{run.name}-{MASK_MODES[namespace.mask_mode]}")
        run = masked_run if namespace.eval_masks and masked_run.is_dir() else run
    else:
        mask_folder = run.with_suffix("") / namespace.mask_mode
        folder = namespace.pred_mask_dir or (mask_folder if mask_folder.is_dir() else None)
        masks = [] if folder is None else ["--masks", str(folder)]
    workers = ["--workers", namespace.num_workers] if namespace.num_workers else []
    return ScriptCommand(["score", str(run), "--data", _data(namespace), *masks, *workers])


def _choice_score_parser(script: str) -> ScriptParser:
    parser = ScriptParser(prog=script, allow_abbrev=False, description="Published script, run as evqa score FILE.")
    parser.add_argument("results_file", type=Path, nargs="?")
    parser.add_argument("--pred_file", type=Path)
    parser.add_argument("--save_metrics")
    parser.add_argument("--verbose", action="store_true")
    parser.set_defaults(data=MCQ, without_effect=("save_metrics", "verbose"), data_file=None, video_dir=None)
    return parser


def _choice_score(namespace: argparse.Namespace) -> ScriptCommand:
    path = namespace.results_file or namespace.pred_file
    if path is None:
        raise ValueError("name the file of results")
    return ScriptCommand(["score", str(run_of(path)), "--data", _data(namespace)])


def _report_parser(pattern: str, script: str) -> ScriptParser:
    parser = ScriptParser(prog=script, allow_abbrev=False, description="Published script, run as evqa report RUN...")
    parser.set_defaults(data=GEN, pattern=pattern, data_file=None, video_dir=None)
    return parser


def _report(namespace: argparse.Namespace) -> ScriptCommand:
    """All that lies below results/ of the folder that the script is started in."""
    run_folders = [path for path in sorted(Path().glob(namespace.pattern)) if (path / "predictions.jsonl").is_file()]
    files = [path for path in sorted(Path().glob(f"{namespace.pattern}.json")) if not path.name.endswith("_eval.json")]
    if not run_folders and not files:
        raise ValueError(f"no predictions in {Path().absolute()}/{namespace.pattern}: predict first")
    return ScriptCommand(["report", *map(str, (*run_folders, *files)), "--data", _data(namespace)])


# One video


def _single_parser(script: str) -> ScriptParser:
    parser = ScriptParser(
        prog=script, allow_abbrev=False, description="Published script, run as evqa ask VIDEO QUESTION."
    )
    parser.add_argument("--video", required=True)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--question")
    choice.add_argument("--prompt")
    parser.add_argument("--options", nargs="+", default=[])
    parser.add_argument("--model", default="PolyU-ChenLab/UniPixel-3B")
    parser.add_argument("--output_dir", default="./inference_output")
    for name in ("fps", "max_frames", "max_new_tokens", "temperature", "dtype"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num_threads")
    flags = ("base_model", "save_masks", "do_sample")
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    parser.set_defaults(without_effect=(*flags, "num_threads"), family="ours")
    return parser


def _single(namespace: argparse.Namespace) -> ScriptCommand:
    options = [word for option in namespace.options for word in ("--option", option)]
    model = _model(namespace.model)
    arguments = [
        "ask",
        namespace.video,
        namespace.question or namespace.prompt,
        *options,
        "--model",
        model,
        *_translated(namespace),
    ]
    return ScriptCommand([*arguments, "--out", namespace.output_dir], _gpus(namespace.device))


# Several GPUs


def _gpus_parser(positionals: Sequence[str], script: str) -> ScriptParser:
    parser = ScriptParser(
        prog=script, allow_abbrev=False, description="Published script, run with a worker on each GPU."
    )
    for name in positionals:
        default = POSITIONALS.get(name)
        parser.add_argument(
            name, nargs=None if default is None else "?", default=default, type=int if isinstance(default, int) else str
        )
    return parser


POSITIONALS: dict[str, int | str] = {"num_gpus": 8, "mode": "seperate", "start_gpu": 0, "task": "all"}
"""Arguments of the published wrappers that may be left out, with their defaults."""


def _on_gpus(inner: ScriptCommand, namespace: argparse.Namespace) -> ScriptCommand:
    arguments = [*inner.arguments, "--workers", str(namespace.num_gpus)]
    if namespace.num_gpus < 1 or namespace.start_gpu < 0:
        raise ValueError(
            f"expected at least 1 GPU, from number 0 on, got {namespace.num_gpus} from {namespace.start_gpu}"
        )
    numbers = range(namespace.start_gpu, namespace.start_gpu + namespace.num_gpus)
    return ScriptCommand(arguments, ",".join(map(str, numbers)) if namespace.start_gpu else None, inner.notes)


def _ours_on_gpus(namespace: argparse.Namespace) -> ScriptCommand:
    return _on_gpus(translate("ours_st_evidence.py", ["--model", namespace.model]), namespace)


def _ours_choices_on_gpus(namespace: argparse.Namespace) -> ScriptCommand:
    words = ["--model", namespace.model, "--task", namespace.task]
    return _on_gpus(translate("ours_st_evidence_mcq.py", words), namespace)


def _segment_on_gpus(namespace: argparse.Namespace) -> ScriptCommand:
    words = [namespace.ref_exp_file, "--mode", namespace.mode, "--target_fps", "1.0"]
    return _on_gpus(translate("unipixel_video_seg.py", words), namespace)


def _checkpoint_parser(script: str) -> ScriptParser:
    parser = ScriptParser(prog=script, allow_abbrev=False, description="Published script, run as evqa benchmark.")
    parser.add_argument("checkpoint")
    return parser


def _evaluate_checkpoint(namespace: argparse.Namespace) -> ScriptCommand:
    return ScriptCommand(["benchmark", "--suite", "unipixel", _model(namespace.checkpoint)])


GENERATIVE_FILES = {"internvl": "internvl_3_5.py"}
CHOICE_FILES = {"internvl": "internvl3_5_st_evidence_mcq.py"}

SCRIPTS: dict[str, PublishedScript] = {
    **{
        GENERATIVE_FILES.get(family, f"{family}_st_evidence.py"): PublishedScript(
            partial(_generative_parser, family), _generative
        )
        for family in FAMILIES
    },
    **{
        CHOICE_FILES.get(family, f"{family}_st_evidence_mcq.py"): PublishedScript(
            partial(_choice_parser, family), _multiple_choice
        )
        for family in FAMILIES
    },
    "ours_st_evidence_single.py": PublishedScript(_single_parser, _single),
    "ours_st_evidence_multigpu.sh": PublishedScript(
        partial(_gpus_parser, ("model", "num_gpus", "start_gpu")), _ours_on_gpus
    ),
    "ours_st_evidence_mcq_multigpu.sh": PublishedScript(
        partial(_gpus_parser, ("model", "num_gpus", "start_gpu", "task")), _ours_choices_on_gpus
    ),
    "unipixel_video_seg.py": PublishedScript(_segment_parser, _segment),
    "unipixel_video_seg_multigpu.sh": PublishedScript(
        partial(_gpus_parser, ("ref_exp_file", "num_gpus", "mode", "start_gpu")), _segment_on_gpus
    ),
    "eval_st_evidence.py": PublishedScript(_score_parser, _score),
    "eval_st_evidence_mcq.py": PublishedScript(_choice_score_parser, _choice_score),
    "eval_st_evidence_all.sh": PublishedScript(partial(_report_parser, "results/*/*"), _report),
    "eval_st_evidence_ours.sh": PublishedScript(partial(_report_parser, "results/ours/*"), _report),
    "auto_eval.sh": PublishedScript(_checkpoint_parser, _evaluate_checkpoint),
}
"""File name of a published script -> what it becomes."""
