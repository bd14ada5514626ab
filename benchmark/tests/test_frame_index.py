"""Frame index: construction, resume, locks, checks of opening, search, by an encoder of colours."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evqa import media
from evqa.retrieval import encoders, index_files
from evqa.retrieval.encoders import EncoderError, QueryTimeout
from evqa.retrieval.frame_grid import FrameGrid, frame_grid
from evqa.retrieval.frame_index import FrameIndex, build_index, open_or_build
from evqa.retrieval.frame_search import best_rows, spans_above

COLOURS = {"red": 0, "green": 1, "blue": 2}
SCENE = (*["red"] * 6, *["blue"] * 4, *["red"] * 2, *["green"] * 8)
"""Colour of each second of the clip."""


class ColourEncoder:
    """Encoder whose vectors are mean colours; a text is a colour or a sum of them."""

    name, dim, note, is_cosine, presence_threshold, batch_size = "colour", 3, "colours", False, 1.5, 4

    def __init__(self, revision: str = "1") -> None:
        self.revision = revision
        self.num_images = 0

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.num_images += len(images)
        return np.stack([image.reshape(-1, 3).mean(0) / 255 for image in images]).astype(np.float32)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(3, np.float32)
        for word in text.split():
            if word in COLOURS:
                vector[COLOURS[word]] += 1
        return vector

    def lift(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores / max(float(scores.mean()), 1e-6)


def write_clip(path: Path, colours: Sequence[str] = SCENE, fps: float = 4.0) -> Path:
    images = [np.full((32, 48, 3), np.eye(3)[COLOURS[colour]] * 200 + 20, np.uint8) for colour in colours]
    media.write_video(path, (image for image in images for _ in range(int(fps))), fps)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def grid(clip: Path) -> FrameGrid:
    return frame_grid(media.probe_video(clip))


@pytest.fixture
def built(grid: FrameGrid, tmp_path: Path) -> FrameIndex:
    return build_index(grid, ColourEncoder(), tmp_path / "index")


def hits(index: FrameIndex, query: str, **options: float) -> list[int]:
    return [hit.id for hit in index.search(query, **options).hits]  # type: ignore[arg-type]


# Construction


def test_an_index_has_the_embedding_of_each_frame_of_the_grid(built: FrameIndex, grid: FrameGrid, tmp_path: Path):
    images = media.load_frames(grid.video, grid.indices.tolist())
    assert len(grid) == len(SCENE)
    assert built.embeddings.dtype == np.float32
    np.testing.assert_array_equal(built.embeddings, ColourEncoder().encode_images(list(images)))
    record = index_files.read_record(tmp_path / "index")
    assert (record.num_frames, record.fps, record.encoder.dim) == (20, 1.0, 3)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "embeddings.npy",
        "frames.npy",
        "record.json",
    ]
    table = np.load(tmp_path / "index" / "frames.npy")
    assert table["second"].tolist() == [float(second) for second in range(20)]
    assert not (tmp_path / ".index.partial").exists()


def test_an_index_is_shared_and_not_built_twice(grid: FrameGrid, tmp_path: Path):
    encoder = ColourEncoder()
    open_or_build(grid, encoder, tmp_path)
    assert encoder.num_images == len(grid)
    again = ColourEncoder()
    index = open_or_build(grid, again, tmp_path)
    assert again.num_images == 0
    assert hits(index, "blue", k=1) == [7]


def test_another_rate_of_frames_has_an_index_of_its_own(clip: Path, grid: FrameGrid, tmp_path: Path):
    finer = frame_grid(media.probe_video(clip), fps=2.0)
    places = {index_files.index_folder(entry, ColourEncoder(), tmp_path) for entry in (grid, finer)}
    assert len(places) == 2
    with pytest.raises(ValueError, match="another --fps"):
        FrameIndex.open(build_index_at(grid, tmp_path), finer, ColourEncoder())


def build_index_at(grid: FrameGrid, folder: Path) -> Path:
    build_index(grid, ColourEncoder(), folder / "index")
    return folder / "index"


def test_threads_that_want_the_same_index_build_it_once(grid: FrameGrid, tmp_path: Path):
    all_encoders = [ColourEncoder() for _ in range(4)]
    threads = [threading.Thread(target=open_or_build, args=(grid, entry, tmp_path)) for entry in all_encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(entry.num_images for entry in all_encoders) == len(grid)


SLOW_BUILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_frame_index import ColourEncoder
from evqa import media
from evqa.retrieval import index_builder
from evqa.retrieval.frame_grid import frame_grid
from evqa.retrieval.frame_index import build_index

class Slow(ColourEncoder):
    def encode_images(self, images):
        if self.num_images >= {stop}:
            print("waits", flush=True)
            time.sleep(60)
        return super().encode_images(images)

index_builder.SYNC_SECONDS = 0.0
build_index(frame_grid(media.probe_video(Path({clip!r}))), Slow(), Path({folder!r}))
"""


