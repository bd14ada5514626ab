"""The records that every stage reads and writes, and the conventions that hold in the whole project.

Conventions
- Time is in seconds from the start of the video's own clock (presentation time of its first frame = 0).
- A frame index is 0-based in the original video; `frame` alone is an image.
- Boxes are `(x0, y0, x1, y1)` in original pixels, x1 and y1 exclusive.
- Masks are bool `[H, W]` in memory and COCO run lengths on disk; images are uint8 RGB `[H, W, 3]`.
- A file of records is JSON Lines in UTF-8, one record a line (`evqa.files.jsonl`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

VERSION = 1
"""Version of the records below; a file of another version is refused, not guessed."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Option letters in display order."""


class StrictRecord(BaseModel):
    """A frozen record that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Span(NamedTuple):
    """A time segment in seconds, `0 <= start <= end`; `[start, end]` in JSON."""

    start: float
    end: float


def check_span(span: Span) -> Span:
    """The span itself, or a `ValueError` that says what is wrong with it."""
    start, end = span
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise ValueError(f"a span needs finite 0 <= start <= end, got start={start}, end={end}")
    return span


def check_id(name: str) -> str:
    """An id that can be a file name on any system: no separators, no control characters, no leading dot."""
    if not 0 < len(name) <= 200 or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise ValueError(f'an id has 1-200 characters, none of / \\ : * ? " < > | and no leading dot, got {name!r}')
    return name


class Box(NamedTuple):
    """A rectangle in original pixels, x1 and y1 exclusive; `[x0, y0, x1, y1]` in JSON."""

    x0: float
    y0: float
    x1: float
    y1: float


def check_box(box: Box) -> Box:
    """The box itself, or a `ValueError` that says what is wrong with it."""
    if not (all(map(math.isfinite, box)) and box.x0 < box.x1 and box.y0 < box.y1):
        raise ValueError(f"a box needs finite x0 < x1 and y0 < y1, got {list(box)}")
    return box


Tube = dict[int, Annotated[Box, AfterValidator(check_box)]]
"""One object through time: frame index -> box. A frame that is not listed does not show it."""
Spans = tuple[Annotated[Span, AfterValidator(check_span)], ...]
Id = Annotated[str, AfterValidator(check_id)]


def compressed_counts(runs: Sequence[int]) -> str:
    """COCO's text of run lengths: 5 bits a character, low first, from the fourth run on as differences."""
    characters: list[str] = []
    for place, run in enumerate(runs):
        rest, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            bits = rest & 31
            rest >>= 5
            more = rest != (-1 if bits & 16 else 0)
            characters.append(chr(bits + 32 * more + 48))
    return "".join(characters)


def _as_text(counts: object) -> object:
    """Run lengths as COCO's text, also where they come as a list of numbers (uncompressed) or as bytes.

    Bytes that a program wrote by `str` are `b'...'`, with each backslash doubled; no run length has a quote.
    """
    if isinstance(counts, bytes):
        return counts.decode("ascii", "replace")
    if isinstance(counts, str):
        is_repr = counts[:2] in ("b'", 'b"') and counts[-1:] == counts[1]
        return counts[2:-1].replace("\\\\", "\\") if is_repr else counts
    if not isinstance(counts, list | tuple):
        return counts
    runs: list[int] = []
    for run in cast("Sequence[object]", counts):
        if isinstance(run, bool) or not isinstance(run, int | float) or run != run // 1:
            raise ValueError(f"run lengths are whole numbers, got {str(run)[:80]!r}")
        runs.append(int(run))
    return compressed_counts(runs)


class RLE(StrictRecord):
    """One mask as COCO run lengths (column-major, background first)."""

    size: tuple[int, int]
    """(H, W) in pixels."""
    counts: Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | list[int])]
    """Compressed; a list of run lengths is read too."""


class Track(StrictRecord):
    """One object through time. A frame that is not listed has no pixel of the object."""

    label: str | None = None
    """The expression or name of the object, where there is one."""
    score: float | None = None
    """The model's confidence in [0, 1], where there is one."""
    masks: dict[int, RLE]
    """Frame index -> mask; all of one size."""


NO_VIDEO = Path()
"""`Sample.video` of a sample of words alone."""

TaskType = Literal[
    "evidence",
    "query",
    "sentence",
    "question",
    "explanatory",
    "description",
    "conversation",
    "region",
    "memory",
    "pointing",
]
"""How training words a sample (`unipixel.data.conversations`): a question that is answered with evidence in time and
space; a noun phrase, a full sentence, a question with its answer, the same with a reason, a description, each
answered by a mask; a conversation as it is written; a conversation about marked objects `[1]`, `[2]`; marked
objects to be found again; a description of a marked object."""


