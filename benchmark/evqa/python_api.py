"""Python interface: load a model and ask it about videos, run a model on a data set, score predictions.

`import evqa` gives these functions; each imports what it needs when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from evqa.agents.settings import AgentSettings
    from evqa.ask import AskSettings
    from evqa.datasets import Dataset
    from evqa.models import AgentConfig, Setting
    from evqa.models.base import Models
    from evqa.report.answer import Answer
    from evqa.runs.options import ExecutionOptions
    from evqa.schema import Prediction
    from evqa.scoring.results import Scores

AnyPath = str | os.PathLike[str]
Row = dict[str, str | float | int | None]
"""Row of a table; `pandas.DataFrame` takes a list of them."""


@dataclass(frozen=True)
class LoadedModel:
    """Model with the models of further roles, ready for questions."""

    models: Models
    settings: AskSettings

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.models.main.name

    def ask(  # noqa: PLR0913  (what is asked, and the prompts on the frames)
        self,
        video: AnyPath,
        question: str,
        options: Sequence[str] = (),
        *,
        points: Sequence[str] = (),
        boxes: Sequence[str] = (),
        masks: Sequence[str] = (),
        direct_prompts: bool = False,
        method: str | None = None,
    ) -> Answer:
        """Answer a question about a video, with time segments and masks of the evidence.

        Args:
            video: Video file, or folder of frames (frame rate in its `fps.txt`, else 6).
            question: Question; it refers to prompted objects as [1], [2], ... in the order points, boxes, masks.
            options: Options of the answer; without options the question is open-ended.
            points: Points "X,Y" or "X,Y@SECOND" in pixels.
            boxes: Boxes "X0,Y0,X1,Y1" or "X0,Y0,X1,Y1@SECOND" in pixels.
            masks: Images "FILE" or "FILE@SECOND" of the size of the frames, non-zero = the object.
            direct_prompts: Give points and boxes to the model directly, without tracking the objects first.
            method: Prompting method (`evqa list methods`); None = that of the model.

        Returns:
            Answer, also where the model failed: `Answer.error` has the reason then.

        Raises:
            ValueError: The video cannot be read, or an argument is invalid.
        """
        from evqa import ask
        from evqa.models.visual_prompts import VisualPrompts

        settings = self.settings if method is None else replace(self.settings, method=method)
        prompts = VisualPrompts(points=tuple(points), boxes=tuple(boxes), masks=tuple(masks), one_pass=direct_prompts)
        return ask.answer_of(self.models, Path(video), question, options, pointing=prompts, settings=settings)


def load(
    model: AnyPath,
    *,
    method: str | None = None,
    times: bool = True,
    seed: int = 0,
    agents: Mapping[str, str] | None = None,
    agent_settings: AgentSettings | None = None,
    **settings: Setting,
) -> LoadedModel:
    """Load a model for questions about videos.

    Example: `evqa.load("unipixel-3b", device="cuda").ask("clip.mp4", "What does she pick up?").spans`

    Args:
        model: Name of a model (`evqa list models`), a Hugging Face id, a checkpoint folder, or a .json file of replies.
        method: Prompting method (`evqa list methods`); None = that of the model.
        times: Whether prompts state the duration of the video and the times of its frames.
        seed: Seed of sampling, of models that sample.
        agents: Role -> model, or "MODEL,setting=value", for methods with several models.
        agent_settings: Settings of the methods with an agent.
        **settings: Settings of the model that replace those of its table entry, such as `device`, `fps`, `num_frames`.

    Raises:
        ValueError: A model, a setting, a package or weights are unknown or missing; the message says what to do.
    """
    from evqa import ask
    from evqa.agents.settings import DEFAULT_SETTINGS

    options = ask.AskSettings(
        method=method,
        times=times,
        seed=seed,
        overrides=settings,
        agents=_agent_configs(agents),
        agent_settings=agent_settings or DEFAULT_SETTINGS,
    )
    return LoadedModel(ask.build_models(os.fspath(model), options), options)


def _agent_configs(agents: Mapping[str, str] | None) -> dict[str, AgentConfig]:
    """Models of further roles, from role -> model, or "MODEL,setting=value". `ValueError`: a text has another form."""
    from evqa.models.options import parse_agents

    return parse_agents([f"{role}={text}" for role, text in (agents or {}).items()])


@dataclass(frozen=True)
class RunResult:
    """Run of a model on a data set, on disk."""

    folder: Path
    num_ok: int
    """Samples that this call predicted without an error."""
    num_skipped: int
    """Samples that an earlier call had predicted."""
    failed: Mapping[str, str]
    """Sample id -> error, of this call; the same call retries them."""

    def predictions(self) -> Iterator[Prediction]:
        """Yield the last prediction of each sample."""
        from evqa.runs import run_folder

        yield from run_folder.last_predictions(self.folder / "predictions.jsonl")

    def score(self, preset: str = "both", *, workers: int = 1) -> ScoreTable:
        """Score the run, see `score`."""
        return score(self.folder, preset=preset, workers=workers)


def run(  # noqa: PLR0913  (each is an option of evqa predict)
    data: AnyPath,
    model: AnyPath,
    *,
    method: str | None = None,
    out: AnyPath | None = None,
    times: bool = True,
    seed: int = 0,
    execution: ExecutionOptions | None = None,
    agents: Mapping[str, str] | None = None,
    agent_settings: AgentSettings | None = None,
    limit: int | None = None,
    **settings: Setting,
) -> RunResult:
    """Run a model on a data set, as `evqa predict`: the same call resumes an interrupted run and retries failures.

    Args:
        data: Name of a data set (`evqa list datasets`), or its folder.
        model: As for `load`.
        method: As for `load`.
        out: Folder of the run; None = `outputs/DATA/MODEL-METHOD`.
        times: As for `load`.
        seed: As for `load`.
        execution: Samples and workers.
        agents: As for `load`.
        agent_settings: As for `load`.
        limit: First samples only; shorthand for that of `execution`.
        **settings: As for `load`.

    Raises:
        ValueError: A name, a setting or a file is unknown or missing; the message says what to do.
    """
    from evqa.agents.settings import DEFAULT_SETTINGS
    from evqa.runs import pipeline
    from evqa.runs.options import ExecutionOptions

    options = execution or ExecutionOptions()
    config = pipeline.PredictConfig(
        data=os.fspath(data),
        model=os.fspath(model),
        method=method,
        times=times,
        seed=seed,
        overrides=settings,
        agents=_agent_configs(agents),
        agent_settings=agent_settings or DEFAULT_SETTINGS,
    )
    options = options if limit is None else replace(options, limit=limit)
    summary = pipeline.predict(config, options, None if out is None else Path(out))
    return RunResult(summary.folder, summary.num_ok, summary.skipped, summary.failed)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a run under one or more presets, and of the trivial baselines."""

    scores: Sequence[Scores]
    """Scores by preset."""
    baselines: Sequence[Scores]
    dataset: Dataset
    path: Path
    """File `scores.json`."""

    def rows(self, *, baselines: bool = False) -> list[Row]:
        """Return a row per preset and metric: mean and 95 % interval in the unit of the row, numbers of samples.

        Args:
            baselines: Whether the rows of the trivial baselines follow.
        """
        entries = (*self.scores, *(self.baselines if baselines else ()))
        return [_metric_row(entry, title) for entry in entries for title in entry.metrics]

    def samples(self) -> list[Row]:
        """Return a row per preset and sample, in percent where a metric is a fraction."""
        from evqa.report import sample_table

        return [dict(row) for row in sample_table.rows(self.scores, self.dataset)]

    def __str__(self) -> str:
        from evqa.report import tables

        return tables.report(self.scores, self.baselines, "text")


