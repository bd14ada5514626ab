"""Frame indices of all videos of a data set, or of one video, in this process or in workers.

A video that cannot be indexed does not affect the others. The same call again builds the missing indices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from evqa import datasets, media
from evqa.datasets.registry import DATASETS
from evqa.media.frame_folders import is_image_video
from evqa.retrieval import index_files
from evqa.retrieval.encoders import DEFAULT_ENCODER, Encoder, EncoderError, load_encoder
from evqa.retrieval.frame_grid import DEFAULT_FPS, frame_grid
from evqa.retrieval.frame_index import FrameIndex, open_or_build
from evqa.runs.ray_pool import WorkerReport, ray_pool
from evqa.schema import NO_VIDEO, Sample


@dataclass(frozen=True)
class IndexJob:
    """A video to index."""

    id: str
    """Path of the video."""
    folder_fps: float | None = None
    """Frame rate of a folder of frames; None = not stated by its data set."""


class IndexOutcome(NamedTuple):
    """Result of indexing a video."""

    video: str
    state: Literal["built", "present", "failed"]
    num_frames: int = 0
    reason: str = ""
    """Reason of a failure, or of building an existing index again."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Settings of indices; the recipe of the encoder of a worker (see `ray_pool.WorkerResources`)."""

    encoder: str = DEFAULT_ENCODER
    fps: float = DEFAULT_FPS
    root: Path | None = None
    """Folder of all indices; None = `outputs/frame_index`."""
    device: str = "auto"

    def check(self) -> None:
        """Raise a `ValueError` for a rate that is no number above 0."""
        if not 0 < self.fps < math.inf:
            raise ValueError(f"expected frames per second above 0 (--fps), got {self.fps}")

    def num_gpus(self) -> int:
        """GPUs of an encoder."""
        return 1

    def load(self) -> tuple[Encoder, WorkerReport]:
        """Load the encoder."""
        encoder = load_encoder(self.encoder, device=self.device)
        return encoder, WorkerReport({"encoder": encoder.name, "revision": encoder.revision}, 1)


def index_jobs(source: str) -> list[IndexJob]:
    """Videos of a data set, each once, or the one video.

    `ValueError`: there is neither such a video nor such a data set, or no sample has a video.
    """
    path = Path(source)
    is_video_file = path.is_file() and path.suffix != ".jsonl"
    if is_video_file or (path.is_dir() and not (path / "samples.jsonl").exists() and is_image_video(path)):
        media.probe_video(path)
        return [IndexJob(source)]
    if path.suffix and not path.exists() and source not in DATASETS:
        raise ValueError(f"no such file: {source}; expected a video, a folder of frames, or a data set")
    jobs: dict[Path, IndexJob] = {}
    for sample in datasets.load(source).samples:
        for video in _videos(sample):
            jobs.setdefault(video, IndexJob(str(video), sample.fps))
    if not jobs:
        raise ValueError(f"no sample of {source} has a video: there is nothing to index")
    return list(jobs.values())


def _videos(sample: Sample) -> list[Path]:
    return [video for video in (sample.video, *sample.videos) if video != NO_VIDEO]


def build_indices(
    jobs: Sequence[IndexJob], config: IndexConfig, *, workers: int | None = None, cluster: str | None = None
) -> Iterator[IndexOutcome]:
    """One outcome per video, as they are done.

    Args:
        jobs: the videos.
        config: encoder, rate and place.
        workers: number of worker processes, each with an encoder on its own GPU; None = this process.
        cluster: address of the Ray cluster of the workers.

    Raises:
        ValueError: the encoder cannot be loaded.
    """
    config.check()
    if workers is None:
        encoder, _ = config.load()
        for job in jobs:
            yield index_video(encoder, job, config=config, progress=len(jobs) == 1)
        return
    with ray_pool(config, workers, noun="index", address=cluster) as pool:
        yield from pool.results(jobs, partial(index_video, config=config), _failed)


def index_video(encoder: Encoder, job: IndexJob, *, config: IndexConfig, progress: bool = False) -> IndexOutcome:
    """Build the index of a video, unless it is there."""
    path = Path(job.id)
    media.set_folder_fps(path, job.folder_fps)
    try:
        grid = frame_grid(media.probe_video(path), fps=config.fps)
        folder = index_files.index_folder(grid, encoder, config.root)
        reason = ""
        if (folder / index_files.RECORD).exists():
            try:
                FrameIndex.open(folder, grid, encoder)
                return IndexOutcome(job.id, "present", len(grid))
            except ValueError as error:
                reason = str(error)
        open_or_build(grid, encoder, config.root, progress=progress)
        return IndexOutcome(job.id, "built", len(grid), reason)
    except (ValueError, EncoderError) as error:
        return _failed(job, str(error))


def _failed(job: IndexJob, reason: str) -> IndexOutcome:
    return IndexOutcome(job.id, "failed", reason=reason)
