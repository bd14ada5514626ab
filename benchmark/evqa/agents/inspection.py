"""Answer gate: a planner submits time segments, and a second model that sees nothing else answers or refuses.

The second model, the inspector, gets the question and frames of the submitted segments. It answers, or says what is
missing; then the planner continues with that result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from evqa import media
from evqa.agents import frame_images, instructions
from evqa.agents.arguments import Second, time_range
from evqa.agents.frame_tools import FrameTools
from evqa.agents.sample_video import spread
from evqa.agents.tool import ToolOutput
from evqa.agents.transcript import Transcript
from evqa.models.base import Model
from evqa.models.messages import Reply
from evqa.parsing import replies
from evqa.parsing.reply_json import find_objects
from evqa.schema import AnswerField, Sample, Span, Spans

INSPECTOR = "inspector"
"""Role of the model that answers from the submitted segments."""


@dataclass(kw_only=True)
class Inspection:
    """The inspector of an episode and its tool for the planner."""

    inspector: Model
    sample: Sample
    frames: FrameTools
    transcript: Transcript
    answer_fields: tuple[AnswerField, ...]
    num_frames: int = 16
    """Most frames that the inspector gets."""

    def submit_segments(
        self,
        spans: Annotated[
            list[tuple[Second, Second]],
            Field(description="time segments as [start, end] in seconds", min_length=1, max_length=20),
        ],
    ) -> ToolOutput:
        """Submit the time segments that decide the question; another model answers, or says what is missing."""
        segments = tuple(sorted(Span(*time_range(self.frames.duration(), start, end)) for start, end in spans))
        missing = self.inspect(self._indices(segments))
        if missing:
            return ToolOutput((f"The segments do not decide the question. Missing: {missing}",), spans=segments)
        return ToolOutput(("The question was answered from these segments.",), spans=segments, ends_episode=True)

    def inspect(self, indices: Sequence[int], *, must_answer: bool = False) -> str:
        """Ask the inspector about frames by frame index.

        Args:
            indices: frame indices in order of time.
            must_answer: whether the inspector may not ask for further frames.

        Returns:
            What is missing; "" = the inspector answered, and the answer is that of the transcript.

        Raises:
            ModelError: the inspector did not reply.
        """
        parts, _ = frame_images.read_frame_parts(self.frames.grid, indices, self.frames.limits.max_side)
        request = instructions.inspection_request(self.sample, must_answer=must_answer)
        messages = instructions.opening(instructions.INSPECTOR, self.sample, "", request, parts)
        with self.transcript.record_errors(messages, agent=INSPECTOR, model=self.inspector.name):
            reply = self.inspector.generate(messages)
        missing = "" if must_answer else self._missing(reply)
        fields = () if missing else self.answer_fields
        self.transcript.add_turn(messages, reply, fields, agent=INSPECTOR, model=self.inspector.name)
        self.transcript.parse(reply.text, fields)
        return missing

    def _missing(self, reply: Reply) -> str:
        """What is missing for an answer; "" = the reply answers."""
        if missing := _stated_as_missing(reply):
            return missing
        parsed = replies.parse_for_sample(reply.text, self.answer_fields, self.sample)
        has_answer = parsed.answer is not None if self.sample.options else bool(reply.text.strip())
        return "" if has_answer else "the other model gave no answer that could be read"

    def frames_seen(self) -> list[int]:
        """Frame indices of the frames that the planner has seen, spread evenly, at most `num_frames`."""
        results = (result for turn in self.transcript.turns for result in turn.results)
        return spread([frame.index for result in results for frame in result.frames], self.num_frames)

    def _indices(self, segments: Spans) -> list[int]:
        """Frames of the segments at equal distances, by their share of the total length, at least one each."""
        total = sum(span.end - span.start for span in segments) or 1.0
        indices: set[int] = set()
        for span in segments:
            number = max(1, round(self.num_frames * (span.end - span.start) / total))
            seconds = np.linspace(span.start, span.end, number) if number > 1 else [(span.start + span.end) / 2]
            indices |= set(media.nearest_index(self.frames.grid.video, [float(second) for second in seconds]))
        return sorted(indices)


def _stated_as_missing(reply: Reply) -> str:
    """What the inspector says is missing; "" = it says nothing of the kind."""
    objects = find_objects(reply.text)
    values = [entry.values["missing"] for entry in objects[-1:] if "missing" in entry.values]
    return next((reply.text[value.start : value.end].strip().strip("\"'").strip() for value in values), "")
