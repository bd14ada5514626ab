"""Clips are written with PyAV; each frame carries its number as 8 black or white blocks."""

import os
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from evqa import masks, media
from evqa.media import av1, buffers, containers, hevc, images, sample_tables, video_index
from evqa.media import decode as media_decode
from evqa.methods.chat_session import ChatSession
from evqa.schema import Sample

MEDIA = Path(__file__).resolve().parents[2].parent / "shared" / "media"
SHAPE = (48, 128, 3)


def numbered(number):
    """uint8 [48, 128, 3]: bit b of the number is the grey of block b in the upper half; below, noise."""
    image = np.zeros(SHAPE, dtype=np.uint8)
    for bit in range(8):
        image[:24, 16 * bit : 16 * bit + 16] = 235 if number >> bit & 1 else 20
    noise = np.random.default_rng(number).integers(0, 256, (6, 32, 3)).astype(np.uint8)
    image[24:] = noise.repeat(4, axis=0).repeat(4, axis=1)
    return image


def number_in(image):
    return sum(int(image[4:20, 16 * bit + 4 : 16 * bit + 12].mean() > 128) << bit for bit in range(8))


@contextmanager
def ordinary_scheduling():
    """SVT-AV1 makes the thread of a root user that encodes a real-time one (SCHED_FIFO, priority 99) and leaves it so:
    the rest of the process, torch's threads that wait by turning among them, would leave others no processor.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@ordinary_scheduling()
def encode(
    path, ticks, *, time_base=Fraction(1, 30), codec="libx264", options=None, rate=30, pix_fmt="yuv420p", **container
):
    """Frame i is shown at `ticks[i] * time_base`."""
    options = {"crf": "20", "preset": "medium"} | (options or {})
    with av.open(str(path), "w", **container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = SHAPE[1], SHAPE[0], pix_fmt
        stream.codec_context.time_base = time_base
        stream.options = options
        for number, tick in enumerate(ticks):
            frame = VideoFrame.from_ndarray(numbered(number % 256), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            if pix_fmt != "yuv420p":
                frame = frame.reformat(format=pix_fmt)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def decode_all(path):
    """(seconds from the first frame, images) by decoding the whole file."""
    times, images = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(frame.pts * frame.time_base)
            images.append(frame.to_ndarray(format="rgb24"))
    return [float(time - times[0]) for time in times], images


def assert_exact(path, plans=(range(10_000),)):
    """Times, count, and the frames of every plan equal those of decoding the whole file."""
    times, images = decode_all(path)
    video = media.probe_video(path)
    assert video.num_frames == len(images)
    assert (video.height, video.width) == images[0].shape[:2]
    np.testing.assert_allclose(video.times, times, atol=1e-9)
    for number, plan in enumerate(plans):
        if number % 2 == 0:  # the decoder goes on from the first picture, which the index decoded
            media_decode.clear_caches()
            media.probe_video(path)
        indices = sorted({index for index in plan if index < len(images)})
        frames = dict(media.read_frames(video, indices))
        assert list(frames) == indices
        for index, image in frames.items():
            np.testing.assert_array_equal(image, images[index], err_msg=f"{path.name}: frame {index}")
    return video


def sparse_plans(count, seed=0):
    """Every third frame alone (so each place among three B-frames), random subsets, every third, all."""
    rng = np.random.default_rng(seed)
    subsets = [rng.choice(count, size=size, replace=False).tolist() for size in (2, 5, 12)]
    return [[index] for index in range(0, count, 3)] + subsets + [range(0, count, 3), range(count)]


B_FRAMES = {"x264-params": "keyint=24:min-keyint=24:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal"}
CLIPS = {
    "constant-rate": {"options": {"x264-params": "keyint=30:bframes=0"}},
    "b-frames": {"options": B_FRAMES},
    "open-gop": {"options": {"x264-params": "keyint=16:min-keyint=16:scenecut=0:bframes=3:b-adapt=0:open-gop=1"}},
    "every-frame-a-keyframe": {"options": {"x264-params": "keyint=1"}},
    "one-keyframe": {"options": {"x264-params": "keyint=infinite:scenecut=0:bframes=5:b-adapt=0"}},
    "intra-refresh": {"options": {"x264-params": "keyint=20:intra-refresh=1:bframes=0"}},
    "interlaced": {"options": {"x264-params": "keyint=20:interlaced=1:bframes=2"}},
    "start-offset": {"options": B_FRAMES, "offset": 75},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_an_h264_clip_equals_full_decoding(tmp_path, name, suffix):
    settings = dict(CLIPS[name])
    offset = settings.pop("offset", 0)
    path = tmp_path / f"{name}{suffix}"
    encode(path, [offset + tick for tick in range(60)], **settings)
    video = assert_exact(path, sparse_plans(60))
    assert video.num_frames == 60
    assert video.duration == pytest.approx(2.0, abs=2e-3)
    assert [number_in(image) for _, image in media.read_frames(video, [0, 17, 59])] == [0, 17, 59]


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx265", ".mp4", {"x265-params": "keyint=16:min-keyint=16:open-gop=1:bframes=3:log-level=none"}),
        (
            "libx265",
            ".mkv",
            {"x265-params": "keyint=16:open-gop=0:bframes=3:temporal-layers=3:log-level=none"},
        ),
        (
            "libvpx-vp9",
            ".webm",
            {"g": "16", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"},
        ),
        ("libvpx", ".webm", {"g": "16", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}),
        ("libsvtav1", ".mp4", {"preset": "12", "g": "16"}),
        ("mpeg4", ".avi", {"g": "12", "bf": "2"}),
        ("mpeg4", ".mp4", {"g": "12", "bf": "2"}),
    ],
)
def test_every_frame_of_other_codecs_equals_full_decoding(tmp_path, codec, suffix, options):
    path = tmp_path / f"clip{suffix}"
    encode(path, range(40), codec=codec, options=options | {"crf": "30"})
    video = assert_exact(path, sparse_plans(40)[::5])
    assert video.num_frames == 40
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_keeps_each_frames_own_time(tmp_path, suffix):
    gaps = np.random.default_rng(3).choice([20, 40, 120, 700], size=49)
    ticks = [0, *np.cumsum(gaps).tolist()]
    path = tmp_path / f"vfr{suffix}"
    encode(path, ticks, time_base=Fraction(1, 1000), options=B_FRAMES)
    video = assert_exact(path, sparse_plans(50)[::3])
    np.testing.assert_allclose(video.times, np.array(ticks) / 1000, atol=1e-9)
    times = [0.0, 1.2345, video.times[30] + 0.001, 1e9, -5.0]
    assert media.nearest_index(video, times) == [int(np.argmin(np.abs(video.times - time))) for time in times]


def copy_cut(source, target, start):
    """A stream copy whose edit list hides what lies between the keyframe before and frame `start`."""
    with av.open(str(source)) as reader:
        stream = reader.streams.video[0]
        cut = start * (1 / Fraction(30)) / stream.time_base
        reader.seek(int(cut), stream=stream)
        with av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as writer:
            copy = writer.add_stream_from_template(stream)
            for packet in reader.demux(stream):
                if packet.size:
                    packet.pts, packet.dts = packet.pts - int(cut), packet.dts - int(cut)
                    packet.stream = copy
                    writer.mux(packet)


@pytest.mark.parametrize("name", ["b-frames", "open-gop"])
def test_frames_hidden_by_an_edit_list_are_not_frames(tmp_path, name):
    encode(tmp_path / "whole.mp4", range(90), options=CLIPS[name]["options"])
    copy_cut(tmp_path / "whole.mp4", tmp_path / "cut.mp4", start=37)
    video = assert_exact(tmp_path / "cut.mp4", sparse_plans(53))
    assert video.num_frames == 53
    assert [number_in(image) for _, image in media.read_frames(video, [0, 52])] == [37, 89]


def test_pictures_that_cannot_be_decoded_at_the_start_of_a_cut_are_not_frames(tmp_path):
    encode(tmp_path / "whole.mkv", range(60), options=CLIPS["open-gop"]["options"])
    with av.open(str(tmp_path / "whole.mkv")) as reader, av.open(str(tmp_path / "cut.mkv"), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        second_keyframe = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second_keyframe:]:
            packet.stream = copy
            writer.mux(packet)
    assert_exact(tmp_path / "cut.mkv", sparse_plans(40)[::4])


def test_a_turned_video_is_read_upright(tmp_path):
    encode(tmp_path / "flat.mp4", range(5))
    with av.open(str(tmp_path / "flat.mp4")) as reader, av.open(str(tmp_path / "turned.mp4"), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        copy.set_display_rotation(-90)
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    flat = media.load_frames(media.probe_video(tmp_path / "flat.mp4"), [3])[0]
    video = media.probe_video(tmp_path / "turned.mp4")
    assert (video.width, video.height) == (48, 128)
    with av.open(str(tmp_path / "turned.mp4")) as container:
        assert next(container.decode(video=0)).rotation == -90
    clockwise = np.rot90(flat, -1)
    np.testing.assert_array_equal(media.load_frames(video, [3])[0], clockwise)


def test_frames_stream_and_a_reader_may_stop_early(tmp_path):
    media.write_video(tmp_path / "clip.mp4", (numbered(number) for number in range(20)), fps=6)
    reading = media.read_frames(media.probe_video(tmp_path / "clip.mp4"), range(20))
    index, image = next(reading)
    reading.close()
    assert (index, number_in(image)) == (0, 0)


def test_load_keeps_order_and_repeats(tmp_path):
    media.write_video(tmp_path / "clip.mp4", (numbered(number) for number in range(20)), fps=6)
    images = media.load_frames(media.probe_video(tmp_path / "clip.mp4"), [7, 2, 7, 19])
    assert images.dtype == np.uint8
    assert [number_in(image) for image in images] == [7, 2, 7, 19]


def test_a_written_video_has_the_frames_rate_and_bytes_asked_for(tmp_path):
    images = [numbered(number) for number in range(12)]
    for name in ("a.mp4", "b.mp4"):
        media.write_video(tmp_path / name, iter(images), fps=6)
    video = assert_exact(tmp_path / "a.mp4")
    assert (video.num_frames, video.duration, video.fps) == (12, 2.0, 6.0)
    assert video.times.tolist() == [number / 6 for number in range(12)]
    assert np.abs(media.load_frames(video, range(12))[:, :24].astype(int) - np.array(images)[:, :24]).mean() < 3
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (tmp_path / "a.mp4").read_bytes().find(b"moov") < (tmp_path / "a.mp4").read_bytes().find(b"mdat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_an_odd_size_is_padded_to_even_by_repeating_the_edge(tmp_path):
    images = np.full((3, 33, 47, 3), 200, dtype=np.uint8)
    media.write_video(tmp_path / "odd.mp4", images, fps=5)
    video = media.probe_video(tmp_path / "odd.mp4")
    assert (video.width, video.height) == (48, 34)
    assert np.abs(media.load_frames(video, [2]).astype(int) - 200).max() <= 3


def test_a_video_that_cannot_be_finished_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="one shape"):
        media.write_video(tmp_path / "clip.mp4", [numbered(0), numbered(1)[:20]], fps=6)
    with pytest.raises(ValueError, match="at least one image"):
        media.write_video(tmp_path / "clip.mp4", [], fps=6)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_is_a_video_in_natural_order(tmp_path):
    names = ["frame_1.png", "frame_2.PNG", "frame_9.JPEG", "frame_10.jpg"]
    for number, name in enumerate(names):
        Image.fromarray(numbered(number)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._frame_3.png").write_text("left by an archive")
    video = media.probe_video(tmp_path, folder_fps=2.0)
    assert (video.num_frames, video.width, video.height, video.fps) == (4, 128, 48, 2.0)
    assert video.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert [number_in(image) for _, image in media.read_frames(video, range(4))] == [0, 1, 2, 3]
    np.testing.assert_array_equal(media.load_frames(video, [1])[0], numbered(1))


def test_images_of_another_size_in_a_folder_are_named(tmp_path):
    Image.fromarray(numbered(0)).save(tmp_path / "0.png")
    Image.fromarray(numbered(1)[:, :64]).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is 64 x 48"):
        media.load_frames(media.probe_video(tmp_path), [0, 1])


def test_a_picture_of_16_bits_keeps_its_greys(tmp_path):
    greys = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    Image.fromarray(greys).save(tmp_path / "0.png")
    image = media.load_frames(media.probe_video(tmp_path), [0])[0]
    np.testing.assert_array_equal(image, np.repeat((greys >> 8)[:, :, None], 3, axis=2))


def clip_of(tmp_path, count, fps=6):
    media.write_video(tmp_path / "clip.mp4", (numbered(number) for number in range(count)), fps)
    return media.probe_video(tmp_path / "clip.mp4")


def test_plans_of_a_single_frame(tmp_path):
    video = clip_of(tmp_path, 1)
    assert (video.num_frames, video.times.tolist(), video.fps) == (1, [0.0], 6.0)
    assert (
        media.uniform_indices(video, 1)
        == media.uniform_indices(video, 8)
        == media.indices_at_fps(video, 1.0, 128)
        == [0]
    )
    assert media.nearest_index(video, [0.0, 99.0]) == [0, 0]
    assert media.random_in_bins(video, 4, np.random.default_rng(0)) == [0]
    assert number_in(media.load_frames(video, [0])[0]) == 0


def test_plans_follow_their_definitions(tmp_path):
    video = clip_of(tmp_path, 24)
    assert media.uniform_indices(video, 2) == [0, 23]
    assert media.uniform_indices(video, 4) == [0, 8, 15, 23]
    assert media.uniform_indices(video, 1) == [11]
    assert media.uniform_indices(video, 99) == list(range(24))
    assert media.indices_at_fps(video, 1.0, 128) == media.uniform_indices(video, 4)
    assert media.indices_at_fps(video, 6.0, 8) == media.uniform_indices(video, 8)
    assert media.indices_at_fps(video, 0.01, 8) == media.uniform_indices(video, 1)
    assert media.nearest_index(video, [0.0, 0.0833, 0.0834, 2.0]) == [0, 0, 1, 12]
    rng = np.random.default_rng(0)
    sampled = np.array([media.random_in_bins(video, 5, rng) for _ in range(500)])
    edges = np.arange(6) * 24 // 5
    for place in range(5):
        assert set(sampled[:, place]) == set(range(edges[place], edges[place + 1]))


def test_plans_go_by_time_where_the_rate_varies():
    """Ten frames in the first second, one a second until second 10; then one that is shown from 12 to 20."""
    times = np.array([*np.arange(10) / 10, *range(1, 11), 12.0, 20.0])
    video = media.Video(Path("clip.mp4"), 64, 48, times, 21.0)
    assert [times[index] for index in media.uniform_indices(video, 6)] == [0, 4, 8, 12, 20], (
        "16 is as near to 12 as to 20"
    )
    assert times[media.uniform_indices(video, 1)] == [10]
    assert media.uniform_indices(video, 22) == list(range(22))
    rng = np.random.default_rng(0)
    sampled = [media.random_in_bins(video, 4, rng) for _ in range(500)]
    usual = np.median(np.diff(times))
    starts = (20 + usual) / 4 * np.arange(5)
    for indices in sampled:
        assert len(indices) == len(set(indices)) <= 4
        for index in indices:
            assert 0 <= index < 22
    distinct = {index for indices in sampled for index in indices}
    assert distinct == set(range(22)), "every frame may be drawn"
    firsts = [times[indices[0]] for indices in sampled]
    assert max(firsts) < starts[1], "the first part has its own frame, however many frames lie in it"
    assert np.mean([index < 10 for indices in sampled for index in indices]) < 0.25, "no crowd of frames is preferred"


@pytest.mark.parametrize(
    "plan",
    [
        lambda video: media.uniform_indices(video, 0),
        lambda video: media.indices_at_fps(video, 0, 8),
        lambda video: media.indices_at_fps(video, float("nan"), 8),
        lambda video: media.nearest_index(video, [float("nan")]),
        lambda video: media.random_in_bins(video, 0, np.random.default_rng(0)),
        lambda video: media.load_frames(video, [6]),
        lambda video: media.load_frames(video, [-1]),
    ],
)
def test_a_plan_that_cannot_be_met_says_so(tmp_path, plan):
    with pytest.raises(ValueError, match=r"at least 1 frame|above 0|finite|has frames 0 to 5"):
        plan(clip_of(tmp_path, 6))


def test_a_file_that_changed_since_it_was_probed_is_refused(tmp_path):
    video = clip_of(tmp_path, 6)
    clip_of(tmp_path, 9)
    os.utime(video.path, ns=(1, 1))
    with pytest.raises(ValueError, match="changed since it was probed"):
        media.load_frames(video, [5])


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize("name", ["01_dog.mp4", "05_default_juggle.mp4"])
def test_sampled_frames_of_a_real_clip_equal_full_decoding(name):
    video = media.probe_video(MEDIA / name)
    indices = {*media.uniform_indices(video, 8), *media.random_in_bins(video, 10, np.random.default_rng(1))}
    frames = dict(media.read_frames(video, sorted(indices)))
    with av.open(str(MEDIA / name)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            assert float((frame.pts - container.streams.video[0].start_time) * frame.time_base) == pytest.approx(
                video.times[index], abs=1e-9
            )
            if index in indices:
                np.testing.assert_array_equal(frames[index], frame.to_ndarray(format="rgb24"))
    assert index == video.num_frames - 1


# The index of packets


INDEXED = [
    ("libx264", ".mp4", {}),
    ("libx264", ".ts", {}),
    ("libx264", ".mkv", {}),
    ("libx265", ".mp4", {"x265-params": "log-level=none"}),
    ("libvpx-vp9", ".webm", {"deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    ("libvpx", ".webm", {"deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    ("libsvtav1", ".mp4", {"preset": "12"}),
    ("libsvtav1", ".mkv", {"preset": "12"}),
    ("mpeg4", ".mp4", {"bf": "2"}),
    ("mpeg2video", ".ts", {"bf": "2"}),
    ("mpeg2video", ".mkv", {"bf": "2"}),
    ("mjpeg", ".mkv", {}),
    ("prores_ks", ".mov", {}),
    ("ffv1", ".mkv", {}),
]


@pytest.mark.parametrize(("codec", "suffix", "options"), INDEXED)
def test_the_frames_of_every_codec_are_told_by_its_packets(tmp_path, codec, suffix, options):
    """No picture but the first is decoded to know how many there are and when."""
    path = tmp_path / f"clip{suffix}"
    formats = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}
    encode(
        path, range(40), codec=codec, options=options | {"crf": "30", "g": "12"}, pix_fmt=formats.get(codec, "yuv420p")
    )
    assert video_index.index_of(path).packets is not None
    video = assert_exact(path, [[0, 17, 39], range(40)])
    assert video.num_frames == 40


def demuxed(path):
    """The index by a pass over the packets."""
    with containers.open_file(path) as source:
        return video_index._packets_by_demuxing(path, source)[0]


@pytest.mark.parametrize("name", CLIPS)
def test_sample_tables_tell_what_the_demuxer_does(tmp_path, name):
    settings = dict(CLIPS[name])
    offset = settings.pop("offset", 0)
    path = tmp_path / "clip.mp4"
    encode(path, [offset + tick for tick in range(60)], **settings)
    with containers.open_file(path) as source:
        table = video_index._table(path, source)
        assert table is not None
        actual, expected = video_index._packets_of_table(table, source), demuxed(path)
    for actual_field, expected_field in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(actual_field, expected_field)


def test_files_that_tables_alone_do_not_tell_are_demuxed(tmp_path):
    encode(tmp_path / "whole.mp4", range(90), options=B_FRAMES)
    copy_cut(tmp_path / "whole.mp4", tmp_path / "cut.mp4", start=37)
    remux(tmp_path / "whole.mp4", tmp_path / "fragments.mp4", movflags="frag_keyframe+empty_moov")
    for name, count in (("cut.mp4", 53), ("fragments.mp4", 90)):
        assert sample_tables.read_sample_table(tmp_path / name, 1) is None
        assert assert_exact(tmp_path / name, [[0, 11, 52]]).num_frames == count


@pytest.mark.parametrize("seed", range(4))
def test_damaged_sample_tables_are_refused_or_left_to_the_demuxer(tmp_path, seed):
    encode(tmp_path / "clip.mp4", range(30), options=B_FRAMES)
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    moov = content.index(b"moov")
    rng = np.random.default_rng(seed)
    for number in range(12):
        damaged = bytearray(content)
        for place in rng.integers(moov + 4, len(content), 6):
            damaged[place] = rng.integers(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damaged)
        try:
            table = sample_tables.read_sample_table(path, 1)
            video = media.probe_video(path)
            list(media.read_frames(video, [0, video.num_frames - 1]))
        except ValueError:
            continue
        assert table is None or len(table.presentation) >= 0


def remux(source, target, **options):
    """A stream copy."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)


