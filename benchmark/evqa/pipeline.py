"""From a data set and a model to runs on disk: who predicts, with which method, into which folder."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from evqa import evaluate, inputs, merge, methods, models, roots, runner, segment
from evqa.hands import Hands
from evqa.models import Setting
from evqa.runner import RunSummary
from evqa.segment import MODES, Segmenting
from evqa.shards import Selection, in_both, plain

Overrides = Mapping[str, Setting]
ModeChoice = Literal["separate", "concat", "both"]


@dataclass(frozen=True, kw_only=True)
class Asking:
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


def predict(asking: Asking, hands: Hands, out: Path | None) -> RunSummary:
    """Put a model on a data set; the folder is `outputs/DATA/MODEL-METHOD` where none is given.

    Where `--model-id` says which model the server is asked for, its id follows MODEL, so that a second one has a folder
    of its own.
    """
    models.check_weights(asking.model)
    dataset = evaluate.load_dataset(asking.data)
    name = asking.method or methods.default(asking.model, dataset.samples[0])
    work = partial(methods.method(name), times=asking.times)
    folder = out or roots.outputs(plain(asking.data), f"{_model_name(asking)}-{name}")
    overrides = models.run_settings(asking.model, asking.overrides, times=asking.times, seed=asking.seed)
    with hands.crew(asking.model, overrides) as crew:
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


def _model_name(asking: Asking) -> str:
    """The model as a part of a folder's name, with its id where that is not the one of the model's row."""
    model_id = asking.overrides.get("model_id")
    if not model_id or model_id == models.row(asking.model).arguments.get("model_id"):
        return plain(asking.model)
    word = re.sub(r"[^\w.+=@-]+", "-", str(model_id)).strip("-.")
    return f"{plain(asking.model)}-{word[:100]}"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Which model draws masks for expressions, and how it is asked."""

    model: str
    overrides: Overrides = field(default_factory=dict[str, Setting])
    mode: ModeChoice = "both"


def draw(run: Path, drawing: Drawing, hands: Hands, out: Path | None, data: str | None = None) -> list[RunSummary]:
    """Masks for the expressions of a run's predictions, as a run a mode beside it (or beside `out`)."""
    _check_draws(drawing.model)
    dataset = evaluate.dataset_of(run, data)
    sources = segment.sources_of(inputs.predictions(evaluate.file_of(run), dataset).all(dataset))
    selection = hands.selection()
    asked = in_both(selection, evaluate.selection_of(run), dataset)
    known = Selection(only=[sample.id for sample in selection.of(dataset) if sample.id in sources])
    summaries: list[RunSummary] = []
    with hands.crew(drawing.model, drawing.overrides) as crew:
        for mode in MODES if drawing.mode == "both" else (drawing.mode,):
            work = Segmenting(mode, sources)
            folder = segment.folder_of(out or run, mode)
            summary = runner.fill(
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


def predict_and_draw(asking: Asking, drawing: Drawing, hands: Hands, out: Path | None = None) -> list[RunSummary]:
    """Put a model on a data set, and draw masks for its expressions where it has drawn none; `out`: see `predict`."""
    _check_draws(drawing.model)
    asks, draws = hands_of_steps(asking.model, hands)
    summaries = [predict(asking, asks, out)]
    if needs_masks(summaries[0].folder):
        gc.collect()  # the first model is in no one's hands any more: the second one gets its memory
        summaries += draw(summaries[0].folder, drawing, draws, None)
    return summaries


def _check_draws(model: str) -> None:
    """Before replies are paid for that can hold no masks."""
    if model in models.API_MODELS:
        raise ValueError(f"{model} replies in words alone: choose a model that draws, such as unipixel-3b")
    models.row(model)  # the error for an unknown one comes now


def hands_of_steps(model: str, hands: Hands) -> tuple[Hands, Hands]:
    """Who predicts and who draws: a model behind an API needs no workers, and is asked by threads of its own number."""
    if not models.is_behind_api(model):
        return hands, hands
    return replace(hands, workers=None, cluster=None), replace(hands, concurrency=None)


def join(folder: Path) -> merge.Merged:
    """Merge the shards of a run."""
    about = merge.described(folder)
    dataset = evaluate.load_dataset(str(about.identity["data"]))
    if dataset.sha256 != about.identity["data_sha256"]:
        raise ValueError(f"{folder} was made on another version of {dataset.name}: predict again")
    return merge.merge(folder, dataset)


def needs_masks(run: Path) -> bool:
    """Whether the last predictions of a run have expressions and no masks."""
    predictions = {one.sample: one for one in runner.predictions(evaluate.file_of(run))}
    return any(one.expressions and one.tracks is None for one in predictions.values())
