"""Answer to one question about one video, with a visualization of the evidence.

Writes into a folder: overlay.mp4 (masks on the frames, spans on a timeline), sheet.png (the same on twelve
frames) and prediction.jsonl. Frames are read and written one at a time, so memory does not depend on the video length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evqa import media, methods, models
from evqa.agents.settings import DEFAULT_SETTINGS, AgentSettings
from evqa.files import jsonl
from evqa.hub import checkpoints
from evqa.media import Video
from evqa.models import AgentConfig, Setting
from evqa.models.base import Model, Models, RunAborted
from evqa.models.canary import Canary, check_images, failure_message
from evqa.models.visual_prompts import VisualPromptModel, VisualPrompts, places_of, with_visual_prompts
from evqa.report.answer import Answer, answer_text
from evqa.report.evidence_files import EvidenceDrawing
from evqa.report.overlay import PromptMark
from evqa.schema import LETTERS, MAIN_AGENT, Prediction, Sample, Track

NOTHING = VisualPrompts()


@dataclass(frozen=True, kw_only=True)
class AskResult:
    """Answer to a question, and paths of the output files."""

    answer: Answer
    record: Path
    overlay: Path | None
    """Video with the evidence; None = the prediction failed."""
    sheet: Path | None

    @property
    def prediction(self) -> Prediction:
        """Prediction of the model."""
        return self.answer.prediction

    def text(self) -> str:
        """Return the answer and the paths as text."""
        lines = [str(self.answer)]
        for label, path in (("overlay", self.overlay), ("sheet", self.sheet), ("record", self.record)):
            if path is not None:
                lines.append(f"{label + ':':9}{path}")
        note = self.answer.note
        return "\n".join([*lines, f"note:    {note}"] if note else lines)


@dataclass(frozen=True, kw_only=True)
class AskSettings:
    """Settings of `ask`, as those of `evqa predict`."""

    method: str | None = None
    """Name in `methods.METHODS`; None = the default of the model."""
    times: bool = True
    """Whether prompts contain the duration and the timestamps of the frames."""
    seed: int = 0
    overrides: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    """Settings of a named model that replace its defaults."""
    agents: Mapping[str, AgentConfig] = field(default_factory=dict[str, AgentConfig])
    """Role -> additional model of a named model, for methods with several models."""
    agent_settings: AgentSettings = DEFAULT_SETTINGS
    """Settings of the methods with an agent."""
    canary: Canary = "auto"
    """Models that are checked for whether they see the images of tool results, by a method with tools."""


DEFAULT = AskSettings()


def ask(  # noqa: PLR0913  (two records of settings, and what is asked)
    video: Path,
    question: str,
    options: Sequence[str],
    model: str | Model,
    out: Path,
    *,
    pointing: VisualPrompts = NOTHING,
    settings: AskSettings = DEFAULT,
) -> AskResult:
    """Ask a model (name, path or instance) a question, and write the prediction and drawings of its evidence to `out`.

    The question refers to the prompted objects as [1], [2], and so on.
    """
    check_question(video, question, options, settings.method)
    answer = answer_of(build_models(model, settings), video, question, options, pointing=pointing, settings=settings)
    try:
        return _write_files(answer, out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to {out}: {reason}; choose another folder with --out") from error


def check_question(video: Path, question: str, options: Sequence[str], method: str | None) -> None:
    """Check what can be checked before a model is built. `ValueError`: the video, the question or the method is bad."""
    media.probe_video(video)
    if not question.strip():
        raise ValueError("the question is empty")
    if len(options) > len(LETTERS):
        raise ValueError(f"at most {len(LETTERS)} options have a letter, got {len(options)}")
    if method is not None:
        methods.method(method)


def answer_of(
    team: Models,
    video: Path,
    question: str,
    options: Sequence[str],
    *,
    pointing: VisualPrompts = NOTHING,
    settings: AskSettings = DEFAULT,
) -> Answer:
    """Ask models a question about a video; `settings` are those that `team` was built with.

    Raises:
        ValueError: As for `check_question`, or the model does not see images of tool results.
    """
    check_question(video, question, options, settings.method)
    main = team.main
    facts = media.probe_video(video)
    prompted_model = (
        with_visual_prompts(main, media.probe_video(video.resolve()), question, pointing) if pointing else None
    )
    sample = Sample(
        id=_id(video),
        video_id=video.stem,
        video=video.resolve(),
        question=prompted_model.question if prompted_model else question,
        options=tuple(options),
    )
    name = settings.method or main.capabilities.default_method
    if methods.image_roles(name):
        _check_images(main, settings.canary)
    prediction = _predicted(name, replace(team, main=prompted_model or main), sample, settings)
    drawing = EvidenceDrawing(
        video=facts,
        prediction=prediction,
        caption=f"{question}\n{answer_text(sample, prediction)}",
        prompts=_prompt_marks(facts, pointing),
        prompt_objects=_prompt_objects(prompted_model, pointing) if prompted_model else (),
    )
    return Answer(sample=sample, prediction=prediction, drawing=drawing, note=_note(main))


def build_models(model: str | Model, settings: AskSettings) -> Models:
    """Build the models of a name or path, with the models of further roles; a built model is returned as it is."""
    if isinstance(model, str):
        times, seed = settings.times, settings.seed
        overrides = models.run_settings(model, settings.overrides, times=times, seed=seed)
        agents = {
            role: replace(agent, overrides=models.run_settings(agent.model, agent.overrides, times=times, seed=seed))
            for role, agent in settings.agents.items()
        }
        return models.build_team(model, overrides, agents)
    if settings.overrides or settings.agents:
        raise ValueError(f"model {model.name!r} is built already: give its settings when it is built")
    return Models(model)


def _check_images(model: Model, canary: Canary) -> None:
    """Choose the transport of images in tool results. `ValueError`: the model does not see them."""
    try:
        check = check_images(model, MAIN_AGENT, canary)
    except RunAborted as error:
        raise ValueError(str(error)) from error
    if check.outcome == "failed":
        raise ValueError(failure_message(check, is_resumed=False))


def _predicted(name: str, team: Models, sample: Sample, settings: AskSettings) -> Prediction:
    """Return the prediction; if the model aborts, the failed prediction with the earlier turns."""
    predict = methods.predictor(name, times=settings.times, settings=settings.agent_settings)
    methods.check(name, team.team, settings.agent_settings)
    try:
        return predict(team, sample)
    except RunAborted as error:
        if error.prediction is None:
            raise ValueError(str(error)) from error
        return error.prediction


def _prompt_marks(video: Video, pointing: VisualPrompts) -> list[PromptMark]:
    """Return the marks of points and boxes; with labels if the model receives the prompts directly (`one_pass`)."""
    return [
        PromptMark(at=place.at, second=place.second, label=f"[{number}]" if pointing.one_pass else "")
        for number, place in enumerate(places_of(video, pointing), start=1)
    ]


def _prompt_objects(model: VisualPromptModel, pointing: VisualPrompts) -> list[Track]:
    """Return the prompted objects, with the labels of the question."""
    first = 1 + (len(model.clip.prompts) if pointing.one_pass else 0)
    return [track.replace(label=f"[{number}]") for number, track in enumerate(model.clip.regions, start=first)]


def _write_files(answer: Answer, out: Path) -> AskResult:
    out.mkdir(parents=True, exist_ok=True)
    record = out / "prediction.jsonl"
    jsonl.write_records(record, [answer.prediction])
    overlay = sheet = None
    pictures = out / "overlay.mp4", out / "sheet.png"
    if answer.error is not None:
        for earlier in pictures:
            if earlier.resolve() != answer.video.path.resolve():
                earlier.unlink(missing_ok=True)  # else it passes for the evidence of this question
    else:
        overlay, sheet = pictures
        answer.drawing.write_video(overlay)
        answer.drawing.write_sheet(sheet)
    return AskResult(answer=answer, record=record, overlay=overlay, sheet=sheet)


def _note(model: Model) -> str:
    """Return the note on the checkpoint of the model; "" = none."""
    name = model.settings.get("checkpoint")
    return checkpoints.checkpoint_note(name) if isinstance(name, str) else ""


def _id(video: Path) -> str:
    """Return a sample id for a file name; characters that an id may not contain become underscores."""
    return re.sub(r"[^\w.-]", "_", video.stem).lstrip(".")[:200] or "video"
