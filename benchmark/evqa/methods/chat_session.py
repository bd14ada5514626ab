"""Conversation of a method with the models of a run about one sample."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from evqa import media
from evqa.agents.transcript import Transcript
from evqa.models.base import Model, Models, frame_times
from evqa.models.messages import Decoding, ImagePart, Message, Part, Reply, ToolSpec, VideoPart
from evqa.parsing.replies import ParsedReply
from evqa.schema import MAIN_AGENT, AnswerField, Prediction, Sample, ToolResult


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
            opening: parts before the first prompt of a thread; None = the sample's video, if it has one.
            agent: role of the model that is asked: "main", or one of `models.team`.
        """
        self.sample = sample
        media.set_folder_fps(sample.video, sample.fps)
        self.transcript = Transcript(sample)
        self.messages: list[Message] = []
        """The current thread: prompts, replies and tool results, in order."""
        self._models, self._agent, self._states_times = models, agent, times
        video = (VideoPart(sample.video),) if sample.has_video else ()
        self._opening = video if opening is None else tuple(opening)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self.transcript.__exit__(kind, error, trace)

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
        session.transcript = self.transcript
        return session

    def clock(self) -> tuple[float | None, Sequence[float] | None]:
        """(duration, seconds of the frames) that a prompt states; None without a video.

        Raises:
            ValueError: the video cannot be read.
        """
        if not self.sample.has_video:
            return None, None
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
        return self.transcript.parse(reply.text, answer_fields)

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
        with self.transcript.record_errors(messages, answer_fields, agent=self._agent, model=self._model_name()):
            reply = self.model.generate((*self.messages, *messages), tools=tools, decoding=decoding)
        self.messages += [*messages, reply.message()]
        self.transcript.add_turn(messages, reply, answer_fields, agent=self._agent, model=self._model_name())
        return reply

    def record_results(self, results: Sequence[ToolResult]) -> None:
        """Add the results of the last reply's tool calls to its turn."""
        self.transcript.record_results(results)

    def rewind(self, num_turns: int) -> None:
        """Keep the first prompts of the thread with their replies; 0 = begin a new thread with the opening parts."""
        ends = [index for index, message in enumerate(self.messages, start=1) if message.role == "assistant"]
        self.messages = self.messages[: ends[num_turns - 1] if 0 < num_turns <= len(ends) else 0]

    def prediction(self) -> Prediction:
        """Prediction from the parsed replies and the masks; a failed one where the body ended with an error."""
        return self.transcript.prediction()

    def _model_name(self) -> str | None:
        """Name of the model for the record of a turn; None = the only model of the run."""
        return self.model.name if self._models.team else None