class TrainingExchange(StrictRecord):
    """One turn of a sample that has several."""

    question: str
    response: str | None = None
    """The gold reply in words; None where it is a mask alone."""
    targets: tuple[int, ...] | None = None
    """As `Sample.targets`, for this turn."""


class Sample(StrictRecord):
    """One question about one video, with the evidence that supports its answer (gold).

    A sample that only training uses may also be a conversation (`turns`), and its video a picture, which is a
    video of one frame, or nothing (`NO_VIDEO`).
    """

    version: Literal[1] = VERSION
    id: Id
    video_id: str
    video: Path
    """Relative to the data set's folder on disk; absolute once `datasets.load` has checked it."""
    question: str
    options: tuple[str, ...] = ()
    answer: int | None = None
    """Index into `options` of the right one; None where the data set gives none."""
    spans: Spans | None = None
    """Evidence in time; None = not annotated, () = annotated as having none."""
    masks: Path | None = None
    """Folder of `%05d.png` per frame index, evidence objects merged, non-zero = evidence, absent file = empty mask."""
    tracks: tuple[Track, ...] | None = None
    """Evidence per object, where the data set tells objects apart."""
    track_file: Path | None = None
    """In place of `tracks`: a file with one `Track` a line, shared by the samples of a video; paths as `video`."""
    label_map: Path | None = None
    """In place of tracks, of a picture: a PNG of labels, whose values `targets` names; paths as `video`."""
    boxes: Tube | None = None
    """Evidence in space as a box a frame, beside masks or in place of them; None = not annotated."""
    targets: tuple[int, ...] | None = None
    """Which of the tracks (by place) or of the labels (by value) are the gold mask, joined; None = all tracks."""
    objects: Path | None = None
    """Folder of `%05d.png` label maps of every annotated object, evidence or not (0 = none), for trivial baselines."""
    expressions: tuple[str, ...] = ()
    """Referring expressions of the evidence objects, where annotated."""
    form: TaskType = "evidence"
    response: str | None = None
    """The gold reply in words, where there are no options."""
    turns: tuple[TrainingExchange, ...] = ()
    """The whole conversation where it has several turns, or is to be learnt as it is; `question` is its first one."""
    fps: float | None = Field(default=None, gt=0, le=1000)
    """Frames a second of a folder of frames, where known; a video file tells its own times."""
    frames: tuple[int, ...] | None = None
    """Frame indices, ascending, that the sample is about; None = the whole video."""
    num_frames: int | None = Field(default=None, ge=1)
    """Frames of the video, where the published files tell."""
    duration: float | None = Field(default=None, gt=0)
    """Seconds of the video, where the published files tell."""
    time_options: tuple[Spans, ...] = ()
    """Multiple choice in time: each option is a set of spans."""
    time_answer: int | None = None
    """Index into `time_options` of the right one."""
    time_question: str | None = None
    """The question that is asked in time, where the published file words it otherwise than `question`."""
    mask_options: tuple[Path, ...] = ()
    """Multiple choice in space: each option is an image of a frame with a region outlined; paths as `video`."""
    mask_answer: int | None = None
    """Index into `mask_options` of the right one."""
    mask_question: str | None = None
    """As `time_question`, in space."""
    question_type: str | None = None
    source: str | None = None
    """The data set that the video comes from."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Anything else to group scores by, such as the difficulty level."""

    @model_validator(mode="after")
    def _answer_is_an_option(self) -> Self:
        for name, answer, options in (
            ("answer", self.answer, self.options),
            ("time_answer", self.time_answer, self.time_options),
            ("mask_answer", self.mask_answer, self.mask_options),
        ):
            if answer is not None and not 0 <= answer < len(options):
                raise ValueError(f"{name} {answer} is no index into {len(options)} options")
        return self

    @model_validator(mode="after")
    def _frames_ascend(self) -> Self:
        about = (0,) if self.frames is None else self.frames
        if not about or about[0] < 0 or any(one >= other for one, other in pairwise(about)):
            raise ValueError(f"frames are ascending indices from 0 on, one at least, got {about[:10]}")
        return self

    @model_validator(mode="after")
    def _masks_lie_in_one_place(self) -> Self:
        places = [name for name in ("masks", "tracks", "track_file", "label_map") if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"masks are given in one form, got {', '.join(places)}")
        return self

    @property
    def has_video(self) -> bool:
        """Whether there is anything to see."""
        return self.video != NO_VIDEO

    @property
    def has_masks(self) -> bool:
        """Whether masks are annotated, in whichever form."""
        return not (self.masks is None and self.tracks is None and self.track_file is None and self.label_map is None)


