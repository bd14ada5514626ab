"""Episode: the state of an agent on one sample. Evaluation and reinforcement learning run the same episodes.

An episode gives requests and takes replies; it calls no model itself (`agents.loop` does):

    while (request := episode.next_request()) is not None:
        episode.receive(reply to request)

A reply with tool calls is answered by one tool message per call. A reply without is the answer. The last request that
the limits allow says that the answer is due and offers no tools.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from evqa.agents.memory import without_old_images
from evqa.agents.tool import Tool, ToolOutput, call_tool, spec_of, tool_table
from evqa.agents.transcript import Transcript
from evqa.models.base import Capabilities, ModelError, RunAborted
from evqa.models.messages import Decoding, ImagePart, Message, Part, Reply, ToolSpec
from evqa.models.tool_images import labels_only
from evqa.parsing.action_tags import last_answer
from evqa.parsing.replies import ParsedReply, submission_text
from evqa.parsing.verdicts import DIMENSIONS, read_labels
from evqa.schema import MAIN_AGENT, AnswerField, Prediction, StopReason, ToolCall, ToolResult


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an episode. The first one that is reached ends it with one last request, for the answer."""

    turns: int = 10
    """Turns with tools; the last request comes in addition."""
    calls_per_turn: int = 8
    """Tool calls that are served per turn; each further one gets an error as its result."""
    images: int | None = None
    """Images of all tool results together; None = no limit."""
    tokens: int | None = None
    """Tokens of all prompts and replies together, as far as the models report them."""
    cost: float | None = None
    """US dollars, as far as they are known."""
    seconds: float | None = None
    """Wall time."""
    keep_rounds: int | None = None
    """Latest tool results whose images stay in the prompt; None = all. See `agents.memory`."""
    corrections: int = 1
    """Replies in a row without an answer or a call that are corrected; the next one ends the episode."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in {"keep_rounds", "corrections", "images"} else 1e-9
            if value is not None and not value >= least:
                raise ValueError(f"{name} is a number {'from 0 on' if least == 0 else 'above 0'}, got {value}")


@dataclass(frozen=True)
class ModelRequest:
    """The conversation that a model is to reply to."""

    messages: tuple[Message, ...]
    """The conversation, without the images that the agent no longer keeps."""
    tools: tuple[ToolSpec, ...] = ()
    decoding: Decoding | None = None
    is_last: bool = False
    """Whether the answer is due."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSetup:
    """Opening, tools and answer format of an episode."""

    opening: tuple[Message, ...]
    """System message and first user message."""
    tools: Sequence[Tool] = ()
    answer_fields: tuple[AnswerField, ...] = ("answer",)
    """Fields of the final answer that the parser reads."""
    answer_request: str = "Answer now."
    """User message of the last request."""
    answer_format: str = ""
    """How an answer is written, for corrections."""
    notice: Callable[[int], str] = lambda turns_left: ""
    """Text behind the last tool result, by the number of turns that are left."""
    problem: Callable[[str], str] = lambda text: text
    """Text that a model gets about an invalid turn or a failed tool, given the text that says what to change."""
    forces_answer: bool = False
    """Whether a last request asks for the answer where the corrections did not help."""
    needs_answer_tag: bool = False
    """Whether an answer is the content of an <answer> tag: a reply with neither a call nor the tag is corrected."""
    is_answered_by_tool: bool = False
    """Whether only a tool ends the episode: a reply without calls is corrected, and a limit ends it without a request
    for the answer."""


