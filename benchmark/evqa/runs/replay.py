"""Replay of agents from their records: the tools run again, and models are replaced by what they replied.

`replay_run` repeats every conversation of a run without a model and compares the result with the record, byte for byte
but for the wall time. `EvidenceReplay` gives the recorded evidence of each sample to another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from evqa import methods, models, prompts
from evqa.agents import frame_images, grounding_cache, instructions, loop
from evqa.agents.episode import Episode, EpisodeSetup
from evqa.agents.grounding import GROUNDING
from evqa.agents.looking import VISION
from evqa.agents.sample_video import open_grid, spread
from evqa.agents.segment_tool import SEGMENTER
from evqa.agents.settings import EPISODE_FILES, AgentSettings, EpisodeSettings, JudgeSettings, StageSettings
from evqa.agents.transcript import Transcript, evidence_fields
from evqa.datasets import Dataset
from evqa.methods import episodes, stages
from evqa.models.base import Capabilities, ModelError, Models, RequestTooLarge, RunAborted
from evqa.models.messages import Decoding, Message, Reply, ToolSpec, VideoMasks
from evqa.runs import image_checks, locate, run_folder
from evqa.runs.run_folder import Identity
from evqa.schema import MAIN_AGENT, SWAPPED_AGENT, FrameRef, Prediction, Sample, Turn
from evqa.stages.cache import ShotCache
from evqa.stages.runner import BATCH

RANKER = "bm25"
"""Model that ranks clips without replies."""

AnySettings = TypeVar("AnySettings", AgentSettings, JudgeSettings, EpisodeSettings, StageSettings)

_shots = ShotCache()

MAX_EXCERPT = 120
"""Characters of each side of a difference."""


@dataclass(frozen=True)
class RecordDifference:
    """First place at which a repeated conversation differs from its record."""

    sample_id: str
    place: str
    """Field of the prediction, such as `turns.2.results.0.text`."""
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return f"{self.sample_id}: {self.place}: recorded {self.recorded}, replayed {self.replayed}"


class RecordedModel:
    """Model that gives the replies of one role in a record, in order.

    A request that was made smaller is refused as often as it was then.
    """

    def __init__(self, name: str, turns: Sequence[Turn], prediction: Prediction, capabilities: Capabilities) -> None:
        """Start with the first reply.

        Args:
            name: name of the model.
            turns: turns of the role.
            prediction: the record; a failed one fails again after its last turn.
            capabilities: capabilities of the model.
        """
        self.name, self.capabilities = name, capabilities
        self.settings: Mapping[str, str | int | float | bool | None] = {}
        self._turns, self._last = iter(turns), turns[-1] if turns else None
        self._prediction = prediction
        self._turn: Turn | None = None
        self._num_refusals = 0

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Return the next reply of the record; a `ModelError` or `RunAborted` where the record has none."""
        del messages, tools, decoding
        turn = self._turn or next(self._turns, None)
        if turn is None:
            raise self._error()
        steps = [step for step in turn.steps if not step.startswith(BATCH)]
        if self._num_refusals < len(steps):
            self._turn, self._num_refusals = turn, self._num_refusals + 1
            raise RequestTooLarge(steps[self._num_refusals - 1])
        self._turn, self._num_refusals = None, 0
        if turn.finish in {"error", "unknown"} and turn is self._prediction.turns[-1] and self._prediction.error:
            error = self._error()
            error.usage, error.partial = turn.usage, turn.reply
            raise error
        return Reply(
            text=turn.reply,
            masks=self._prediction_masks() if turn is self._last and turn.agent == MAIN_AGENT else _masks_of(turn),
            usage=turn.usage,
            finish=turn.finish,
            option_logprobs=turn.option_logprobs,
            calls=turn.calls,
            steps=tuple(step for step in turn.steps if step.startswith(BATCH)),
        )

    def _prediction_masks(self) -> VideoMasks | None:
        """Masks of the prediction: those of the last reply of the main agent."""
        record = self._prediction
        if record.tracks is None or record.mask_size is None or record.num_frames is None:
            return None
        return VideoMasks(record.tracks, record.mask_size, record.num_frames, record.mask_frames)

    def _error(self) -> ModelError | RunAborted:
        kind, _, reason = (self._prediction.error or "ModelError: the record has no further reply").partition(": ")
        kinds = {"RunAborted": RunAborted, "RequestTooLarge": RequestTooLarge}
        return kinds.get(kind, ModelError)(reason)


