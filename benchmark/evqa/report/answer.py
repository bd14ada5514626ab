"""Answer of a model to one question about one video, with its evidence as arrays, text, images and files."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evqa import masks
from evqa.files import jsonl
from evqa.media import Video
from evqa.metrics.case import response_of
from evqa.report.evidence_files import EvidenceDrawing
from evqa.report.trace_text import trace_lines, visible_text
from evqa.schema import LETTERS, Prediction, Sample, Span, Track

Mask = NDArray[np.bool_]

SAVED_FORMS = (".mp4", ".png", ".jsonl")
"""Suffixes of files with an answer: video with masks and spans, twelve frames of it, record."""


class ObjectMasks(Sequence[Mask]):
    """Masks of one object, decoded on access.

    Item t is the bool `[H, W]` mask of frame t; frames on which the object is not visible have an empty one.
    `numpy.asarray` gives all of them, bool `[T, H, W]`.
    """

    def __init__(self, track: Track, num_frames: int, size: tuple[int, int]) -> None:
        self.track, self.size = track, size
        self._num_frames = num_frames

    @property
    def label(self) -> str | None:
        """Name of the object; None = it has none."""
        return self.track.label

    @property
    def frames(self) -> tuple[int, ...]:
        """Indices of the frames with a mask, ascending."""
        return tuple(sorted(self.track.masks))

    def __len__(self) -> int:
        return self._num_frames

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> list[Mask]: ...
    def __getitem__(self, index: int | slice) -> Mask | list[Mask]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"frame {index} of a video with {len(self)} frames")
        mask = self.track.masks.get(number)
        return np.zeros(self.size, np.bool_) if mask is None else masks.decode(mask)

    def __array__(self, dtype: np.dtype[np.generic] | None = None, *, copy: bool | None = None) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("the masks are decoded into a new array: copy=False is not possible")
        stack = np.zeros((len(self), *self.size), np.bool_)
        for index in self.frames:
            if index < len(self):
                stack[index] = self[index]
        return stack if dtype is None else stack.astype(dtype, copy=False)

    def __repr__(self) -> str:
        name = f"{self.label!r}, " if self.label else ""
        return f"ObjectMasks({name}{len(self.track.masks)} of {len(self)} frames, {self.size[0]} x {self.size[1]})"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer to one question about one video, with its evidence."""

    sample: Sample
    prediction: Prediction
    drawing: EvidenceDrawing
    note: str = ""
    """Note on the limits of the model; "" = none."""

    @property
    def video(self) -> Video:
        """Video that the question is about."""
        return self.drawing.video

    @property
    def error(self) -> str | None:
        """Reason why the model gave no answer; None = it replied."""
        return self.prediction.error

    @property
    def option(self) -> int | None:
        """Index of the chosen option; None = there are no options, or the reply chooses none."""
        return self.prediction.answer

    @property
    def text(self) -> str:
        """Text of the answer: the chosen option, or the reply to an open question."""
        return answer_text(self.sample, self.prediction)

    @property
    def spans(self) -> tuple[Span, ...] | None:
        """Time segments of the evidence in seconds; None = the reply states none, () = it states that there is none."""
        return self.prediction.spans

    @property
    def masks(self) -> tuple[ObjectMasks, ...] | None:
        """Masks of the evidence, an entry per object; None = the model returned no masks."""
        prediction = self.prediction
        if prediction.tracks is None:
            return None
        num_frames = prediction.num_frames or self.video.num_frames
        size = prediction.mask_size or (self.video.height, self.video.width)
        return tuple(ObjectMasks(track, num_frames, size) for track in prediction.tracks)

    def lines(self) -> Iterator[str]:
        """Yield the answer as lines of text."""
        prediction = self.prediction
        trace = trace_lines(prediction)
        if prediction.error is not None:
            yield from (f"failed:  {visible_text(prediction.error)}", *trace)
            return
        yield visible_text(f"answer:  {self.text}")
        yield visible_text(f"when:    {_temporal_text(prediction.spans)}")
        yield visible_text(f"where:   {_spatial_text(prediction)}")
        yield from map(visible_text, trace)
        turns = prediction.turns[-1:] if trace else prediction.turns
        replies = (turn.reply for turn in turns if turn.reply.strip() and turn.reply != self.text)
        yield from (visible_text(f"reply:   {reply}") for reply in replies)

    def __str__(self) -> str:
        return "\n".join([self.sample.question, *self.lines()])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save the answer in the form of the suffix and return the path.

        Args:
            path: `.mp4` = the video with masks and a timeline, `.png` = twelve frames of it, `.jsonl` = the record.

        Raises:
            ValueError: The suffix is another one, the path is that of the video, or there is no answer to draw.
        """
        path = Path(path)
        if path.suffix not in SAVED_FORMS:
            raise ValueError(f"an answer is saved as {', '.join(SAVED_FORMS)}, got {path.name!r}")
        if path.resolve() == self.video.path.resolve():
            raise ValueError(f"{path} is the video that was asked about: choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            jsonl.write_records(path, [self.prediction])
            return path
        if path.suffix == ".mp4":
            self._evidence().write_video(path)
        else:
            self._evidence().write_sheet(path)
        return path

    def image(self) -> Image.Image:
        """Return twelve frames of the video with the evidence. `ValueError`: there is no answer to draw."""
        return self._evidence().sheet()

    def _evidence(self) -> EvidenceDrawing:
        if self.error is not None:
            raise ValueError(f"there is no evidence to draw: {self.error}")
        return self.drawing

    def show(self) -> None:
        """Show `image` in the running notebook, else in the image viewer of the system."""
        notebook = sys.modules.get("IPython")
        if notebook is None or notebook.get_ipython() is None:
            self.image().show(title=self.sample.question)
        else:
            importlib.import_module("IPython.display").display(self.image())


def answer_text(sample: Sample, prediction: Prediction) -> str:
    """Return the text of an answer: the chosen option, or the reply to an open question."""
    if not sample.options:
        return response_of(prediction) or "the reply has no answer"
    if prediction.answer is None:
        return "the reply commits to no option"
    return f"({LETTERS[prediction.answer]}) {sample.options[prediction.answer]}"


def _temporal_text(spans: Sequence[Span] | None) -> str:
    if spans is None:
        return "the reply names no time"
    return ", ".join(f"{span.start:.1f}-{span.end:.1f} s" for span in spans) or "none, the reply states"


def _spatial_text(prediction: Prediction) -> str:
    if prediction.tracks is None:
        words = ", ".join(prediction.expressions or ())
        return f"no masks; in words: {words}" if words else "no masks"
    frames = [len(track.masks) for track in prediction.tracks]
    counts = ", ".join(str(count) for count in frames)
    return f"{len(frames)} object(s), in {counts or 0} of {prediction.num_frames} frames"
