"""Check of a data set: counts, and problems of its samples that loading does not look for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from evqa import masks, media
from evqa.datasets import Dataset
from evqa.datasets.ground_truth import check_ground_truth
from evqa.files.jsonl import BadLine
from evqa.media import Video
from evqa.schema import LETTERS, Sample

MAX_REASONS = 5
"""Most problems of one sample."""


class SampleProblem(NamedTuple):
    """A problem of a sample that is part of the data set."""

    sample_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Result of a check."""

    name: str
    file: Path
    num_samples: int
    num_videos: int
    seconds: float
    """Length of the videos that can be read, together."""
    fields: dict[str, int]
    """Each of `FIELDS` -> number of samples that have it."""
    question_types: dict[str, int]
    answers: dict[str, int]
    """Letter of the right option -> samples."""
    rejected: tuple[BadLine, ...]
    """Rows that are no samples."""
    problems: tuple[SampleProblem, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to report."""
        return not self.rejected and not self.problems

    def messages(self) -> list[tuple[str, str]]:
        """(line or sample, reason) of each invalid row and problem."""
        return [(f"line {bad.line}", bad.reason) for bad in self.rejected] + list(self.problems)


def check_dataset(dataset: Dataset) -> DataCheck:
    """Check each sample of a data set with its video and masks."""
    problems: list[SampleProblem] = []
    fields = Counter[str]()
    videos: dict[Path, Video | str] = {}
    questions: dict[tuple[str, str], str] = {}
    for sample in tqdm(dataset.samples, desc="check", unit="sample", disable=None, dynamic_ncols=True):
        fields.update(name for name, is_present in FIELDS.items() if is_present(sample))
        reasons = list(_reasons(sample, _video(sample, videos)))
        if (earlier := questions.setdefault((sample.video_id, sample.question), sample.id)) != sample.id:
            reasons.append(f"the same question about the same video as {earlier}")
        problems += [SampleProblem(sample.id, reason) for reason in reasons[:MAX_REASONS]]
    return DataCheck(
        name=dataset.name,
        file=dataset.folder / dataset.file,
        num_samples=len(dataset.samples),
        num_videos=len({sample.video_id for sample in dataset.samples}),
        seconds=sum(video.duration for video in videos.values() if isinstance(video, Video)),
        fields={name: fields[name] for name in FIELDS},
        question_types=dict(Counter(sample.question_type for sample in dataset.samples if sample.question_type)),
        answers=dict(
            sorted(Counter(LETTERS[sample.answer] for sample in dataset.samples if sample.answer is not None).items())
        ),
        rejected=dataset.rejected,
        problems=tuple(problems),
    )


FIELDS: dict[str, Callable[[Sample], bool]] = {
    "options": lambda sample: bool(sample.options),
    "answer": lambda sample: sample.answer is not None or sample.response is not None,
    "spans": lambda sample: sample.spans is not None,
    "masks": lambda sample: sample.has_masks,
    "boxes": lambda sample: sample.boxes is not None,
    "subtitles": lambda sample: sample.subtitles is not None,
}
"""Annotated field -> function that returns whether a sample has it."""


def _video(sample: Sample, videos: dict[Path, Video | str]) -> Video | str | None:
    """The video of a sample; a text = why it cannot be read, None = the sample has none."""
    if not sample.has_video:
        return None
    if sample.video not in videos:
        try:
            media.set_folder_fps(sample.video, sample.fps)
            videos[sample.video] = media.probe_video(sample.video)
        except ValueError as error:
            videos[sample.video] = str(error)
    return videos[sample.video]


def _reasons(sample: Sample, video: Video | str | None) -> Iterator[str]:
    """Problems of a sample."""
    if isinstance(video, str):
        yield f"the video cannot be read: {video}" if sample.video.exists() else f"the video is missing: {sample.video}"
    if sample.options and sample.answer is None:
        yield "the right option is not stated: the answer cannot be scored"
    if len(set(sample.options)) < len(sample.options):
        yield "two options have the same text"
    if not isinstance(video, Video):
        return
    try:
        check_ground_truth(sample, video)
    except ValueError as error:
        yield str(error)
    yield from _mask_problems(sample, video)
    yield from _box_problems(sample, video)


def _box_problems(sample: Sample, video: Video) -> Iterator[str]:
    """Problems of the boxes of a sample: frames and positions."""
    for index, box in (sample.boxes or {}).items():
        if index >= video.num_frames:
            yield f"box on frame {index}: the video has {video.num_frames} frames"
        elif box.x0 >= video.width or box.y0 >= video.height:
            yield f"box on frame {index} is outside the {video.width} x {video.height} video: {list(box)}"


def _mask_problems(sample: Sample, video: Video) -> Iterator[str]:
    """Problems of the masks of a sample: size, frames, and whether there is any pixel."""
    size = (video.height, video.width)
    num_pixels = 0
    sizes: set[tuple[int, int]] = set()
    indices: set[int] = set()
    for track in sample.tracks or ():
        indices.update(track.masks)
        sizes.update(mask.size for mask in track.masks.values())
        num_pixels += sum(masks.area(mask) for mask in track.masks.values())
    if sample.masks is not None:
        try:
            for index, path in masks.read_folder(sample.masks).items():
                image = masks.read_png(path)
                indices.add(index)
                sizes.add((image.shape[0], image.shape[1]))
                num_pixels += int((image != 0).sum())
        except ValueError as error:
            yield f"masks: {error}"
            return
    if (sample.tracks or sample.masks is not None) and not num_pixels:
        yield "masks: no mask has a pixel"
    for height, width in sorted(sizes - {size}):
        yield f"masks: expected {size[0]} x {size[1]} as the video, got {height} x {width}"
    if beyond := sorted(index for index in indices if index >= video.num_frames):
        yield f"masks: frame {beyond[0]}: the video has {video.num_frames} frames"
