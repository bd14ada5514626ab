"""From a data set and a model to runs on disk: who predicts, with which method, into which folder."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from evqa import methods, models
from evqa.files import roots
from evqa.models import Setting
from evqa.runs import locate, merge, prediction_files, runner, segment
from evqa.runs.options import ExecutionOptions
from evqa.runs.runner import RunSummary
from evqa.runs.segment import MODES, ExpressionSegmenter
from evqa.runs.shards import Selection, file_name_of, intersection_of

Overrides = Mapping[str, Setting]
ModeChoice = Literal["separate", "concat", "both"]


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What a model is asked, and how."""

    data: str
    model: str
    method: str | None = None
    """None = what the samples, or else the model, are made for."""
    times: bool = True
    """Whether the model is told the duration and the seconds of the frames."""
    seed: int = 0
    overrides: Overrides = field(default_factory=dict[str, Setting])
    """Settings in place of those of the model's row."""


def predict(asking: PredictConfig, hands: ExecutionOptions, out: Path | None) -> RunSummary:
    """Put a model on a data set; the folder is `outputs/DATA/MODEL-METHOD` where none is given.

    Where `--model-id` says which model the server is asked for, its id follows MODEL, so that a second one has a folder
    of its own.
    """
    models.check_weights(asking.model)
    dataset = locate.load_dataset(asking.data)
    name = asking.method or methods.default_method(models.model_spec(asking.model).method, dataset.samples)
    work = partial(methods.method(name), times=asking.times)
    folder = out or roots.outputs(file_name_of(asking.data), f"{_model_name(asking)}-{name}")
    overrides = models.run_settings(asking.model, asking.overrides, times=asking.times, seed=asking.seed)
    with hands.executor(asking.model, overrides) as crew:
        return runner.run(
            crew,
            work,
            name,
            dataset,
            folder,
            selection=hands.selection(),
            seed=asking.seed,
            times=asking.times,
            restart=hands.restart,
        )


def _model_name(asking: PredictConfig) -> str:
    """The model as a part of a folder's name, with its id where that is not the one of the model's row."""
    model_id = asking.overrides.get("model_id")
    if not model_id or model_id == models.model_spec(asking.model).arguments.get("model_id"):
        return file_name_of(asking.model)
    word = re.sub(r"[^\w.+=@-]+", "-", str(model_id)).strip("-.")
    return f"{file_name_of(asking.model)}-{word[:100]}"


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Which model draws masks for expressions, and how it is asked."""

    model: str
    overrides: Overrides = field(default_factory=dict[str, Setting])
    mode: ModeChoice = "both"


def segment_expressions(
    run: Path, drawing: SegmentConfig, hands: ExecutionOptions, out: Path | None, data: str | None = None
) -> list[RunSummary]:
    """Masks for the expressions of a run's predictions, as a run a mode beside it (or beside `out`)."""
    _require_masks(drawing)
    dataset = locate.dataset_of(run, data)
    sources = segment.text_predictions(prediction_files.open_predictions(locate.file_of(run), dataset).all(dataset))
    selection = hands.selection()
    asked = intersection_of(selection, locate.selection_of(run), dataset)
    known = Selection(only=[sample.id for sample in selection.of(dataset) if sample.id in sources])
    summaries: list[RunSummary] = []
    with hands.executor(drawing.model, drawing.overrides) as crew:
        for mode in MODES if drawing.mode == "both" else (drawing.mode,):
            work = ExpressionSegmenter(mode, sources)
            folder = segment.folder_of(out or run, mode)
            summary = runner.run_samples(
                crew,
                work,
                dataset,
                selection.shard.folder(folder) if selection.shard else folder,
                segment.identity_of(run, dataset, crew, mode),
                selection=known,
                asked=asked,
                restart=hands.restart,
                is_done=work.is_done,
            )
            summaries.append(summary)
    return summaries


def predict_and_segment(
    asking: PredictConfig, drawing: SegmentConfig, hands: ExecutionOptions, out: Path | None = None
) -> list[RunSummary]:
    """Put a model on a data set, and draw masks for its expressions where it has drawn none; `out`: see `predict`."""
    _require_masks(drawing)
    asks, draws = options_per_step(asking.model, hands)
    summaries = [predict(asking, asks, out)]
    if needs_masks(summaries[0].folder):
        gc.collect()  # the first model is in no one's hands any more: the second one gets its memory
        summaries += segment_expressions(summaries[0].folder, drawing, draws, None)
    return summaries


def _require_masks(drawing: SegmentConfig) -> None:
    """Raise a `ValueError` for a model that does not predict masks, before weights are loaded or replies paid for."""
    if not models.predicts_masks(drawing.model, drawing.overrides):
        raise ValueError(f"{drawing.model} does not predict masks: choose a model that does, such as unipixel-3b")


def options_per_step(model: str, hands: ExecutionOptions) -> tuple[ExecutionOptions, ExecutionOptions]:
    """Who predicts and who draws: a model behind an API needs no workers, and is asked by threads of its own number."""
    if not models.is_behind_api(model):
        return hands, hands
    return replace(hands, workers=None, cluster=None), replace(hands, concurrency=None)


def merge_shards(folder: Path) -> merge.MergeSummary:
    """Merge the shards of a run."""
    about = merge.run_info_of_shards(folder)
    dataset = locate.load_dataset(str(about.identity["data"]))
    if dataset.sha256 != about.identity["data_sha256"]:
        raise ValueError(f"{folder} was made on another version of {dataset.name}: predict again")
    return merge.merge(folder, dataset)


def needs_masks(run: Path) -> bool:
    """Whether the last predictions of a run have expressions and no masks."""
    predictions = {one.sample_id: one for one in runner.predictions(locate.file_of(run))}
    return any(one.expressions and one.tracks is None for one in predictions.values())