LAYERS = "keyint=16:min-keyint=16:bframes=7:b-pyramid=1:b-adapt=0:log-level=none"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    "params", [f"{LAYERS}:open-gop=1", f"{LAYERS}:temporal-layers=3:open-gop=0", f"{LAYERS}:ref=5"]
)
def test_hevc_pictures_that_are_left_out_change_no_other(tmp_path, suffix, params):
    path = tmp_path / f"clip{suffix}"
    encode(path, range(48), codec="libx265", options={"x265-params": params})
    assert_exact(path, sparse_plans(48)[::2])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "params", ["hierarchical-levels=4", "hierarchical-levels=2", "pred-struct=1", "tile-columns=1"]
)
def test_av1_pictures_that_are_left_out_change_no_other(tmp_path, suffix, params):
    path = tmp_path / f"clip{suffix}"
    encode(path, range(48), codec="libsvtav1", options={"preset": "12", "g": "24", "svtav1-params": params})
    assert_exact(path, sparse_plans(48)[::2])


@pytest.mark.parametrize(("codec", "options"), [("libx265", {"x265-params": LAYERS}), ("libsvtav1", {"preset": "10"})])
def test_some_pictures_are_left_out(tmp_path, monkeypatch, codec, options):
    path = tmp_path / "clip.mp4"
    encode(path, range(33), codec=codec, options=options)
    left_out = []
    gives = media_decode._FrameSkipper.accepts

    def noted(self, packet, *, is_target):
        is_given = gives(self, packet, is_target=is_target)
        left_out.append(not is_given or str(self._context.skip_frame).endswith("NONREF"))
        return is_given

    monkeypatch.setattr(media_decode._FrameSkipper, "accepts", noted)
    media.load_frames(media.probe_video(path), [15])
    assert sum(left_out) >= 3


