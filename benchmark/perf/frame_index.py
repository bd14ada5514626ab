"""Frame index: construction against decoding and encoding alone, search against a product, opening, memory.

    python benchmark/perf/frame_index.py construction --seconds 3600
    python benchmark/perf/frame_index.py construction --seconds 3600 --encoder mean --clip CLIP.mp4
    python benchmark/perf/frame_index.py search
    python benchmark/perf/frame_index.py opening
    python benchmark/perf/frame_index.py memory --seconds 60 600 3600

A long video is a short clip that is repeated without encoding it again: CLIP.mp4, or a synthetic one of 320 x 180.
Times are CPU seconds of the process (user and system), so that other processes do not count; several rounds, median.
The encoder `mean` (the mean colours of a grid of 16 x 24 cells) costs next to nothing and shows what the index itself
costs. The results are in docs/measurements.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import tyro
from numpy.typing import NDArray

from evqa import media
from evqa.media import Video, decode
from evqa.retrieval import index_files, media_digest
from evqa.retrieval.encoders import DEFAULT_ENCODER, Encoder, encode_query, load_encoder
from evqa.retrieval.frame_grid import FrameGrid, frame_grid
from evqa.retrieval.frame_index import FrameIndex, build_index

MEAN = "mean"
CELLS = (16, 24)
CLIP_SECONDS = 10
CLIP_FPS = 12.0


class MeanEncoder:
    """Encoder of mean colours, whose texts are random vectors."""

    name, revision, dim, note, is_cosine, presence_threshold, batch_size = MEAN, "1", 1152, "", False, 1.0, 8

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Mean colours [n, 1152] of a grid of cells."""
        return np.stack([self._means(image) for image in images])

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """Random vector [1152], the same for the same text."""
        return np.random.default_rng(len(text)).standard_normal(self.dim, dtype=np.float32)

    def lift(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores."""
        return scores

    def _means(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = (side // cells for side, cells in zip(image.shape[:2], CELLS, strict=True))
        cells = image[: height * CELLS[0], : width * CELLS[1]].reshape(CELLS[0], height, CELLS[1], width, 3)
        return cells.mean((1, 3), dtype=np.float32).reshape(-1)


def _encoder(name: str) -> Encoder:
    return MeanEncoder() if name == MEAN else load_encoder(name)


def write_long_video(path: Path, seconds: float, clip: Path | None = None) -> Path:
    """Write a video of at least so many seconds: a clip that is repeated, its packets copied."""
    source_path = clip or _write_clip(path.with_name("clip.mp4"))
    offset = 0
    with av.open(str(path), "w") as target:
        stream = None
        while stream is None or offset * float(stream.time_base or 0) < seconds:
            with av.open(str(source_path)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video)
                    stream.time_base = video.time_base
                end = offset
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.stream = stream
                    target.mux(packet)
                offset = end
    return path


def _write_clip(path: Path) -> Path:
    random = np.random.default_rng(0)
    background = random.integers(0, 255, (180, 320, 3), dtype=np.uint8) // 4
    images: list[NDArray[np.uint8]] = []
    for number in range(int(CLIP_SECONDS * CLIP_FPS)):
        image = background.copy()
        image[40:140, number : number + 100] = (number, 200, 255 - number)
        images.append(image)
    media.write_video(path, iter(images), CLIP_FPS)
    return path


def construction(
    seconds: float = 3600.0, fps: float = 1.0, encoder: str = DEFAULT_ENCODER, clip: Path | None = None, rounds: int = 1
) -> None:
    """CPU seconds of `build_index`, and of decoding the same frames and encoding them in the same batches.

    Args:
        seconds: length of the video.
        fps: frames per second of the grid.
        encoder: name of an encoder, or "mean".
        clip: video that is repeated.
        rounds: how often each is measured, in turn.
    """
    loaded = _encoder(encoder)
    with tempfile.TemporaryDirectory() as folder:
        path = write_long_video(Path(folder) / "long.mp4", seconds, clip)
        grid = frame_grid(media.probe_video(path), fps=fps)
        plain: list[float] = []
        built: list[float] = []
        for number in range(rounds):
            plain.append(_seconds(lambda: _decode_and_encode(grid, loaded)))
            decode.clear_caches()
            built.append(_seconds(lambda number=number: build_index(grid, loaded, Path(folder) / f"index{number}")))
            decode.clear_caches()
        size = path.stat().st_size
    first, second = statistics.median(plain), statistics.median(built)
    print(f"{grid.video.duration:.0f} s of video, {size / 2**20:.0f} MiB, {len(grid)} frames, encoder {encoder}")
    print("| decode and encode, CPU s | index, CPU s | ratio |")
    print("|---|---|---|")
    print(f"| {first:.2f} | {second:.2f} | {second / first:.3f} |")


def _decode_and_encode(grid: FrameGrid, encoder: Encoder) -> None:
    batch: list[NDArray[np.uint8]] = []
    for _, image in media.read_frames(grid.video, grid.indices.tolist()):
        batch.append(image)
        if len(batch) == encoder.batch_size:
            encoder.encode_images(batch)
            batch = []
    if batch:
        encoder.encode_images(batch)


def _seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def _synthetic_grid(path: Path, num_frames: int) -> FrameGrid:
    """Grid of a made-up video of so many seconds, whose file is a short clip."""
    seconds = np.arange(num_frames, dtype=np.float64)
    video = Video(path, 320, 180, seconds, float(num_frames))
    rows = np.arange(num_frames)
    return FrameGrid(video, rows + 1, rows, seconds)


def _write_index(folder: Path, clip: Path, num_frames: int, encoder: Encoder) -> FrameGrid:
    """Write an index of random embeddings."""
    grid = _synthetic_grid(clip, num_frames)
    folder.mkdir()
    random = np.random.default_rng(0)
    np.save(folder / index_files.EMBEDDINGS, random.standard_normal((num_frames, encoder.dim), dtype=np.float32))
    np.save(folder / index_files.FRAMES, index_files.frame_table(grid))
    record = index_files.IndexRecord(
        version=index_files.INDEX_VERSION,
        video=str(clip),
        media=media_digest.media_digest(clip),
        encoder=index_files.encoder_identity(encoder),
        fps=1.0,
        num_frames=num_frames,
    )
    index_files.write_record(folder, record)
    return grid


def search(counts: tuple[int, ...] = (4000, 100_000), rounds: int = 100) -> None:
    """Wall time of a search, and of the product of its embeddings and the query alone.

    Args:
        counts: numbers of frames.
        rounds: searches; each follows a product, and the medians are printed.
    """
    encoder = MeanEncoder()
    print("| frames | product, ms | search, ms | ratio |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clip = _write_clip(Path(folder) / "clip.mp4")
        for count in counts:
            place = Path(folder) / f"index{count}"
            index = FrameIndex.open(place, _write_index(place, clip, count, encoder), encoder)
            vector = encode_query(encoder, "query")
            plain: list[float] = []
            searched: list[float] = []
            for _ in range(rounds + 1):  # the first reads the file
                plain.append(_wall(lambda: index.embeddings @ vector))  # noqa: B023  (called at once)
                searched.append(_wall(lambda: index.search("query")))  # noqa: B023
            first, second = 1000 * statistics.median(plain[1:]), 1000 * statistics.median(searched[1:])
            print(f"| {count} | {first:.3f} | {second:.3f} | {second / first:.2f} |")


def _wall(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def opening(counts: tuple[int, ...] = (4000, 100_000)) -> None:
    """Time, bytes that are read, and growth of resident memory when an index is opened (Linux).

    Args:
        counts: numbers of frames.
    """
    encoder = MeanEncoder()
    print("| frames | embeddings, MiB | opened in, ms | read, MiB | memory, MiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clip = _write_clip(Path(folder) / "clip.mp4")
        time.sleep(media_digest.SETTLED_SECONDS + 0.1)  # until the file counts as unchanged by its times
        for count in counts:
            place = Path(folder) / f"index{count}"
            grid = _write_index(place, clip, count, encoder)
            FrameIndex.open(place, grid, encoder)  # imports
            read, resident = _bytes_read(), _resident_bytes()
            seconds = _wall(lambda: FrameIndex.open(place, grid, encoder))  # noqa: B023
            size = (place / index_files.EMBEDDINGS).stat().st_size
            print(
                f"| {count} | {size / 2**20:.0f} | {1000 * seconds:.2f} | {(_bytes_read() - read) / 2**20:.2f} | "
                f"{max(0, _resident_bytes() - resident) / 2**20:.2f} |"
            )


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def _resident_bytes() -> int:
    return 4096 * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def peak_kib() -> int:
    """Greatest resident memory of this process so far; `ru_maxrss` would be that of its parent too (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


MEMORY_PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from frame_index import MeanEncoder, build_index, frame_grid, media, peak_kib
before = peak_kib()
grid = frame_grid(media.probe_video(Path(sys.argv[2])))
build_index(grid, MeanEncoder(), Path(sys.argv[3]))
print(json.dumps([before, peak_kib()]))
"""


def memory(seconds: tuple[float, ...] = (60.0, 600.0, 3600.0), clip: Path | None = None) -> None:
    """Peak memory of a process before and after it builds an index, for videos of several lengths.

    Args:
        seconds: lengths of the videos.
        clip: video that is repeated.
    """
    print("| video, s | before, MiB | peak, MiB |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for length in seconds:
            path = write_long_video(Path(folder) / f"video{length:g}.mp4", length, clip)
            command = [sys.executable, "-c", MEMORY_PROGRAM, str(Path(__file__).parent), str(path)]
            result = subprocess.run(
                [*command, str(path.with_suffix(".index"))], check=True, capture_output=True, text=True
            )
            before, peak = json.loads(result.stdout)
            print(f"| {length:g} | {before / 2**10:.0f} | {peak / 2**10:.0f} |")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"construction": construction, "search": search, "opening": opening, "memory": memory}
    )