def replay_run(run: Path, dataset: Dataset, settings: AgentSettings) -> Iterator[tuple[str, RecordDifference | None]]:
    """Repeat each conversation of a run.

    Args:
        run: folder of a run of a method with an agent.
        dataset: data set of the run.
        settings: folders of the frame search; the other settings are those of the run.

    Yields:
        (sample id, first difference; None = equal to the record).

    Raises:
        ValueError: the run has another method, or its settings cannot be read.
    """
    info = run_folder.read_run_info(run)
    identity = info.identity
    name = str(identity["method"])
    method = methods.AGENT_METHODS.get(name)
    if method is None or not method.is_replayable:
        names = ", ".join(name for name, spec in methods.AGENT_METHODS.items() if spec.is_replayable)
        raise ValueError(f"{run} has the method {name}: only runs of {names} can be replayed")
    settings = settings_of(identity, settings)
    transport = image_checks.transports(info.image_checks).get(MAIN_AGENT, "user")
    roles = run_folder.agent_roles(identity)
    spec = models.MODELS.get(str(identity["model"]))
    if spec is not None and spec.predicts_masks:
        roles.append(SEGMENTER)
    capabilities = {role: _capabilities(role) for role in roles}
    capabilities[MAIN_AGENT] = replace(_capabilities(MAIN_AGENT), tool_images=transport)
    if dialect := identity.get("model.tool_dialect"):
        main = replace(capabilities[MAIN_AGENT], tools="text", tool_dialect=str(dialect))
        capabilities |= {MAIN_AGENT: main, SWAPPED_AGENT: main}
    times = identity.get("times") is not False
    samples = {sample.id: sample for sample in dataset.samples}
    for record in run_folder.last_predictions(locate.file_of(run)):
        if (sample := samples.get(record.sample_id)) is not None:
            repeated = replay_sample(name, sample, record, settings, capabilities=capabilities, times=times)
            yield record.sample_id, first_difference(record, repeated)


def replay_sample(
    name: str,
    sample: Sample,
    record: Prediction,
    settings: AgentSettings,
    *,
    capabilities: Mapping[str, Capabilities],
    times: bool,
) -> Prediction:
    """Repeat the conversation of one record with the replies in it.

    Args:
        name: method.
        sample: sample of the record.
        record: prediction with its turns.
        settings: settings of the method.
        capabilities: role -> capabilities of its model, whether or not the record has turns of it.
        times: as for the method.
    """
    if name == "stages":
        return _replay_stages(sample, record, settings)
    limits = replace(settings, max_sample_seconds=None)
    if name == "episode" and settings.episode.prompts == "full":
        limits = replace(limits, episode=replace(limits.episode, actions=episodes.recorded_actions(record)))
    if record.stop == "timeout":  # wall time is not repeatable: the same turn becomes the last one
        limits = replace(limits, max_turns=sum(turn.agent == MAIN_AGENT for turn in record.turns) - 1)
    roles = dict.fromkeys((MAIN_AGENT, *capabilities, *(turn.agent for turn in record.turns)))
    source = record.replace(turns=_model_turns(record, settings))
    by_role = {
        role: _recorded_model(role, source, capabilities.get(role)) for role in roles if not _is_ranked(role, source)
    }
    team = {role: model for role, model in by_role.items() if role != MAIN_AGENT}
    try:
        repeated = methods.predictor(name, times=times, settings=limits)(Models(by_role[MAIN_AGENT], team), sample)
    except RunAborted as error:
        repeated = error.prediction or Transcript(sample).failure(error)
    stop = record.stop if record.stop == "timeout" and repeated.stop == "max_turns" else repeated.stop
    return repeated.replace(turns=_with_model_names(repeated.turns, record.turns), stop=stop)


def _replay_stages(sample: Sample, record: Prediction, settings: AgentSettings) -> Prediction:
    """As `replay_sample`, of staged localisation: one model has all turns, and each reply is that of the record."""
    model = RecordedModel(MAIN_AGENT, record.turns, record, _capabilities(MAIN_AGENT))
    try:
        return stages.stages(Models(model), sample, settings=settings, cache=_shots)
    except RunAborted as error:
        return error.prediction or Transcript(sample).failure(error)