def test_headers_of_damaged_packets_tell_nothing():
    rng = np.random.default_rng(0)
    for number in range(3000):
        content = memoryview(rng.integers(0, 256, number % 40).astype(np.uint8).tobytes())
        for kind in (hevc.HevcReferences, av1.Av1References):
            references = kind(b"" if number % 2 else content.tobytes())
            assert references.is_needed(content) in {True, False}


def test_indices_in_memory_are_bounded(tmp_path, monkeypatch):
    media_decode.clear_caches()
    for number in range(3):
        encode(tmp_path / f"{number}.mp4", range(30))
        size = video_index.index_of(tmp_path / f"{number}.mp4").nbytes
        monkeypatch.setattr(video_index, "MAX_BYTES", 2 * size)
    assert [path.name for path, _ in video_index._cache.indices] == ["1.mp4", "2.mp4"]
    assert size <= 30 * 24, "an hour at 30 frames a second takes 2.6 MB"


def test_a_video_is_opened_once_and_kept_frames_are_decoded_once(tmp_path, monkeypatch):
    media_decode.clear_caches()
    path = tmp_path / "clip.mp4"
    encode(path, range(40), options=B_FRAMES)
    opened, decoded = [], []
    open_file, decode = containers._open, media_decode._decode_packets
    monkeypatch.setattr(containers, "_open", lambda path: opened.append(path) or open_file(path))
    monkeypatch.setattr(media_decode, "_decode_packets", lambda *args: decoded.append(args[2]) or decode(*args))
    first = media.load_frames(media.probe_video(path), [3, 9, 20], keep=True)
    groups = len(decoded)
    np.testing.assert_array_equal(media.load_frames(media.probe_video(path), [20, 9, 3], keep=True), first[::-1])
    assert len(decoded) == groups
    several = media.load_frames(media.probe_video(path), [3, 4, 20, 39])
    np.testing.assert_array_equal(several[[0, 2]], first[[0, 2]])
    assert opened == [path]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("libvpx-vp9", ".webm")])
