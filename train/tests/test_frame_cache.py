"""Decoded frames on disk: the same pixels, whoever wrote them and whoever was killed meanwhile; never too many."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from evqa import media
from unipixel.configs import DataConfig
from unipixel.data import mixture
from unipixel.data.collate import DataCollator
from unipixel.data.dataset import SFTDataset
from unipixel.data.frame_cache import FrameCache
from unipixel.data.mixture import MixtureSampler

ROOT = Path(__file__).resolve().parents[2]
BYTES = 48 * 64 * 3
"""Of a frame."""


def write_clip(path, seed=0, num_frames=12):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_frames, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    media.write_video(path, images, 6)
    return media.probe_video(path)


@pytest.fixture
def video(tmp_path):
    return write_clip(tmp_path / "a.mp4")


@pytest.fixture
def cache(tmp_path):
    return FrameCache(tmp_path / "cache", 10**8)


def test_frames_are_those_of_the_video_and_are_decoded_once(tmp_path, video, cache):
    wanted = [3, 0, 3, 11]
    expected = media.load_frames(video, wanted)
    assert np.array_equal(cache.load(video, wanted), expected)
    assert (cache.num_found, cache.num_decoded) == (0, 3)
    again = FrameCache(tmp_path / "cache", 10**8)
    assert np.array_equal(again.load(video, wanted), expected)
    assert np.array_equal(again.load(video, [1, 0]), media.load_frames(video, [1, 0]))
    assert (again.num_found, again.num_decoded) == (5, 1)


def test_the_content_counts_and_not_the_name(tmp_path, video, cache):
    before = cache.load(video, [2])
    copy = media.probe_video(Path(shutil.copy(video.path, tmp_path / "b.mp4")))
    assert np.array_equal(cache.load(copy, [2]), before)
    assert cache.num_decoded == 1
    other = write_clip(video.path, seed=1)
    assert np.array_equal(cache.load(other, [2]), media.load_frames(other, [2]))
    assert not np.array_equal(cache.load(other, [2]), before)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_frame_is_decoded_again_and_mended(video, cache, damage):
    expected = cache.load(video, [5])
    (path,) = cache.folder.glob("frames/*/*")
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "changed": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}[damage])
    assert np.array_equal(cache.load(video, [5]), expected)
    assert cache.num_decoded == 2
    assert path.read_bytes() == data


def test_what_was_used_longest_ago_goes_first(tmp_path, video):
    cache = FrameCache(tmp_path / "cache", 8 * BYTES)
    cache.load(video, [0, 1, 2, 3])
    for age, index in enumerate((2, 0, 3, 1)):
        (path,) = cache.folder.glob(f"frames/*/*-{index}-64x48")
        os.utime(path, (1000 - age, 1000 - age))
    cache.load(video, [1])  # used now
    for clip in range(3):
        cache.load(write_clip(tmp_path / f"{clip}.mp4", seed=clip + 2), [0, 1])
    left = {path.name.split("-")[1] for path in cache.folder.glob("frames/*/*") if path.stat().st_mtime > 0}
    assert cache.load(video, [1]).shape == (1, 48, 64, 3)
    held = sum(max(path.stat().st_size, 4096) for path in cache.folder.glob("*/*/*"))
    assert held <= 8 * BYTES * (1 + 1 / 16) + BYTES
    found = cache.num_found
    cache.load(video, [1])
    cache.load(video, [3])
    assert cache.num_found == found + 1, "frame 1 was used last, frame 3 long ago"
    assert left


def test_leftovers_of_killed_processes_are_removed_after_an_hour(video, cache):
    cache.load(video, [0])
    folder = next(cache.folder.glob("frames/*"))
    old, new = folder / ".x.1", folder / ".y.2"
    old.write_bytes(b"x")
    new.write_bytes(b"y")
    os.utime(old, (time.time() - 4000,) * 2)
    cache.trim()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_takes_nothing_costs_no_frame(tmp_path, video, caplog):
    (tmp_path / "file").write_text("")
    cache = FrameCache(tmp_path / "file", 10**8)
    assert np.array_equal(cache.load(video, [4, 5]), media.load_frames(video, [4, 5]))
    assert np.array_equal(cache.load(video, [4]), media.load_frames(video, [4]))
    assert caplog.text.count("is not writable") == 1


def test_folders_of_pictures_are_read_as_they_are(tmp_path, cache):
    import published_layouts as published

    published.write_frames(tmp_path / "v", ["a", "b"])
    video = media.probe_video(tmp_path / "v")
    assert np.array_equal(cache.load(video, [1]), media.load_frames(video, [1]))
    assert not cache.folder.exists()


BUSY = """
import sys
from pathlib import Path
from evqa import media
from unipixel.data.frame_cache import FrameCache
folder = Path(sys.argv[1])
cache = FrameCache(folder / "cache", int(sys.argv[2]))
print("ready", flush=True)
while True:
    for path in sorted(folder.glob("*.mp4")):
        cache.load(media.probe_video(path), range(12))
"""


def test_killed_processes_leave_whole_frames_and_no_more_than_the_limit(tmp_path):
    """Three processes share a folder that holds half of what they read, so they write and remove all the time."""
    clips = [write_clip(tmp_path / f"{number}.mp4", seed=number) for number in range(4)]
    limit = 24 * BYTES
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'benchmark'}{os.pathsep}{ROOT / 'train'}"}
    command = [sys.executable, "-c", BUSY, str(tmp_path), str(limit)]
    busy = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    cache = FrameCache(tmp_path / "cache", limit)
    try:
        assert [process.stdout.readline() for process in busy] == ["ready\n"] * 3
        for turn in range(6):
            if turn in {1, 2, 3}:
                busy[turn - 1].send_signal(signal.SIGKILL)
            for clip in clips:
                assert np.array_equal(cache.load(clip, range(12)), media.load_frames(clip, range(12)))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    cache.trim()
    held = sum(max(path.stat().st_size, 4096) for path in cache.folder.glob("*/*/[!.]*"))
    assert 0 < held <= limit
    left = list(cache.folder.glob("frames/*/.*"))
    assert len(left) <= 3


def test_examples_from_the_cache_are_those_of_the_videos(squares, tokenizer, tmp_path):
    def batches(workers, **fields):
        config = DataConfig(
            datasets=((str(squares), 2.0),), num_frames=4, min_pixels=84 * 84, max_pixels=84 * 84, **fields
        )
        data = SFTDataset(mixture=mixture.load_mixture(config, 0), config=config, tokenizer=tokenizer, side=64)
        collate = DataCollator(tokenizer.pad_token_id)
        order = MixtureSampler(data.mixture, 32)
        return list(DataLoader(data, batch_size=4, sampler=order, collate_fn=collate, num_workers=workers))

    expected = batches(0)
    for _ in range(2):
        found = batches(2, frame_cache=tmp_path / "cache")
        for one, other in zip(expected, found, strict=True):
            assert one.keys() == other.keys()
            assert (one["pixel_values_videos"] == other["pixel_values_videos"]).all()
            assert all((a == b).all() for a, b in zip(one["frames"], other["frames"], strict=True))
    assert len(list((tmp_path / "cache" / "frames").glob("*/*"))) > 20
