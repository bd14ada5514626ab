"""Segments of videos that a question is about, as edit lists: nothing is encoded again, and no pixel changes."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from evqa import media
from evqa.datasets import path_inside
from evqa.media.edits import SUFFIX, VideoEdit, runs_of, write_edit
from evqa.schema import Span

FOLDER = "segments"


def segment_video(folder: Path, video: Path, segment: Span, name: str, *, fps: float | None = None) -> Path:
    """Write the edit list of a segment of a video; return its path relative to the folder of the data set.

    Frames whose time lies in the segment are kept, ends included; the nearest one where there is none. Nothing is
    written for a missing video: the edit list is then missing too, until the data set is prepared again.

    Args:
        folder: Folder of the data set.
        video: Path relative to it.
        segment: Start and end in seconds.
        name: Name of the edit list, unique in the data set.
        fps: Frames per second of a folder of images.

    Raises:
        ValueError: The video cannot be read.
    """
    target = Path(FOLDER, f"{name}{SUFFIX}")
    source = path_inside(folder, video)
    if not source.exists():
        return target
    media.set_folder_fps(source, fps)
    info = media.probe_video(source)
    indices = np.flatnonzero((info.times >= segment.start) & (info.times <= segment.end))
    if not len(indices):
        indices = np.array(media.nearest_index(info, [(segment.start + segment.end) / 2]))
    path = path_inside(folder, target)
    edit = VideoEdit(
        source=Path(os.path.relpath(source, path.parent)),
        source_sha256=_sha256(source),
        source_frames=info.num_frames,
        folder_fps=media.fps_of_folder(source) if source.is_dir() else None,
        frame_runs=runs_of(indices),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_edit(path, edit)
    return target


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path) -> str:
    """Digest of a file, or of the names and contents of a folder of images in order."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.name.encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