def _metric_row(scores: Scores, title: str) -> Row:
    from evqa.metrics.units import display_value

    mean = scores.metrics[title]
    values = {"mean": mean.mean, "low": mean.low, "high": mean.high}
    return {
        "run": scores.name,
        "preset": scores.preset,
        "metric": title,
        "unit": "percent" if mean.unit == "fraction" else mean.unit,
        **{name: None if value is None else display_value(value, mean.unit) for name, value in values.items()},
        **{name: getattr(mean, name) for name in ("n_total", "n_scored", "n_missing", "n_failed", "n_unparsed")},
    }


def score(  # noqa: PLR0913  (each is an option of evqa score)
    run: AnyPath,
    *,
    data: AnyPath | None = None,
    preset: str = "both",
    masks: AnyPath | None = None,
    train_data: str | None = None,
    baselines: Literal["task", "all", "fast", "none"] = "task",
    workers: int = 1,
) -> ScoreTable:
    """Score predictions, as `evqa score`, and write `scores.json`.

    Args:
        run: Folder of a run, or a prediction file of any format that `evqa score` reads.
        data: Data set of the run; None = the one that the run names.
        preset: strict, st-evidence, both, agent, or the preset of another benchmark (`evqa list presets`).
        masks: Folder with ENTRY/masks/00000.png for a prediction file of the original scripts.
        train_data: Data set on which the trivial baselines are fitted; None = that of the run.
        baselines: Trivial baselines: those of the task, all, fast = without mask baselines, or none.
        workers: Processes that compare masks; the scores do not depend on it.

    Raises:
        ValueError: A file or a name is unknown or invalid; the message says what to do.
    """
    from evqa.runs import locate
    from evqa.scoring import evaluate

    path = Path(run)
    dataset = locate.dataset_of(path, None if data is None else os.fspath(data))
    part = evaluate.subset_of(dataset, locate.selection_of(path))
    kind = None if baselines == "task" else baselines
    inputs = evaluate.ScoreInputs(path, None if masks is None else Path(masks))
    return ScoreTable(*evaluate.evaluate_run(inputs, part, preset, train=train_data, kind=kind, workers=workers))
