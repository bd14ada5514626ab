"""Conversation about one sample: the messages so far, one `Turn` per reply, and the prediction that results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from evqa import media
from evqa.models.base import Model, ModelError, Models, RunAborted, frame_times
from evqa.models.messages import Decoding, ImagePart, Message, Part, Reply, ToolSpec, VideoMasks, VideoPart
from evqa.parsing import replies
from evqa.parsing.replies import ParsedReply
from evqa.schema import LETTERS, MAIN_AGENT, AnswerField, FrameRef, Prediction, Sample, ToolResult, Turn


class ChatSession:
    """Conversation of a method with the models of a run about one sample.

    A context manager: where a model does not reply or the video cannot be read, the body ends and `prediction` is a
    failed one with the turns so far.

        with ChatSession(models, sample) as session:
            session.ask("Which letter?", ("answer",))
        return session.prediction()
    """

    def __init__(
        self,
        models: Models,
        sample: Sample,
        *,
        times: bool = True,
        opening: Sequence[Part] | None = None,
        agent: str = MAIN_AGENT,
    ) -> None:
        """Start a conversation without messages.

        Args:
            models: models of the run.
            sample: what is asked; its parsed answers and options.
            times: whether prompts state the duration and, where the model does not itself, the seconds of the frames.
            opening: parts before the first prompt of a thread; None = the sample's video.
            agent: role of the model that is asked: "main", or one of `models.team`.
        """
        self.sample = sample
        media.set_folder_fps(sample.video, sample.fps)
        self.turns: list[Turn] = []
        self.messages: list[Message] = []
        """The current thread: prompts, replies and tool results, in order."""
        self.masks: VideoMasks | None = None
        """Masks of the last reply with masks."""
        self.parsed = ParsedReply(None, None, None)
        """Each field as read from the last reply to a prompt that asked for it; None = not asked for, or unparsed."""
        self._models, self._agent, self._states_times = models, agent, times
        self._opening = (VideoPart(sample.video),) if opening is None else tuple(opening)
        self._error: ModelError | ValueError | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, RunAborted) and self.turns:
            error.prediction = self.failure(error)
        if not isinstance(error, ModelError | ValueError):
            return False
        self._error = error
        return True

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self._models.by_role(self._agent)

    def for_agent(self, agent: str, opening: Sequence[Part] = ()) -> ChatSession:
        """A conversation of its own with the model of another role; its turns are recorded in this session too.

        Args:
            agent: role of the model, of `models.team`.
            opening: parts before the first prompt of a thread.
        """
        session = ChatSession(self._models, self.sample, times=self._states_times, opening=opening, agent=agent)
        session.turns = self.turns
        return session

    def clock(self) -> tuple[float | None, Sequence[float] | None]:
        """(duration, seconds of the frames) that a prompt states. `ValueError`: the video cannot be read."""
        video = media.probe_video(self.sample.video)
        if not self._states_times:
            return None, None
        return video.duration, frame_times(self.model, VideoPart(self.sample.video))

    def ask(
        self,
        prompt: str,
        answer_fields: tuple[AnswerField, ...] = (),
        *,
        images: Sequence[ImagePart] = (),
        is_json: bool = False,
        decoding: Decoding | None = None,
    ) -> ParsedReply:
        """Ask the next prompt of the thread and parse the reply.

        Args:
            prompt: text of the user message.
            answer_fields: what it asks for.
            images: images behind the text.
            is_json: whether the fields are asked for as one JSON object.
            decoding: settings of this call.

        Raises:
            ModelError: there is no reply.
        """
        opening = () if self.messages else self._opening
        message = Message("user", (*opening, prompt, *images), answer_fields if is_json else ())
        reply = self.generate([message], answer_fields, decoding=decoding)
        parsed = replies.parse_for_sample(reply.text, answer_fields, self.sample)
        read = {field: getattr(parsed, field) for field in answer_fields if field != "masks"}
        self.parsed = self.parsed._replace(**read)
        return parsed

    def generate(
        self,
        messages: Sequence[Message],
        answer_fields: tuple[AnswerField, ...] = (),
        *,
        tools: Sequence[ToolSpec] = (),
        decoding: Decoding | None = None,
    ) -> Reply:
        """Add messages to the thread and the model's reply to them; record the turn.

        The reply may hold tool calls in place of a text: the next messages are then the results, one per call.

        Args:
            messages: prompts or tool results; the opening parts are not added.
            answer_fields: what they ask for.
            tools: tools that the reply may call.
            decoding: settings of this call.

        Raises:
            ModelError: there is no reply; what was paid for it is recorded as a turn.
        """
        try:
            reply = self.model.generate((*self.messages, *messages), tools=tools, decoding=decoding)
        except (ModelError, RunAborted) as error:
            if error.usage is not None:
                finish = "error" if error.partial else "unknown"
                self._record(messages, answer_fields, Reply(error.partial, usage=error.usage, finish=finish))
            raise
        self.messages += [*messages, reply.message()]
        self._record(messages, answer_fields, reply)
        self.masks = reply.masks or self.masks
        return reply

    def record_results(self, results: Sequence[ToolResult]) -> None:
        """Add the results of the last reply's tool calls to its turn."""
        self.turns[-1] = self.turns[-1].replace(results=(*self.turns[-1].results, *results))

    def rewind(self, num_turns: int) -> None:
        """Keep the first prompts of the thread with their replies; 0 = begin a new thread with the opening parts."""
        ends = [index for index, message in enumerate(self.messages, start=1) if message.role == "assistant"]
        self.messages = self.messages[: ends[num_turns - 1] if 0 < num_turns <= len(ends) else 0]

    def seconds(self) -> float:
        """Wall time since the start of the session."""
        return round(time.perf_counter() - self._started, 3)

    def failure(self, error: Exception) -> Prediction:
        """Failed prediction with the turns before the error."""
        return Prediction(
            sample_id=self.sample.id,
            status="failed",
            error=f"{type(error).__name__}: {error}",
            turns=tuple(self.turns),
            seconds=self.seconds(),
        )

    def prediction(self) -> Prediction:
        """Prediction from the parsed replies and the masks; a failed one where the body ended with an error."""
        if self._error is not None:
            return self.failure(self._error)
        masks = self.masks
        return Prediction(
            sample_id=self.sample.id,
            status="ok",
            turns=tuple(self.turns),
            **self.parsed._asdict(),
            tracks=masks.tracks if masks else None,
            mask_size=masks.size if masks else None,
            num_frames=masks.num_frames if masks else None,
            mask_frames=masks.frames if masks else None,
            seconds=self.seconds(),
        )

    def _record(self, messages: Sequence[Message], answer_fields: tuple[AnswerField, ...], reply: Reply) -> None:
        parts = [part for message in messages for part in message.parts]
        turn = Turn(
            answer_fields=answer_fields,
            prompt="\n".join(part for part in parts if isinstance(part, str)),
            reply=reply.text,
            usage=reply.usage,
            finish=reply.finish,
            option_logprobs=_option_logprobs(reply, len(self.sample.options)) if "answer" in answer_fields else None,
            agent=self._agent,
            model=self.model.name if self._models.team else None,
            calls=reply.calls,
            frames=_frames(parts),
        )
        self.turns.append(turn)


def _frames(parts: Sequence[Part]) -> tuple[FrameRef, ...]:
    """References to the frames among the parts."""
    return tuple(part.ref for part in parts if isinstance(part, ImagePart) and part.ref is not None)


def _option_logprobs(reply: Reply, num_options: int) -> dict[str, float] | None:
    """Log-probability of each option's letter; None where the model gives none or there are no options."""
    if reply.option_logprobs is None or not num_options:
        return None
    return {
        letter: reply.option_logprobs[letter] for letter in LETTERS[:num_options] if letter in reply.option_logprobs
    }
