"""One question about one video, answered with its evidence to look at.

Writes into a folder: overlay.mp4 (masks on the frames, spans on a timeline), sheet.png (the same on twelve
frames) and prediction.jsonl. Frames are read and written one at a time, so any length of clip fits in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from evqa import jsonl, masks, media, methods, models, overlay, zoo
from evqa.media import Video
from evqa.models.base import Model
from evqa.overlay import Frame, Mask
from evqa.pointing import Pointing, pointed
from evqa.schema import LETTERS, Prediction, Sample, Span

MAX_FPS = 30.0
"""The overlay plays at the clip's mean rate, but not faster than this."""

MAX_SIDE = 960
"""A larger frame is drawn smaller, to this longest side, in pixels."""

SHEET_FRAMES = 12

NOTHING = Pointing()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a question, and where it lies."""

    sample: Sample
    prediction: Prediction
    video: Video
    record: Path
    overlay: Path | None
    """None where the model gave no answer to draw."""
    sheet: Path | None
    note: str
    """What to know of the model before believing the answer; "" = nothing."""

    def text(self) -> str:
        """The answer for a reader."""
        lines = [f"{self.sample.question}", *self._found()]
        for what, path in (("overlay", self.overlay), ("sheet", self.sheet), ("record", self.record)):
            if path is not None:
                lines.append(f"{what + ':':9}{path}")
        return "\n".join([*lines, f"note:    {self.note}"] if self.note else lines)

    def _found(self) -> list[str]:
        prediction = self.prediction
        if prediction.error is not None:
            return [f"failed:  {prediction.error}"]
        return [
            f"answer:  {_answer(self.sample, prediction)}",
            f"when:    {_when(prediction.spans)}",
            f"where:   {_where(prediction)}",
            f"reply:   {prediction.turns[-1].reply}",
        ]


def ask(
    video: Path,
    question: str,
    options: Sequence[str],
    model: str | Model,
    out: Path,
    *,
    pointing: Pointing = NOTHING,
) -> Answer:
    """Ask a model (a name, a path, or one that is built) and draw what it shows as evidence into `out`.

    The question calls what is pointed at [1], [2], and so on.
    """
    facts = media.probe(video)
    if not question.strip():
        raise ValueError("the question is empty")
    if len(options) > len(LETTERS):
        raise ValueError(f"at most {len(LETTERS)} options have a letter, got {len(options)}")
    asked = models.build(model) if isinstance(model, str) else model
    shown = pointed(asked, media.probe(video.resolve()), question, pointing) if pointing else None
    sample = Sample(
        id=_id(video),
        video_id=video.stem,
        video=video.resolve(),
        question=shown.question if shown else question,
        options=tuple(options),
    )
    prediction = methods.METHODS["single-turn"](shown or asked, sample)
    try:
        return _written(sample, prediction, facts, out, note=_note(asked.name))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to {out}: {reason}; choose another folder with --out") from error


def _written(sample: Sample, prediction: Prediction, video: Video, out: Path, *, note: str) -> Answer:
    out.mkdir(parents=True, exist_ok=True)
    record = out / "prediction.jsonl"
    jsonl.write_records(record, [prediction])
    film = sheet = None
    pictures = out / "overlay.mp4", out / "sheet.png"
    if prediction.status == "failed":
        for earlier in pictures:
            if earlier.resolve() != video.path.resolve():
                earlier.unlink(missing_ok=True)  # else it passes for what this question gave
    else:
        film, sheet = pictures
        write_overlay(film, video, prediction)
        write_sheet(sheet, video, prediction, f"{sample.question}\n{_answer(sample, prediction)}")
    return Answer(
        sample=sample, prediction=prediction, video=video, record=record, overlay=film, sheet=sheet, note=note
    )


def write_overlay(path: Path, video: Video, prediction: Prediction) -> None:
    """The clip with its evidence, as an H.264 file of a constant rate; a frame without a mask is plain."""
    fps = min(video.fps, MAX_FPS)
    seconds = [number / fps for number in range(max(1, round(video.duration * fps)))]
    media.write_video(path, _film(video, prediction, seconds), fps)


def write_sheet(path: Path, video: Video, prediction: Prediction, title: str) -> None:
    """Frames spread over the clip, both ends included, with their evidence, as one PNG."""
    indices = media.uniform(video, min(SHEET_FRAMES, video.num_frames))
    drawn = [_drawn(frame, index, prediction) for index, frame in media.frames(video, indices)]
    seconds = [float(video.times[index]) for index in indices]
    overlay.sheet(drawn, seconds, prediction.spans or (), title).save(path)


def _film(video: Video, prediction: Prediction, seconds: Sequence[float]) -> Iterator[Frame]:
    """A frame for each of the ascending `seconds`: the clip's nearest, drawn once."""
    nearest = media.nearest(video, seconds)
    bar = partial(
        overlay.timeline,
        _size(video.height, video.width)[1],
        duration=video.duration,
        spans=prediction.spans or (),
    )
    shown = iter(zip(nearest, seconds, strict=True))
    index, second = next(shown)
    for current, frame in media.frames(video, sorted(set(nearest))):
        drawn = _drawn(frame, current, prediction)
        while index == current:
            yield np.concatenate([drawn, bar(second=second)])
            index, second = next(shown, (-1, 0.0))


def _drawn(frame: Frame, index: int, prediction: Prediction) -> Frame:
    """A frame with its masks, at most `MAX_SIDE` on its longest side."""
    height, width = _size(frame.shape[0], frame.shape[1])
    if (height, width) != frame.shape[:2]:
        frame = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    return overlay.tinted(frame, _masks(index, prediction, (height, width)))


def _size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _masks(index: int, prediction: Prediction, size: tuple[int, int]) -> list[Mask]:
    """The masks of a frame at a size (H, W), one a track in order, empty where the object is not seen."""
    found: list[Mask] = []
    for track in prediction.tracks or ():
        if index in track.masks:
            mask = masks.decode(track.masks[index])
            found.append(mask if mask.shape == size else masks.resize(mask, size))
        else:
            found.append(np.zeros(size, dtype=np.bool_))
    return found


def _answer(sample: Sample, prediction: Prediction) -> str:
    if not sample.options:
        return prediction.turns[-1].reply
    if prediction.answer is None:
        return "the reply commits to no option"
    return f"({LETTERS[prediction.answer]}) {sample.options[prediction.answer]}"


def _when(spans: Sequence[Span] | None) -> str:
    if spans is None:
        return "the reply names no time"
    return ", ".join(f"{span.start:.1f}-{span.end:.1f} s" for span in spans) or "at no time, it says"


def _where(prediction: Prediction) -> str:
    if prediction.tracks is None:
        words = ", ".join(prediction.expressions or ())
        return f"no masks; in words: {words}" if words else "no masks"
    frames = [len(track.masks) for track in prediction.tracks]
    counts = ", ".join(str(count) for count in frames)
    return f"{len(frames)} object(s), in {counts or 0} of {prediction.num_frames} frames"


def _note(model: str) -> str:
    """The note on the checkpoint that the model's row names; "" where it has none."""
    name = models.row(model).arguments.get("checkpoint")
    return zoo.note(name) if isinstance(name, str) else ""


def _id(video: Path) -> str:
    """A record's id from a file name: what an id may not hold becomes an underscore."""
    return re.sub(r"[^\w.-]", "_", video.stem).lstrip(".")[:200] or "video"