def _with_model_names(turns: Sequence[Turn], recorded: Sequence[Turn]) -> tuple[Turn, ...]:
    """Turns with the names of the models of the record: those of the replay are roles."""
    named_turns = [turn.replace(model=old.model) for turn, old in zip(turns, recorded, strict=False)]
    return (*named_turns, *turns[len(recorded) :])


def first_difference(record: Prediction, replayed: Prediction) -> RecordDifference | None:
    """The first field in which two predictions of a sample differ, but for the wall time; None = they are equal.

    Errors come first: an error is the reason for all other differences.
    """
    old, new = (prediction.replace(seconds=0.0).model_dump(mode="json") for prediction in (record, replayed))
    differences = list(_differences(old, new, ""))
    if not differences:
        return None
    is_error = [place == "error" for place, _, _ in differences]
    place, recorded, repeated = differences[is_error.index(True) if any(is_error) else 0]
    start = _excerpt_start(recorded, repeated)
    return RecordDifference(record.sample_id, place, _excerpt(recorded, start), _excerpt(repeated, start))


def settings_of(identity: Identity, available: AgentSettings) -> AgentSettings:
    """Settings of a run's method.

    Args:
        identity: identity of the run.
        available: folders of the frame search, and the files that the run read, which are not in its record.

    Raises:
        ValueError: a file that the run read is not given, or has changed.
    """
    recorded: dict[str, Any] = {
        key.removeprefix("method."): value for key, value in identity.items() if key.startswith("method.")
    }
    digests = {name: recorded.pop(name, None) for name in EPISODE_FILES}
    files = {name: _checked_file(name, digest, getattr(available.episode, name)) for name, digest in digests.items()}
    return replace(
        _restored(available, recorded),
        judge=_restored(available.judge, recorded),
        episode=_restored(replace(available.episode, **files), recorded),
        stages=_restored(available.stages, recorded),
    )


def _checked_file(name: str, digest: object, path: Path | None) -> Path | None:
    """The file that a run read; None = it read none."""
    if digest is None:
        return None
    option = f"--{name.replace('_', '-')}"
    if path is None:
        raise ValueError(f"the run read a file with {option}, which is not in its record: give it again")
    if grounding_cache.digest(path) != digest:
        raise ValueError(f"{option} {path}: the file differs from the one that the run read")
    return path


def _restored(settings: AnySettings, recorded: Mapping[str, Any]) -> AnySettings:
    """The settings with the recorded values."""
    return replace(settings, **{item.name: recorded[item.name] for item in fields(settings) if item.name in recorded})


def evidence_identity(source: Identity, identity: Identity, evidence: EvidenceReplay) -> Identity:
    """Identity of a run on the evidence of another one: its identity, and that of the source."""
    of_source = {f"evidence.{key}": value for key, value in source.items() if key not in run_folder.DATA_KEYS}
    return identity | of_source | {"evidence.turns": evidence.turns, "evidence.max_frames": evidence.max_frames}


@dataclass(frozen=True)
class EvidenceReplay:
    """Predictor that gives the evidence of earlier predictions to another model, which has to answer."""

    sources: Mapping[str, Prediction]
    """Sample id -> the prediction with the trace."""
    settings: AgentSettings
    turns: int | None = None
    """Only the evidence of the first turns of the main agent; None = all."""
    max_frames: int = 64
    """Most frames that the model gets; of more, those at equal distances."""

    def __call__(self, models: Models, sample: Sample) -> Prediction:
        """The prediction of the model of the run from the frames that tools returned, and nothing else."""
        transcript = Transcript(sample)
        with transcript:
            grid = open_grid(sample, self.settings.grid_fps)
            indices = spread([frame.index for frame in self._frames(sample.id)], self.max_frames)
            parts, _ = frame_images.read_frame_parts(grid, indices, self.settings.image_side) if indices else ([], [])
            request = instructions.inspection_request(sample, must_answer=True)
            setup = EpisodeSetup(
                opening=instructions.opening(instructions.INSPECTOR, sample, "", request, parts),
                answer_fields=evidence_fields(sample),
                answer_request=instructions.last_request(request),
                answer_format=request,
            )
            return loop.run(
                models.main, Episode(setup=setup, transcript=transcript, capabilities=models.main.capabilities)
            )
        return transcript.prediction()

    def _frames(self, sample_id: str) -> list[FrameRef]:
        """Frames that the tools of the first turns returned, or that were in the first prompt."""
        source = self.sources.get(sample_id)
        if source is None:
            raise ValueError("the replayed run has no prediction of this sample")
        starts = [place for place, turn in enumerate(source.turns) if turn.agent == MAIN_AGENT]
        end = len(source.turns) if self.turns is None or self.turns >= len(starts) else starts[self.turns]
        opening = source.turns[0].frames if source.turns else ()
        frames = [frame for turn in source.turns[:end] for result in turn.results for frame in result.frames]
        looks = [frame for turn in source.turns[:end] if turn.agent == VISION for frame in turn.frames]
        return [frame for frame in (*opening, *frames, *looks) if frame.video == 0]


