"""Extraction of downloaded archives into their own folder.

An archive is refused as a whole before anything is written if it has a path or link that leaves the folder, a device,
or more bytes than the disk has free.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from evqa.datasets import path_inside

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_MEMBERS = 50_000_000
"""Limit against malicious archives; the largest data set has some millions of frames."""

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, KeyError)
"""Exceptions of damaged archives; `KeyError` is a hard link to a file that the archive lacks."""


def is_archive(path: Path) -> bool:
    """Whether a file has the suffix of an archive that can be unpacked."""
    return path.name.endswith(SUFFIXES)


def unpack(archive: Path) -> int:
    """Unpack an archive into its folder, over existing files; return the number of its files."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                sizes = list(_zip_sizes(archive.parent, file))
                _check_space(archive, sizes)
                file.extractall(archive.parent)
            return len(sizes)
        with tarfile.open(archive) as file:
            _check_space(archive, sizes := list(_tar_sizes(archive.parent, file)))
            file.extractall(archive.parent, filter="data")
            return len(sizes)
    except DAMAGE as error:
        raise ValueError(f"{archive} cannot be unpacked ({error}): fetch it again") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tar_sizes(folder: Path, file: tarfile.TarFile) -> Iterator[int]:
    for number, member in enumerate(file):
        path_inside(folder, PurePosixPath(member.name))
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise ValueError(
                f"expected files, folders and links in an archive, got {member.name[:200]!r} in {file.name}"
            )
        tarfile.data_filter(member, str(folder))
        if number > MAX_MEMBERS:
            raise ValueError(f"archive has more than {MAX_MEMBERS} members: {file.name}")
        if member.isreg():
            yield member.size
    _check_end(file)


def _check_end(file: tarfile.TarFile) -> None:
    """Check the end mark: else a broken header ends an archive silently, and gzip's checksum is never read."""
    assert file.fileobj is not None
    file.fileobj.seek(file.offset)
    if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is truncated after {file.offset} bytes: the end mark is missing")
    while file.fileobj.read(2**20):
        pass


def _zip_sizes(folder: Path, file: zipfile.ZipFile) -> Iterator[int]:
    for member in file.infolist():
        path_inside(folder, PurePosixPath(member.filename))
        if not member.is_dir():
            yield member.file_size


def _check_space(archive: Path, sizes: list[int]) -> None:
    free = shutil.disk_usage(archive.parent).free
    if sum(sizes) > free:
        raise ValueError(
            f"{archive} unpacks to {sum(sizes) / 2**30:.1f} GiB, and {archive.parent} has {free / 2**30:.1f} GiB free: "
            f"make room, or set EVQA_DATA to a folder on another disk"
        )