@dataclass(kw_only=True)
class Episode:
    """State of an agent on one sample."""

    setup: EpisodeSetup
    transcript: Transcript
    limits: Limits = field(default_factory=Limits)
    decoding: Decoding | None = None
    agent: str = MAIN_AGENT
    """Role of the agent."""
    model: str | None = None
    """Name of its model, where a run has several."""
    capabilities: Capabilities = field(default_factory=Capabilities)
    """Of its model: how many images a request has, and whether it gets those of tool results (`tool_images`); one that
    gets their labels in place of them has seen none by the record."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.messages: list[Message] = []
        """Messages that were sent and replies, in order."""
        self._turn = 0
        """Place of the agent's last turn in the transcript; the turns of models that its tools ask follow."""
        self.num_turns = 0
        """Requests that were answered."""
        self._request: ModelRequest | None = None
        self._limit_reached: StopReason | None = None
        """Limit that makes the current request the last one."""
        self._pending: list[Message] = list(self.setup.opening)
        self._tools = tool_table(self.setup.tools)
        self._specs = tuple(map(spec_of, self.setup.tools))
        self._num_images = 0
        self._num_corrections = 0
        self._is_invalid = False
        """Whether the corrections did not help, so that the answer is due."""
        self._started = self.clock()

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended."""
        return self.transcript.stop is not None

    def next_request(self) -> ModelRequest | None:
        """The next request; None = the episode is over."""
        if self.is_over or self._request is not None:
            return self._request
        self._limit_reached = self._limit()
        is_last = self._limit_reached is not None
        if is_last and self.setup.is_answered_by_tool:
            self.transcript.stop = self._limit_reached
            return None
        if is_last:
            self._pending.append(Message("user", (self.setup.answer_request,)))
        conversation = without_old_images(
            (*self.messages, *self._pending),
            keep_rounds=self.limits.keep_rounds,
            max_images=self.capabilities.max_images,
        )
        self._request = ModelRequest(tuple(conversation), () if is_last else self._specs, self.decoding, is_last)
        return self._request

    def receive(self, reply: Reply) -> None:
        """Take the reply to the last request: run its tool calls, or read its answer."""
        limit, self._request, self._limit_reached = self._limit_reached, None, None
        is_action = bool(reply.calls) and limit is None
        fields = () if is_action or self._lacks_answer(reply) else self.setup.answer_fields
        self._turn = len(self.transcript.turns)
        self.transcript.add_turn(self._pending, reply, fields, agent=self.agent, model=self.model)
        self.messages += [*self._pending, reply.message()]
        self._pending = []
        self.num_turns += 1
        if is_action:
            self._num_corrections = 0
            self._run_calls(reply.calls)
        elif limit is not None:
            self._end_by(limit, reply)
        else:
            self._read_answer(reply)

    def add_error(self, error: ModelError | RunAborted) -> None:
        """Record what was paid for a reply that did not come."""
        self.transcript.add_error(self._pending, error, agent=self.agent, model=self.model)

    def prediction(self) -> Prediction:
        """Prediction of the sample."""
        return self.transcript.prediction()

    # Tool calls

    def _run_calls(self, calls: Sequence[ToolCall]) -> None:
        for number, call in enumerate(calls):
            output = self._limited(self._run_call(number, call))
            if not output.ok and (problem := self.setup.problem(output.text)) != output.text:
                output = replace(output, parts=(problem,))
            if self.capabilities.tool_images == "text":
                output = replace(output, parts=labels_only(output.parts), frames=())
            result = ToolResult(
                call=call.id, ok=output.ok, text=output.text, frames=output.all_frames, spans=output.spans
            )
            self.transcript.record_results([result], self._turn)
            self._pending.append(Message("tool", output.parts, call_id=call.id))
            if output.ends_episode:
                self._submit(call)
        if notice := self.setup.notice(self.limits.turns - self.num_turns):
            self._pending[-1] = replace(self._pending[-1], parts=(*self._pending[-1].parts, notice))

    def _run_call(self, number: int, call: ToolCall) -> ToolOutput:
        if self.is_over:
            return ToolOutput(("error: the answer was submitted before this call",), ok=False)
        if number >= self.limits.calls_per_turn:
            return ToolOutput((f"error: at most {self.limits.calls_per_turn} calls per turn are served",), ok=False)
        return call_tool(self._tools, call)

    def _limited(self, output: ToolOutput) -> ToolOutput:
        """The output without the images above the limit of the episode."""
        if self.limits.images is None:
            return output
        parts: list[Part] = []
        num_dropped = 0
        for part in output.parts:
            if isinstance(part, ImagePart) and self._num_images >= self.limits.images:
                num_dropped += 1
                continue
            self._num_images += isinstance(part, ImagePart)
            parts.append(part)
        if num_dropped:
            parts.append(f"{num_dropped} images left out: the limit of {self.limits.images} images is reached")
        return replace(output, parts=tuple(parts), frames=output.frames if not num_dropped else ())

    def _submit(self, call: ToolCall) -> None:
        fields = self.setup.answer_fields
        self.transcript.parse(submission_text(call), fields)
        self.transcript.turns[self._turn] = self.transcript.turns[self._turn].replace(answer_fields=fields)
        self.transcript.stop = "submitted"

    # Answers

    def _read_answer(self, reply: Reply) -> None:
        """Read the answer of a reply without calls, or correct the model."""
        parsed = self.transcript.parse("" if self._lacks_answer(reply) else reply.text, self.setup.answer_fields)
        problem = self._problem(reply, parsed)
        if not problem:
            self.transcript.stop = "answered"
        elif self._num_corrections < self.limits.corrections:
            self._num_corrections += 1
            text = self.setup.problem(f"{problem} {self.setup.answer_format}".strip())
            self._pending.append(Message("user", (text,)))
        elif self.setup.forces_answer:
            self._is_invalid = True
        else:
            is_answer = bool(reply.text.strip()) and not self.setup.is_answered_by_tool
            self.transcript.stop = "answered" if is_answer else "invalid"
            self.transcript.stop_note = problem

    def _problem(self, reply: Reply, parsed: ParsedReply) -> str:
        """Why a reply without calls is no answer; "" = it is one."""
        if not reply.text.strip():
            return "The reply was empty. Call a tool, or answer."
        if self.setup.is_answered_by_tool:
            return "The reply calls no tool."
        if self._lacks_answer(reply):
            return "The reply has no action."
        if "answer" in self.setup.answer_fields and parsed.answer is None:
            return "No option could be read from the reply."
        if "verdicts" in self.setup.answer_fields and parsed.verdicts is None:
            return self._missing_labels(reply)
        return ""

    def _missing_labels(self, reply: Reply) -> str:
        """Which labels of a verdict a reply lacks."""
        dimensions = tuple(self.transcript.sample.dimensions or DIMENSIONS)
        labels = read_labels(reply.text, dimensions)
        if not any(label is not None for label in labels.values()):
            return "No verdict could be read from the reply."
        missing = ", ".join(name for name, label in labels.items() if label is None)
        return f"The verdict is incomplete: the label of {missing} is missing or is not one of 0, 1 and 2."

    def _lacks_answer(self, reply: Reply) -> bool:
        return self.setup.needs_answer_tag and last_answer(reply.text) is None

    def _end_by(self, limit: StopReason, reply: Reply) -> None:
        """End the episode with the reply to the last request; its calls are not served."""
        parsed = self.transcript.parse("" if self._lacks_answer(reply) else reply.text, self.setup.answer_fields)
        is_answered = limit == "invalid" and not self._problem(reply, parsed)
        self.transcript.stop = "answered" if is_answered else limit
        if reply.calls:
            text = "error: not served, the answer was due"
            results = [ToolResult(call=call.id, ok=False, text=text) for call in reply.calls]
            self.transcript.record_results(results, self._turn)
            self.transcript.stop_note = "the last reply called a tool in place of an answer"

    def _limit(self) -> StopReason | None:
        """The limit that is reached; None = the next request may offer tools."""
        usages = [turn.usage for turn in self.transcript.turns if turn.usage is not None]
        tokens = sum((usage.input_tokens or 0) + (usage.output_tokens or 0) for usage in usages)
        used: tuple[tuple[StopReason, float, float | None], ...] = (
            ("max_turns", self.num_turns, self.limits.turns),
            ("max_images", self._num_images, self.limits.images),
            ("max_tokens", tokens, self.limits.tokens),
            ("budget", sum(usage.cost or 0.0 for usage in usages), self.limits.cost),
            ("timeout", self.clock() - self._started, self.limits.seconds),
        )
        if self._is_invalid:
            return "invalid"
        return next((name for name, value, limit in used if limit is not None and value >= limit), None)


@dataclass(frozen=True)
class EpisodeRun:
    """An episode that is ready to run, with what a caller has to know to run it."""

    episode: Episode
    has_tags: bool = False
    """Whether the actions of the agent are tags in its text (`tag_actions`), not tool calls."""
    finish: Callable[[Prediction], Prediction] = lambda prediction: prediction
    """Adds the evidence that the tools collected to the prediction of the loop."""