def test_the_first_picture_is_decoded_once(tmp_path, monkeypatch, codec, suffix):
    path = tmp_path / f"clip{suffix}"
    encode(path, range(6), codec=codec)
    _, images = decode_all(path)
    media_decode.clear_caches()
    video = media.probe_video(path)
    monkeypatch.setattr(media_decode, "_packets_from", None)  # it would seek, and decode from the keyframe again
    np.testing.assert_array_equal(media.load_frames(video, range(6)), images)
    monkeypatch.undo()
    np.testing.assert_array_equal(media.load_frames(video, range(6)), images)  # the decoder is elsewhere by now


def test_memory_of_released_arrays_is_used_again():
    buffers.release_buffers()
    first = buffers.empty_array((5, 2**20))
    first[:] = 7
    address, part = first.ctypes.data, first[1:, 5:]
    del first
    second = buffers.empty_array((4, 2**20))
    second[:] = 9
    assert (part == 7).all()  # a view keeps the memory
    del part
    again = buffers.empty_array((2, 2, 2**20))
    assert again.ctypes.data == address
    again[:] = 1
    assert (second == 9).all()
    assert buffers.empty_array((3, 5)).shape == (3, 5)


def test_kept_frames_are_bounded_and_a_long_scan_keeps_its_first(tmp_path, monkeypatch):
    media_decode.clear_caches()
    for name in ("a.mp4", "b.mp4"):
        encode(tmp_path / name, range(20))
    video = media.probe_video(tmp_path / "a.mp4")
    list(media.read_frames(video, [0], keep=True))
    size = media_decode._frame_cache._bytes
    monkeypatch.setattr(media_decode, "MAX_BYTES", 5 * size)
    images = media.load_frames(video, range(20), keep=True)
    index = video_index.index_of(video.path)
    assert list(media_decode._frame_cache.get(index, range(20))) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(media.load_frames(video, range(20), keep=True), images)
    list(media.read_frames(media.probe_video(tmp_path / "b.mp4"), [7], keep=True))
    assert media_decode._frame_cache._bytes == size, "another video takes the place of the one used longest ago"
    media_decode.clear_caches()