def test_a_killed_construction_continues_where_it_stopped(clip: Path, grid: FrameGrid, tmp_path: Path):
    folder = tmp_path / "index"
    code = SLOW_BUILD.format(tests=str(Path(__file__).parent), clip=str(clip), folder=str(folder), stop=12)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"waits\n"
    with pytest.raises(ValueError, match=f"process {process.pid} builds"):
        build_index(grid, ColourEncoder(), folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    with (tmp_path / ".index.partial" / "embeddings.npy").open("ab") as file:
        file.write(b"torn row")
    encoder = ColourEncoder()
    index = build_index(grid, encoder, folder)
    assert encoder.num_images == len(grid) - 12
    images = media.load_frames(grid.video, grid.indices.tolist())
    np.testing.assert_array_equal(index.embeddings, ColourEncoder().encode_images(list(images)))


def test_an_interrupted_construction_of_something_else_is_not_continued(grid: FrameGrid, tmp_path: Path):
    class Failing(ColourEncoder):
        def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            if self.num_images >= 8:
                raise RuntimeError("out of memory")
            return super().encode_images(images)

    with pytest.raises(EncoderError, match="out of memory"):
        build_index(grid, Failing(), tmp_path / "index")
    second_encoder = ColourEncoder(revision="2")
    build_index(grid, second_encoder, tmp_path / "index")
    assert second_encoder.num_images == len(grid)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_encoder_that_returns_no_numbers_fails(grid: FrameGrid, tmp_path: Path, value: float):
    class Broken(ColourEncoder):
        def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            return super().encode_images(images) * np.float32(value)

    with pytest.raises(EncoderError, match="NaN or infinite"):
        build_index(grid, Broken(), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_a_place_that_holds_something_else_is_kept(grid: FrameGrid, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "folder", "link"):
        with pytest.raises(ValueError, match="choose another"):
            build_index(grid, ColourEncoder(), tmp_path / name)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_a_clear_error_and_construction_continues(
    grid: FrameGrid, disk: tuple[Path, Callable[[str], None]]
):
    place, mount = disk

    class Wide(ColourEncoder):
        dim = 1024

        def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            return np.tile(super().encode_images(images), (1, 342))[:, :1024]

    with pytest.raises(ValueError, match="No space left on device"):
        build_index(grid, Wide(), place / "index")
    assert not (place / "index").exists()
    mount("remount,size=400k")
    assert build_index(grid, Wide(), place / "index").embeddings.shape == (20, 1024)


# Opening


def test_an_index_of_a_changed_video_is_rejected_and_built_again(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4")
    grid = frame_grid(media.probe_video(path))
    open_or_build(grid, ColourEncoder(), tmp_path / "root")
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    folder = index_files.index_folder(grid, ColourEncoder(), tmp_path / "root")
    with pytest.raises(ValueError, match="the video changed"):
        FrameIndex.open(folder, grid, ColourEncoder())
    path.write_bytes(write_clip(tmp_path / "other.mp4", SCENE[::-1]).read_bytes())
    again = ColourEncoder()
    index = open_or_build(frame_grid(media.probe_video(path)), again, tmp_path / "root")
    assert again.num_images == len(grid)
    assert hits(index, "green", k=1) == [1]


def test_an_unchanged_video_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_clip(tmp_path / "clip.mp4")
    grid = frame_grid(media.probe_video(path))
    build_index(grid, ColourEncoder(), tmp_path / "index")
    assert index_files.read_record(tmp_path / "index").media.state is None  # the file is too young
    monkeypatch.setattr("evqa.retrieval.media_digest.SETTLED_SECONDS", 0.0)
    FrameIndex.open(tmp_path / "index", grid, ColourEncoder())
    assert index_files.read_record(tmp_path / "index").media.state is not None
    reads: list[Path] = []
    monkeypatch.setattr("evqa.retrieval.media_digest._file_hash", lambda file: reads.append(file) or "")
    FrameIndex.open(tmp_path / "index", grid, ColourEncoder())
    assert reads == []


def test_another_revision_of_the_encoder_is_rejected(built: FrameIndex, grid: FrameGrid, tmp_path: Path):
    with pytest.raises(ValueError, match=r"revision 1, 3 dimensions.*revision 2"):
        FrameIndex.open(tmp_path / "index", grid, ColourEncoder("2"))


def shorten(path: Path, num_bytes: int) -> None:
    os.truncate(path, path.stat().st_size - num_bytes)


def save_objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def change_header(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated embeddings": ("embeddings.npy", lambda path: shorten(path, 4)),
    "empty embeddings": ("embeddings.npy", lambda path: os.truncate(path, 0)),
    "longer embeddings": ("embeddings.npy", lambda path: os.truncate(path, path.stat().st_size + 12)),
    "no embeddings": ("embeddings.npy", Path.unlink),
    "float64 embeddings": ("embeddings.npy", lambda path: np.save(path, np.zeros((20, 3)))),
    "too few dimensions": ("embeddings.npy", lambda path: np.save(path, np.zeros((20, 2), np.float32))),
    "a huge shape": ("embeddings.npy", lambda path: change_header(path, b"(20, 3)", b"(2**9,)")),
    "a pickle": ("embeddings.npy", save_objects),
    "a pickle of frames": ("frames.npy", save_objects),
    "truncated frames": ("frames.npy", lambda path: shorten(path, 1)),
    "a torn record": ("record.json", lambda path: shorten(path, 10)),
    "an empty record": ("record.json", lambda path: os.truncate(path, 0)),
    "a long record": ("record.json", lambda path: path.write_text(" " * 2**17)),
    "a deep record": ("record.json", lambda path: path.write_text("[" * 60000)),
    "a huge number": (
        "record.json",
        lambda path: change_header(path, b'"num_frames": 20', b'"num_frames": 1' + b"0" * 400),
    ),
    "a negative number": ("record.json", lambda path: change_header(path, b'"num_frames": 20', b'"num_frames": -20')),
    "NaN in the record": ("record.json", lambda path: change_header(path, b'"fps": 1.0', b'"fps": NaN')),
    "another version": ("record.json", lambda path: change_header(path, b'"version": 1', b'"version": 2')),
    "a folder as record": ("record.json", lambda path: (path.unlink(), path.mkdir())[1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_rejected_and_built_again(grid: FrameGrid, tmp_path: Path, damage: str):
    open_or_build(grid, ColourEncoder(), tmp_path)
    folder = index_files.index_folder(grid, ColourEncoder(), tmp_path)
    name, apply = DAMAGE[damage]
    apply(folder / name)
    with pytest.raises(ValueError, match="index"):
        FrameIndex.open(folder, grid, ColourEncoder())
    assert hits(open_or_build(grid, ColourEncoder(), tmp_path), "blue", k=1) == [7]


def test_a_grid_that_does_not_fit_into_memory_is_refused(grid: FrameGrid):
    with pytest.raises(ValueError, match="expected an fps of at most"):
        frame_grid(grid.video, fps=1e12)


@pytest.mark.parametrize("name", ["record.json", "frames.npy", "embeddings.npy"])
def test_a_link_out_of_the_folder_is_rejected(built: FrameIndex, grid: FrameGrid, tmp_path: Path, name: str):
    path = tmp_path / "index" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match="leads out of its folder"):
        FrameIndex.open(tmp_path / "index", grid, ColourEncoder())


def test_values_that_are_no_numbers_are_found_by_search(built: FrameIndex, grid: FrameGrid, tmp_path: Path):
    path = tmp_path / "index" / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    with pytest.raises(EncoderError, match="damaged, build it again"):
        FrameIndex.open(tmp_path / "index", grid, ColourEncoder()).search("red")


# Search


def test_hits_are_spread_in_time_and_the_earlier_of_equals_comes_first(built: FrameIndex):
    assert hits(built, "red", k=3) == [1, 3, 5]
    assert hits(built, "red", k=3, min_gap=0) == [1, 2, 3]
    assert hits(built, "red", k=2, min_gap=6.0) == [1, 11]
    assert built.search("green", k=1).hits[0].second == 12.0


def test_pages_together_are_one_list(built: FrameIndex):
    whole = built.search("red", k=100)
    assert whole.total == len(whole.hits) == 10
    pages = [built.search("red", k=3, offset=offset) for offset in (0, 3, 6, 9, 12)]
    assert [hit for page in pages for hit in page.hits] == list(whole.hits)
    assert {page.total for page in pages} == {10}


def test_a_time_window_bounds_hits_and_lift(built: FrameIndex):
    assert hits(built, "red", start=6.0, end=11.0, min_gap=0, k=2) == [11, 12]
    assert built.search("green", start=0, end=5).is_present is False
    assert built.search("green").is_present is True
    empty = built.search("green", start=100)
    assert (empty.hits, empty.total, empty.lift, empty.is_present) == ((), 0, 0.0, False)


def test_suppression_equals_the_plain_algorithm():
    random = np.random.default_rng(0)
    for size in (1, 5, 300, 3000):
        scores = random.integers(0, 50, size).astype(np.float32)
        seconds = np.cumsum(random.uniform(0.1, 1.0, size))
        expected: list[int] = []
        for row in sorted(range(size), key=lambda row: (-scores[row], row)):
            if all(abs(seconds[row] - seconds[chosen]) >= 2.0 for chosen in expected):
                expected.append(row)
        for count in (1, 7, size):
            assert best_rows(scores, seconds, count=count, min_gap=2.0) == expected[:count]


def test_spans_are_where_a_text_is_seen(built: FrameIndex):
    assert built.spans("blue", smoothing=0.0) == ((6.0, 10.0),)
    assert built.spans("red", smoothing=0.0) == ((0.0, 6.0), (10.0, 12.0))
    assert built.spans("nothing") == ()
    values = np.array([0, 1, 0, 3], np.float32)
    assert spans_above(values, np.arange(4.0), 4.0, share=0.3, smoothing=0.0) == ((3.0, 4.0), (1.0, 2.0))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 10**30},
        {"offset": -1},
        {"min_gap": -1.0},
        {"min_gap": float("nan")},
        {"start": float("nan")},
        {"end": float("inf")},
        {"start": 5.0, "end": 4.0},
    ],
)
def test_options_out_of_range_are_rejected(built: FrameIndex, options: dict[str, float]):
    with pytest.raises(ValueError, match="expected"):
        built.search("red", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["", " \n\t", "x" * 1001, "y" * 10_000_000])
def test_a_query_that_is_empty_or_too_long_is_rejected(built: FrameIndex, query: str):
    with pytest.raises(ValueError, match="expected a query"):
        built.search(query)


@pytest.mark.parametrize("query", ["STOP", "\ud800 red", "\x00\x1b[31mred", "<|im_end|>"])
def test_any_other_query_is_just_text(built: FrameIndex, query: str):
    assert len(built.search(query).hits) == 5
    assert hits(built, "blue", k=1) == [7]


def test_a_folder_of_frames_has_ids_of_its_names_and_may_have_no_times(tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    from PIL import Image

    for number, colour in ((3, "red"), (10, "blue"), (7, "green")):
        Image.new("RGB", (32, 32), colour).save(folder / f"frame_{number}.jpg")
    grid = frame_grid(media.probe_video(folder))
    index = open_or_build(grid, ColourEncoder(), tmp_path / "root")
    result = index.search("blue", k=1)
    assert [(hit.id, hit.index, hit.second) for hit in result.hits] == [(10, 2, None)]
    with pytest.raises(ValueError, match="times of the frames are unknown"):
        index.search("blue", start=0.0)
    with pytest.raises(ValueError, match="times of the frames are unknown"):
        index.spans("blue")
    Image.new("RGB", (32, 32), "red").save(folder / "frame_10.jpg")
    with pytest.raises(ValueError, match="the video changed"):
        FrameIndex.open(index_files.index_folder(grid, ColourEncoder(), tmp_path / "root"), grid, ColourEncoder())


# Failing encoders


def test_a_hanging_encoder_ends_with_a_clear_error(grid: FrameGrid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Hanging(ColourEncoder):
        def encode_text(self, text: str) -> NDArray[np.float32]:
            if text != "red":
                threading.Event().wait(3.0)
            return super().encode_text(text)

    index = build_index(grid, Hanging(), tmp_path / "index")
    monkeypatch.setattr(encoders, "QUERY_TIMEOUT", 0.1)
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"within 0\.1 s"):
        encoders.encode_query(index.encoder, "blue", timeout=0.1)
    with pytest.raises(QueryTimeout):
        encoders.encode_query(index.encoder, "green", timeout=0.1)
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize("fault", ["raises", "wrong shape", "nan", "none"])
def test_a_failing_encoder_is_an_encoder_error_and_not_a_tool_error(grid: FrameGrid, tmp_path: Path, fault: str):
    class Faulty(ColourEncoder):
        def encode_text(self, text: str) -> NDArray[np.float32]:
            if fault == "raises":
                raise ValueError("no such token")
            return {"wrong shape": np.zeros(4), "nan": np.full(3, np.nan), "none": None}[fault]  # type: ignore[return-value]

    index = build_index(grid, Faulty(), tmp_path / "index")
    with pytest.raises(EncoderError, match="encoder 'colour'"):
        index.search("red")