def _model_turns(record: Prediction, settings: AgentSettings) -> tuple[Turn, ...]:
    """Turns of models, without the clips that a grounding cache gave: it is read again."""
    path = settings.episode.grounding_cache
    if path is None:
        return record.turns
    name = grounding_cache.read_cache(path).name
    return tuple(turn for turn in record.turns if turn.agent != GROUNDING or turn.model != name)


def _recorded_model(role: str, record: Prediction, capabilities: Capabilities | None) -> RecordedModel:
    turns = [turn for turn in record.turns if turn.agent == role]
    capabilities = capabilities or _capabilities(role)
    if role == VISION and any(turn.tracks is not None for turn in turns):
        is_trained = any(turn.prompt.endswith(prompts.TRAINED_INSTRUCTION) for turn in turns)
        reply_format = "evidence" if is_trained else capabilities.reply_format
        capabilities = replace(capabilities, predicts_masks=True, reply_format=reply_format)
    return RecordedModel(role, turns, record, capabilities)


def _is_ranked(role: str, record: Prediction) -> bool:
    """Whether the clips of a record were ranked by bm25, which is repeated as a tool is."""
    names = [turn.model for turn in record.turns if turn.agent == role]
    return role == GROUNDING and set(names) <= {RANKER}


def _capabilities(role: str) -> Capabilities:
    return Capabilities(tools="native", predicts_masks=role == SEGMENTER)


def _masks_of(turn: Turn) -> VideoMasks | None:
    """Masks of a turn as a reply; where it does not state their size, it is that of the run lengths."""
    if turn.tracks is not None and turn.mask_size is not None and turn.num_frames is not None:
        return VideoMasks(turn.tracks, turn.mask_size, turn.num_frames, turn.mask_frames)
    sizes = {mask.size for track in turn.tracks or () for mask in track.masks.values()}
    if not sizes:
        return None
    frames = sorted({index for track in turn.tracks or () for index in track.masks})
    return VideoMasks(turn.tracks or (), next(iter(sizes)), num_frames=frames[-1] + 1, frames=tuple(frames))


def _differences(old: object, new: object, place: str) -> Iterator[tuple[str, object, object]]:
    """(place, recorded value, other value) of each difference of two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        first, second = cast("dict[str, object]", old), cast("dict[str, object]", new)
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(first.get(key), second.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list):
        entries, entries_again = cast("list[object]", old), cast("list[object]", new)
        for number, (entry, entry_again) in enumerate(zip(entries, entries_again, strict=False)):
            yield from _differences(entry, entry_again, f"{place}.{number}")
        if len(entries) != len(entries_again):
            yield place, f"{len(entries)} entries", f"{len(entries_again)} entries"
    elif old != new:
        yield place, old, new


def _excerpt_start(old: object, new: object) -> int:
    """Character at which the excerpts of two values start: shortly before the first difference."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return 0
    pairs = enumerate(zip(old, new, strict=False))
    same = next((place for place, (first, second) in pairs if first != second), min(len(old), len(new)))
    return 0 if same < MAX_EXCERPT // 2 else same - MAX_EXCERPT // 4


def _excerpt(value: object, start: int = 0) -> str:
    text = repr(value[start:] if isinstance(value, str) else value)
    before = "..." if start else ""
    return before + (text if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]}...")
