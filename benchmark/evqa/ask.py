"""One question about one video, answered with its evidence to look at.

Writes into a folder: overlay.mp4 (masks on the frames, spans on a timeline), sheet.png (the same on twelve
frames) and prediction.jsonl. Frames are read and written one at a time, so any length of clip fits in memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evqa import jsonl, media, methods, models, zoo
from evqa.evidence_files import EvidenceDrawing
from evqa.media import Video
from evqa.models.base import Model
from evqa.overlay import PromptMark
from evqa.pointing import Pointed, Pointing, places_of, pointed
from evqa.schema import LETTERS, Prediction, Sample, Span, Track

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
        lines = [
            f"answer:  {_answer(self.sample, prediction)}",
            f"when:    {_when(prediction.spans)}",
            f"where:   {_where(prediction)}",
        ]
        return [*lines, f"reply:   {prediction.turns[-1].reply}"] if self.sample.options else lines


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
        drawing = EvidenceDrawing(
            video=facts,
            prediction=prediction,
            caption=f"{question}\n{_answer(sample, prediction)}",
            prompts=_prompt_marks(facts, pointing),
            prompt_objects=_prompt_objects(shown, pointing) if shown else (),
        )
        return _written(sample, drawing, out, note=_note(asked.name))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to {out}: {reason}; choose another folder with --out") from error


def _prompt_marks(video: Video, pointing: Pointing) -> list[PromptMark]:
    """Clicks and boxes of the user; labelled where the model gets them as they are (`one_pass`)."""
    return [
        PromptMark(at=place.at, second=place.second, label=f"[{number}]" if pointing.one_pass else "")
        for number, place in enumerate(places_of(video, pointing), start=1)
    ]


def _prompt_objects(model: Pointed, pointing: Pointing) -> list[Track]:
    """Objects that the user pointed at, labelled as the question calls them."""
    first = 1 + (len(model.clip.places) if pointing.one_pass else 0)
    return [
        track.model_copy(update={"label": f"[{number}]"})
        for number, track in enumerate(model.clip.regions, start=first)
    ]


def _written(sample: Sample, drawing: EvidenceDrawing, out: Path, *, note: str) -> Answer:
    video, prediction = drawing.video, drawing.prediction
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
        drawing.write_video(film)
        drawing.write_sheet(sheet)
    return Answer(
        sample=sample, prediction=prediction, video=video, record=record, overlay=film, sheet=sheet, note=note
    )


def _answer(sample: Sample, prediction: Prediction) -> str:
    if not sample.options:
        return prediction.turns[-1].reply if prediction.turns else ""
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
