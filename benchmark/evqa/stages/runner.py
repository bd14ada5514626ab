"""Runner of stages: one request per reply, from the cache or the model, recorded as turns.

A reply from the cache takes the same path as one from the model: it is recorded as a turn, without tokens, and read by
the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from evqa.agents.settings import StageSettings
from evqa.agents.transcript import Transcript
from evqa.models.base import Model, RequestTooLarge
from evqa.models.cached_replies import CACHED_USAGE, KEPT_FINISHES, facts_digest
from evqa.models.messages import Decoding, ImagePart, Message, Reply
from evqa.schema import AnswerField
from evqa.stages.cache import CachedReply, StageCache
from evqa.stages.prompts import STAGE_PROMPT_VERSION, SYSTEM, StageInputs
from evqa.stages.styles import Stage
from evqa.stages.video import StageVideo

MAX_REDUCTIONS = 4
"""Steps in which a request is made smaller: resolution first, then frames. The engine halves batches before."""

BATCH = "batch "
"""Start of the steps of `Reply.steps` that are no change of the request."""


class Request(NamedTuple):
    """Request of a stage, before its frames are read."""

    stage: Stage
    inputs: StageInputs
    places: tuple[int, ...]
    """Frames that it has, as places among the existing ones."""
    side: int
    """Longer side of the frames in pixels."""

    def smaller(self, step: int) -> tuple[Request, str]:
        """The request with half the resolution, in later steps with half the frames, and what was reduced."""
        if step < 2 or len(self.places) < 2:
            side = max(28, self.side // 2)
            return self._replace(side=side), f"resolution {self.side} to {side}"
        places = self.places[::2]
        return self._replace(places=places), f"frames {len(self.places)} to {len(places)}"


class StageRunner:
    """Runner of the stages of one question."""

    def __init__(
        self, model: Model, video: StageVideo, transcript: Transcript, settings: StageSettings, cache: StageCache
    ) -> None:
        self.video = video
        self.notes: list[str] = []
        """What could not be done as planned."""
        self._model, self._transcript, self._settings, self._cache = model, transcript, settings, cache

    def replies(
        self, stage: Stage, inputs: StageInputs, places: Sequence[int] = (), fields: tuple[AnswerField, ...] = ()
    ) -> list[str]:
        """Replies of a stage: several of a sampled one, each with a seed of its own, else one.

        Args:
            stage: the stage.
            inputs: what it knows; the question is withheld from a stage that does not use it.
            places: frames that it sees.
            fields: answer fields that its prompt asks for.

        Raises:
            ModelError: the model did not reply.
            RunAborted: no further call can succeed.
        """
        if not stage.uses_question:
            inputs = replace(inputs, question="")
        frames = self.video.grid.video
        side = min(self._settings.stage_side, max(frames.width, frames.height))  # frames are not enlarged
        request = Request(stage, inputs, tuple(places) if stage.sees_frames else (), side)
        return [self._reply(request, decoding, fields) for decoding in self._decodings(stage)]

    def answer(self, stage: Stage, inputs: StageInputs, places: Sequence[int]) -> None:
        """Ask for the answer, which becomes that of the prediction; errors as of `replies`."""
        fields: tuple[AnswerField, ...] = ("answer",) if self._transcript.sample.options else ()
        (text,) = self.replies(stage, inputs, places, fields)
        if fields:
            self._transcript.parse(text, fields)

    def _decodings(self, stage: Stage) -> list[Decoding | None]:
        settings = self._settings
        if not stage.is_sampled or settings.stage_samples == 1:
            return [None]
        seeds = range(settings.stage_seed, settings.stage_seed + settings.stage_samples)
        return [
            Decoding(temperature=settings.stage_temperature, top_p=settings.stage_top_p, seed=seed) for seed in seeds
        ]

    def _reply(self, request: Request, decoding: Decoding | None, fields: tuple[AnswerField, ...]) -> str:
        messages = self._messages(request, [])
        key = self._key(request, messages, decoding)
        with self._cache.entry(key) as cached:
            if cached is not None:
                reply = Reply(cached.text, usage=CACHED_USAGE, finish=cached.finish, steps=cached.steps)
                messages = self._recorded(request, cached)
            else:
                messages, reply = self._ask(request, decoding, fields)
                if reply.finish in KEPT_FINISHES:
                    self._cache.put(key, _cached(request.stage, messages, reply))
        self.notes += [f"{request.stage.name}: {step}: the request was too large" for step in reply.steps]
        self._transcript.add_turn(messages, reply, fields, agent=request.stage.name)
        return reply.text

    def _recorded(self, request: Request, cached: CachedReply) -> list[Message]:
        """Messages of a request as the model got them; their frames are not read again."""
        for step in range(len(cached.steps)):
            request, _ = request.smaller(step)
        grid = self.video.grid
        indices = [int(grid.indices[place]) for place in request.places] if cached.frames is None else cached.frames
        return self._messages(request, self.video.references(indices))

    def _ask(
        self, request: Request, decoding: Decoding | None, fields: tuple[AnswerField, ...]
    ) -> tuple[list[Message], Reply]:
        """Ask the model; a request that is too large is made smaller, step by step."""
        steps: list[str] = []
        batches: list[str] = []
        while True:
            messages = self._messages(request, self._images(request))
            try:
                with self._transcript.record_errors(messages, fields, agent=request.stage.name):
                    reply = self._model.generate(messages, decoding=decoding)
                return messages, replace(reply, steps=(*batches, *steps, *reply.steps))
            except RequestTooLarge as error:
                batches += [step for step in error.steps if step not in batches]
                if not request.places or len(steps) >= MAX_REDUCTIONS:
                    raise
                request, step = request.smaller(len(steps))
                steps.append(step)

    def _images(self, request: Request) -> list[ImagePart]:
        return self.video.images(request.places, request.side) if request.places else []

    def _messages(self, request: Request, images: Sequence[ImagePart]) -> list[Message]:
        """System message and prompt; the prompt counts the frames that are sent."""
        places = request.places
        seconds = [part.second or 0.0 for part in images] or [float(self.video.seconds[place]) for place in places]
        text = request.stage.prompt(replace(request.inputs, seconds=seconds))
        return [Message("system", (SYSTEM,)), Message("user", (*images, text))]

    def _key(self, request: Request, messages: Sequence[Message], decoding: Decoding | None) -> str:
        indices = [int(self.video.grid.indices[place]) for place in request.places]
        return facts_digest(
            {
                "media": self.video.digest,
                "stage": request.stage.name,
                "prompt_version": STAGE_PROMPT_VERSION,
                "prompt": [part for message in messages for part in message.parts if isinstance(part, str)],
                "frames": indices,
                "side": request.side,
                "model": self._model.name,
                "settings": dict(self._model.settings),
                "decoding": None if decoding is None else asdict(decoding),
            }
        )


def _cached(stage: Stage, messages: Sequence[Message], reply: Reply) -> CachedReply:
    """A reply as it is kept, with what is needed to record its request again."""
    refs = [part.ref for message in messages for part in message.parts if isinstance(part, ImagePart)]
    return CachedReply(
        stage=stage.name,
        text=reply.text,
        finish=reply.finish,
        steps=tuple(step for step in reply.steps if not step.startswith(BATCH)),
        frames=tuple(ref.index for ref in refs if ref is not None),
    )
