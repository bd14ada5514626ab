"""Predictions: what a method with a model gave for a sample, with every turn of the conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evqa.schema.geometry import Spans, Track, Tube
from evqa.schema.record import VERSION, Id, StrictRecord
from evqa.schema.trace import FrameRef, StopReason, ToolCall, ToolResult
from evqa.schema.usage import Usage

AnswerField = Literal["answer", "spans", "expressions", "masks", "time_choice", "mask_choice"]
"""A part of an answer that a prompt can ask for; the last two are choices of the multiple-choice task."""


ReplyFormat = Literal["evidence", "json"]
"""Format of an evidence reply: the text with `<|seg|>` tokens that UniPixel is trained on, or one JSON object."""

Finish = Literal["stop", "length", "refusal", "tool_calls", "error", "unknown"]
"""Why a reply ended: by itself, at the token limit, refused by the model or a filter, with calls of tools, broken off
by an error of the server, or for a reason that is missing or not known here."""


class Turn(StrictRecord):
    """One prompt and the raw reply to it; replies are kept so that a better parser never costs a model call."""

    answer_fields: Annotated[tuple[AnswerField, ...], Field(alias="asks")]
    """What the prompt asks for, hence what the parser looks for in the reply."""
    prompt: str
    reply: str
    usage: Usage | None = None
    finish: Finish = "stop"
    option_logprobs: Annotated[dict[str, float] | None, Field(alias="letters")] = None
    """Natural log-probability of each option's letter where the reply names its answer; None = not said."""
    agent: str = "main"
    """Role of the agent that replied, such as main, grounding, vision or judge."""
    model: str | None = None
    """Name of the model that replied, where a run has several; None = the model of the run."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls of the reply."""
    results: tuple[ToolResult, ...] = ()
    """Results of the calls, one per call."""
    frames: tuple[FrameRef, ...] = ()
    """Images in the prompt, by reference."""


class LiteralAnswer(StrictRecord):
    """What a file of the original's form says literally; its evaluator reads this and not what is meant."""

    answer: str | None = None
    segments: tuple[tuple[float, float], ...] | None = None
    """Pairs of finite numbers in any order, negative ones too; elements that are no pairs are left out."""


class Prediction(StrictRecord):
    """What one method with one model gave for one sample."""

    version: Literal[1] = VERSION
    sample_id: Annotated[Id, Field(alias="sample")]
    """The id of the sample."""
    status: Literal["ok", "failed"]
    error: str | None = None
    """Why it failed."""
    turns: tuple[Turn, ...] = ()
    answer: int | None = None
    """Index of the chosen option; None = the reply commits to none (unparsed)."""
    spans: Spans | None = None
    """None = unparsed; () = the reply says that there are none."""
    expressions: tuple[str, ...] | None = None
    tracks: tuple[Track, ...] | None = None
    """None = the model gave no masks at all; () = it says that there is no object."""
    mask_size: tuple[int, int] | None = None
    """(H, W) of the masks."""
    num_frames: int | None = None
    """Frames of the video as the model decoded it."""
    mask_frames: tuple[int, ...] | None = None
    """Frame indices that masks were computed for; None = every frame."""
    mask_folder: Path | None = None
    """Folder of `%05d.png` per frame index in place of `tracks`, relative to the file of predictions."""
    boxes: Tube | None = None
    """Evidence in space as a box a frame; None = the model gave none at all."""
    time_choice: int | None = None
    """Index of the chosen `time_options`; None = the reply commits to none."""
    mask_choice: int | None = None
    """Index of the chosen `mask_options`; None = the reply commits to none."""
    literal: Annotated[LiteralAnswer | None, Field(alias="written")] = None
    """Where `answer` and `spans` read an original's file otherwise than its evaluator does."""
    seconds: float = 0.0
    """Wall time spent on the sample."""
    stop: StopReason | None = None
    """Why an agent's episode ended; None = no agent."""
    stop_note: str = ""
    """Details of `stop` in words."""
    verdicts: dict[str, Literal[0, 1, 2]] | None = None
    """Pairwise judge: criterion -> 0 for a tie, 1 or 2 for the preferred video; None = no verdict was read."""
    span_scores: tuple[float, ...] | None = None
    """Confidence of each span in `spans`, for ranked retrieval."""
    clips: tuple[str, ...] | None = None
    """Ids of the clips of an episode that were visited, in order."""

    @property
    def is_truncated(self) -> bool:
        """Whether one of its replies ended at the token limit."""
        return any(turn.finish == "length" for turn in self.turns)

    @property
    def is_refused(self) -> bool:
        """Whether one of its replies is a refusal of the model or of a filter."""
        return any(turn.finish == "refusal" for turn in self.turns)

    @property
    def is_unparsed(self) -> bool:
        """Whether its replies lack a part that they were asked for; a failed prediction is counted as failed alone."""
        found = {
            "answer": self.answer,
            "spans": self.spans,
            "expressions": self.expressions,
            "masks": self.mask_folder if self.tracks is None else self.tracks,
            "time_choice": self.time_choice,
            "mask_choice": self.mask_choice,
        }
        return self.status == "ok" and any(found[part] is None for turn in self.turns for part in turn.answer_fields)

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> Self:
        if (self.status == "failed") != (self.error is not None):
            raise ValueError(
                f"status {self.status!r} does not fit error {self.error!r}: a failure, and only one, has a reason"
            )
        if self.mask_folder is not None and self.tracks is not None:
            raise ValueError("masks are given either as tracks or as a mask_folder, got both")
        return self