def test_a_child_process_shares_no_open_file(tmp_path):
    path = tmp_path / "clip.mp4"
    encode(path, range(40), options=B_FRAMES)
    video = media.probe_video(path)
    expected = media.load_frames(video, range(40))
    reading = media.read_frames(video, range(40))
    next(reading)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(media.load_frames(video, range(40)), expected) else 1)
    rest = [image for _, image in reading]
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(np.stack(rest), expected[1:])


# Files that end too early


CUT = [
    ("libx264", ".mp4", {}),
    ("libx264", ".mov", {}),
    ("libx264", ".mkv", {}),
    ("libvpx-vp9", ".webm", {"deadline": "realtime"}),
    ("libx264", ".ts", {}),
    ("mpeg4", ".avi", {}),
    ("libx264", ".flv", {}),
    ("mpeg2video", ".mpg", {}),
    ("libvpx", ".ogv", {"deadline": "realtime"}),
    ("wmv2", ".wmv", {}),
    ("gif", ".gif", {}),
]


@pytest.mark.parametrize(("codec", "suffix", "options"), CUT)
def test_a_cut_file_is_refused_in_every_container(tmp_path, codec, suffix, options):
    path = tmp_path / f"clip{suffix}"
    encode(
        path,
        range(60),
        codec=codec,
        options=options | {"crf": "30", "g": "12"},
        pix_fmt="rgb8" if codec == "gif" else "yuv420p",
    )
    assert media.probe_video(path).num_frames == 60
    content = path.read_bytes()
    for share in (0.5, 0.7, 0.95):
        cut = tmp_path / f"cut{share}{suffix}"
        cut.write_bytes(content[: int(len(content) * share) // 188 * 188 + 11])
        with pytest.raises(ValueError, match=r"truncated|cannot be read"):
            media.probe_video(cut)


def test_cut_fragments_and_a_cut_live_recording_are_refused(tmp_path):
    """Neither says in its header how long it is."""
    encode(tmp_path / "whole.mp4", range(60), options=B_FRAMES)
    for name, options in (("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("live.mkv", {"live": "1"})):
        remux(tmp_path / "whole.mp4", tmp_path / name, **options)
        assert media.probe_video(tmp_path / name).num_frames == 60
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(content[: int(len(content) * 0.7)])
        with pytest.raises(ValueError, match="truncated"):
            media.probe_video(tmp_path / f"cut-{name}")


# Pictures that the camera turned


def turned(path, orientation, image):
    """A file whose EXIF data say that the stored picture is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(
        path, exif=exif, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {})
    )


UPRIGHT = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_read_upright(tmp_path, orientation, suffix):
    stored = numbered(5)
    turned(tmp_path / f"a{suffix}", orientation, stored)
    plain = images.read_rgb(tmp_path / f"a{suffix}")
    Image.fromarray(stored).save(
        tmp_path / f"flat{suffix}", **({"quality": 100, "subsampling": 0} if suffix == ".jpg" else {})
    )
    expected = UPRIGHT[orientation](images.read_rgb(tmp_path / f"flat{suffix}"))
    np.testing.assert_array_equal(plain, expected)
    assert images.image_size(tmp_path / f"a{suffix}") == expected.shape[:2]
    video = media.probe_video(tmp_path / f"a{suffix}")
    assert (video.height, video.width) == expected.shape[:2]
    np.testing.assert_array_equal(media.load_frames(video, [0])[0], expected)


def test_a_mask_of_a_turned_picture_is_upright_too(tmp_path):
    mask = np.zeros((20, 40), dtype=np.uint8)
    mask[2:6, 3:9] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(mask).save(tmp_path / "mask.png", exif=exif)
    np.testing.assert_array_equal(masks.read_png(tmp_path / "mask.png"), np.rot90(mask > 0, -1))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, value):
    turned(tmp_path / "a.jpg", value, numbered(1))
    assert images.read_rgb(tmp_path / "a.jpg").shape == SHAPE
    content = (tmp_path / "a.jpg").read_bytes()
    place = content.index(b"Exif\0\0")
    (tmp_path / "b.jpg").write_bytes(content[: place + 6] + b"\xff" * 8 + content[place + 14 :])
    assert images.read_rgb(tmp_path / "b.jpg").shape == SHAPE
    assert images.image_size(tmp_path / "b.jpg") == SHAPE[:2]


# The rate of a folder of frames


def folder_of_frames(folder, count=12):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(numbered(number)).save(folder / f"{number:04}.png")
    return folder


def test_the_rate_of_a_folder_is_given_written_named_or_assumed_with_a_warning(tmp_path, caplog):
    folder = folder_of_frames(tmp_path / "frames")
    assert media.probe_video(folder).fps == 6.0
    assert "6 frames per second are assumed" in caplog.text
    assert str(folder / "fps.txt") in caplog.text
    caplog.clear()
    media.probe_video(folder)
    media.probe_video(folder_of_frames(tmp_path / "others"))
    assert not caplog.text, "once for all videos of a data set"
    (folder / "fps.txt").write_text("12.5\n")
    assert media.probe_video(folder).duration == pytest.approx(12 / 12.5)
    assert media.probe_video(folder, 3.0).fps == 3.0
    folder_with_rate = folder_of_frames(tmp_path / "video_frames_24fps" / "a")
    assert media.probe_video(folder_with_rate).fps == 24.0
    folder_with_file = folder_of_frames(tmp_path / "stated" / "a")
    media.set_folder_fps(folder_with_file, 30.0)
    assert media.probe_video(folder_with_file).times[-1] == pytest.approx(11 / 30)
    assert not caplog.text


@pytest.mark.parametrize("content", ["", "fast", "0", "-5", "nan", "inf", "1e9", "25 fps"])
def test_a_rate_that_is_none_is_refused(tmp_path, content):
    folder = folder_of_frames(tmp_path / "frames", 2)
    (folder / "fps.txt").write_text(content)
    with pytest.raises(ValueError, match=r"fps\.txt"):
        media.probe_video(folder)


def test_a_lone_picture_needs_no_rate(tmp_path, caplog):
    Image.fromarray(numbered(1)).save(tmp_path / "a.png")
    assert media.probe_video(tmp_path / "a.png").num_frames == 1
    assert not caplog.text


def test_a_folder_of_frames_that_its_data_set_times_is_predicted_with_those_times(tmp_path):
    folder = folder_of_frames(tmp_path / "frames")
    sample = Sample(id="a", video_id="a", video=folder, question="What?", options=("x", "y"), answer=0, fps=24.0)
    ChatSession(None, sample, times=True)
    assert media.probe_video(folder).duration == pytest.approx(0.5)
