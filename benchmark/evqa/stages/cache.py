"""Cache of the replies of stages, one file per reply, named by the digest of all that decides it.

The digest is of the video's bytes, the stage and version of its prompt, the text and frames of the request, the model
with its settings, and the decoding settings. A damaged file is as none.
"""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from evqa.files.jsonl import replace_file
from evqa.files.locks import KeyedLocks
from evqa.media.frame_folders import is_image_video
from evqa.models.frame_policy import file_state
from evqa.retrieval.media_digest import media_digest
from evqa.schema import Finish, StrictRecord

logger = logging.getLogger(__name__)

SHOTS = "shots-"
"""Start of the `CachedReply.stage` of shots; the detector follows."""

MAX_BYTES = 2**22
"""Largest file that is read."""


class CachedReply(StrictRecord):
    """A reply of a stage, or the shots of a video."""

    stage: str
    text: str
    """The reply; of shots the JSON list of their first frames."""
    finish: Finish = "stop"
    steps: tuple[str, ...] = ()
    """How the request was made smaller until it fitted into memory; batches, which change no request, are left out."""
    frames: tuple[int, ...] | None = None
    """Indices of the frames in the request, without those that cannot be read; None = not known, all."""


class StageCache:
    """Folder of replies; None = replies are kept for this process alone, in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._replies: dict[str, CachedReply] = {}
        self._locks: KeyedLocks[str] = KeyedLocks()

    def check(self) -> None:
        """Make the folder. `ValueError`: it cannot be written."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"--stage-cache {self.folder} is no folder that can be written: {reason}") from error

    @contextmanager
    def entry(self, key: str) -> Generator[CachedReply | None]:
        """The reply of a key, None = there is none; other threads with this key wait until the block ends."""
        with self._locks.of(key):
            yield self._read(key)

    def put(self, key: str, reply: CachedReply) -> None:
        """Keep a reply, in the block of its key."""
        if self.folder is None:
            self._replies[key] = reply
            return
        path = self._path(self.folder, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(reply.model_dump_json().encode())
        except OSError as error:  # the reply is there, and paid for
            logger.warning("a reply of a stage cannot be kept in %s: %s", self.folder, error.strerror or error)

    def _read(self, key: str) -> CachedReply | None:
        if self.folder is None:
            return self._replies.get(key)
        path = self._path(self.folder, key)
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            return CachedReply.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"


class ShotCache(StageCache):
    """Cache in memory of shots alone: every reply comes from the model, as in a replay."""

    def __init__(self) -> None:
        super().__init__(None)

    def put(self, key: str, reply: CachedReply) -> None:
        """Keep shots, and no reply."""
        if reply.stage.startswith(SHOTS):
            super().put(key, reply)


def content_digest(path: Path) -> str:
    """SHA-256 of a video's content; a file that has not changed is read once per process."""
    if is_image_video(path):
        return media_digest(path).sha256
    return _file_digest(path, file_state(path))


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, state: object) -> str:
    return media_digest(path).sha256