AnswerField = Literal["answer", "spans", "expressions", "masks", "time_choice", "mask_choice"]
"""A part of an answer that a prompt can ask for; the last two are choices of the multiple-choice task."""


Finish = Literal["stop", "length", "refusal", "tool_calls", "error", "unknown"]
"""Why a reply ended: by itself, at the token limit, refused by the model or a filter, with calls of tools, broken off
by an error of the server, or for a reason that is missing or not known here."""


class Usage(StrictRecord):
    """What one call cost."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float
    """Wall time of the call."""
    cost: float | None = None
    """US dollars, by the prices of the run; None = the prices are not known, or nothing is charged."""
    tries: int = 1
    """Requests that it took; those before the last one brought no reply."""
    unknown: int = 0
    """Requests among them that may be charged and whose tokens or cost are not known; the counts are of the others."""
    served: str | None = None
    """The version of the model that the server says it ran."""


class TotalUsage(StrictRecord):
    """What the replies of a run took, those of failed samples and of repeated tries included."""

    replies: int = 0
    input_tokens: int = 0
    """Of prompts, as far as they were counted."""
    output_tokens: int = 0
    cost: float = 0.0
    """US dollars, of the replies whose cost is known."""
    unpriced: int = 0
    """Replies, and requests that may be charged, whose cost is not known."""

    @property
    def tokens(self) -> int:
        """Of prompts and replies."""
        return self.input_tokens + self.output_tokens

    def plus(self, usage: Usage) -> TotalUsage:
        """The sum with one more reply."""
        return TotalUsage(
            replies=self.replies + 1,
            input_tokens=self.input_tokens + (usage.input_tokens or 0),
            output_tokens=self.output_tokens + (usage.output_tokens or 0),
            cost=self.cost + (usage.cost or 0.0),
            unpriced=self.unpriced + max(usage.unknown, usage.cost is None),
        )


class Turn(StrictRecord):
    """One prompt and the raw reply to it; replies are kept so that a better parser never costs a model call."""

    asks: tuple[AnswerField, ...]
    """What the prompt asks for, hence what the parser looks for in the reply."""
    prompt: str
    reply: str
    usage: Usage | None = None
    finish: Finish = "stop"
    letters: dict[str, float] | None = None
    """Natural log-probability of each option's letter where the reply names its answer; None = not said."""


class LiteralAnswer(StrictRecord):
    """What a file of the original's form says literally; its evaluator reads this and not what is meant."""

    answer: str | None = None
    segments: tuple[tuple[float, float], ...] | None = None
    """Pairs of finite numbers in any order, negative ones too; elements that are no pairs are left out."""


class Prediction(StrictRecord):
    """What one method with one model gave for one sample."""

    version: Literal[1] = VERSION
    sample: Id
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
    written: LiteralAnswer | None = None
    """Where `answer` and `spans` read an original's file otherwise than its evaluator does."""
    seconds: float = 0.0
    """Wall time spent on the sample."""

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
        return self.status == "ok" and any(found[part] is None for turn in self.turns for part in turn.asks)

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> Self:
        if (self.status == "failed") != (self.error is not None):
            raise ValueError(
                f"status {self.status!r} does not fit error {self.error!r}: a failure, and only one, has a reason"
            )
        if self.mask_folder is not None and self.tracks is not None:
            raise ValueError("masks are given either as tracks or as a mask_folder, got both")
        return self


class Selected(StrictRecord):
    """The part of a data set that a run was asked for; each condition narrows it, none = all samples."""

    limit: int | None = None
    """The first so many, before they are dealt out to shards."""
    only: tuple[str, ...] | None = None
    """Ids."""
    shard: str | None = None
    """Share `I/N`: every N-th sample from the I-th on."""


class Run(StrictRecord):
    """`run.json`: what makes two runs the same (`identity`), and what else is worth knowing of one."""

    version: Literal[1] = VERSION
    identity: dict[str, str | int | float | bool | None]
    """data and its hash, model, method, prompt version, settings, seed: a run resumes only if all are equal."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages and of this code."""
    started: str = ""
    """UTC, ISO 8601."""
    selection: Selected | None = None
    """The samples that all calls of the run together were asked for; None = not recorded, which counts as all."""
    spent: TotalUsage = TotalUsage()
    """Of all records, when the run was last left; a run that was killed is counted anew by the next call."""
