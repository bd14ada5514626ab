"""Samples: a question about a video with its ground truth."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evqa.schema.geometry import Spans, Track, Tube
from evqa.schema.record import VERSION, Id, StrictRecord

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


class ClipRef(StrictRecord):
    """A clip of an episode."""

    id: Id
    path: Path
    """Path as `Sample.video`."""
    start: Annotated[float, Field(ge=0)]
    """Offset of the clip in the episode, in seconds."""
    duration: Annotated[float, Field(gt=0)]
    """Seconds."""


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
    videos: tuple[Path, ...] = ()
    """Further videos of the question, such as the second one of a pairwise comparison; paths as `video`."""
    subtitles: Path | None = None
    """Subtitles of the video as a file; path as `video`."""
    clips: tuple[ClipRef, ...] = ()
    """Clips of an episode in order, each with its offset in the episode."""
    preferences: dict[str, Literal["first", "second", "tie", "bad"]] | None = None
    """Ground truth of a pairwise comparison: criterion -> preferred video; tie = both good, bad = both bad."""
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
    task_type: Annotated[TaskType, Field(alias="form")] = "evidence"
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
    metadata: Annotated[dict[str, str], Field(alias="tags")] = Field(default_factory=dict)
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
