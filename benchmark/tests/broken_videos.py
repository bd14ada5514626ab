"""Videos as they should not be: functions that spoil a clip, and functions that write odd clips that can be read."""

import re
import struct
import zlib

import av
import numpy as np
from PIL import Image

from evqa import media

IMAGES = [np.full((32, 48, 3), 20 * number, dtype=np.uint8) for number in range(12)]


# Spoiled


def clip(folder):
    path = folder / "clip.mp4"
    media.write_video(path, IMAGES, fps=6)
    return path


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


def cut_within_the_header(path):
    path.write_bytes(path.read_bytes()[:60])


def emptied(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("This is no video.\n" * 100)


def play_list(path):
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")


def file_list(path):
    path.write_text(f"ffconcat version 1.0\nfile {path.with_name('other.mp4').name}\n")
    media.write_video(path.with_name("other.mp4"), IMAGES, fps=6)


def removed(path):
    path.unlink()


def sound_only(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), dtype=np.float32), "fltp", "stereo")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def noise_for_pictures(path):
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 4
    content[start:] = np.random.default_rng(0).integers(0, 256, len(content) - start).astype(np.uint8).tobytes()
    path.write_bytes(bytes(content))


def empty_folder(path):
    path.unlink()
    path.mkdir()


def folder_of_broken_images(path):
    empty_folder(path)
    (path / "frame_0000.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")


def folder_of_a_bomb(path):
    empty_folder(path)
    (path / "frame_0000.png").write_bytes(png_bomb())


def png_bomb():
    """A PNG of a few kilobytes that says it has 60000 x 60000 pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# Odd, and readable


def patch_box(path, name, offset, value):
    content = bytearray(path.read_bytes())
    at = content.find(name) + 4 + offset
    content[at : at + 4] = struct.pack(">I", value)
    path.write_bytes(bytes(content))


def one_frame_without_duration(path):
    """A single frame; the time to the next one, which gives the frame rate, is 0."""
    media.write_video(path, IMAGES[:1], fps=6)
    patch_box(path, b"stts", 12, 0)


def without_rate(path):
    """Three frames at 0, 31 / 30 and 100 s in a Matroska file that states no frame rate."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number, image in enumerate(IMAGES[:3]):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = [0, 31, 3000][number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    default_duration = re.search(rb"\x23\xe3\x83\x84....", content, re.DOTALL)
    if default_duration:  # EBML Void (0xEC) in place of the frame rate
        content = content.replace(default_duration[0], b"\xec\x86" + bytes(6))
    path.write_bytes(content)


def tall_and_fast(path):
    media.write_video(path, [np.repeat(image[:, :16], 3, axis=0) for image in IMAGES], fps=60)


def slow(path):
    """A frame every 100 s."""
    media.write_video(path, IMAGES, fps=0.01)


def write_image(path, image):
    Image.fromarray(image).save(path)
