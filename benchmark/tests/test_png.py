"""The fast reader of masks against Pillow: the same pixels, the same refusals."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evqa import masks
from evqa.masks import native, png
from evqa.metrics import boundary

LABELS = (np.arange(23 * 31).reshape(23, 31) // 40 % 5).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(height: int, width: int, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *(rest or (8, 0, 0, 0, 0))))


def file_of(*chunks: bytes) -> bytes:
    return png.SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


def filtered(pixels: np.ndarray, filters: list[int]) -> bytes:
    """Rows with PNG's filters, row i with number `filters[i % len(filters)]` (PNG specification, section 9.2)."""
    rows = b""
    wide = np.pad(pixels.astype(int), ((1, 0), (1, 0)))
    for y, row in enumerate(wide[1:], start=1):
        left, up, corner = row[:-1], wide[y - 1, 1:], wide[y - 1, :-1]
        guess = left + up - corner
        far = np.abs(np.stack([left, up, corner]) - guess)
        paeth = np.choose(np.argmin(far, axis=0), [left, up, corner])
        number = filters[(y - 1) % len(filters)]
        expected = [0 * left, left, up, (left + up) // 2, paeth][number]
        rows += bytes([number]) + ((row[1:] - expected) % 256).astype(np.uint8).tobytes()
    return rows


@pytest.mark.skipif(native.state() != "compiled", reason=f"the compiled part is {native.state()}")
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0], [3, 4], [2, 1]])
def test_every_filter_is_undone(filters: list[int], tmp_path: Path):
    pixels = np.random.default_rng(sum(filters)).integers(0, 256, (19, 27)).astype(np.uint8)
    content = file_of(header(19, 27), chunk(b"IDAT", zlib.compress(filtered(pixels, filters))))
    (tmp_path / "0.png").write_bytes(content)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "0.png")), pixels)
    np.testing.assert_array_equal(png.decode(content), pixels)


@pytest.mark.parametrize("mode", ["P", "L", "palette of 2", "1", "LA", "RGB", "I;16"])
def test_files_that_pillow_writes_are_read_as_pillow_reads_them(mode: str, tmp_path: Path):
    image = Image.fromarray(LABELS)
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 0, 0)])
    elif mode == "palette of 2":
        image = Image.fromarray(LABELS % 2)
        image.putpalette([0, 0, 0, 255, 0, 0])
    elif mode == "I;16":
        image = Image.fromarray(LABELS.astype(np.uint16) * 256)
    else:
        image = image.point([255 * (value > 0) for value in range(256)]).convert(mode)
    path = tmp_path / "00000.png"
    image.save(path)
    is_covered = mode in {"P", "palette of 2", "1"} or (mode == "L" and native.state() == "compiled")
    assert (png.read(path) is not None) == is_covered
    expected = np.array(Image.open(path))
    expected = expected[..., 0] if expected.ndim == 3 else expected
    np.testing.assert_array_equal(masks.read_png(path), expected != 0)
    if mode in {"P", "L", "palette of 2", "1", "I;16"}:
        np.testing.assert_array_equal(masks.read_labels(path), expected)


STRATEGIES = [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


def deflated(data: bytes, level: int, strategy: int, memory: int = 8) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, memory, strategy)
    return packer.compress(data) + packer.flush()


def random_pixels(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    """Labels as masks have them, and as they do not: single pixels, any bytes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    blob = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width)) < rng.uniform(0, height)
    labels = rng.integers(1, 256, (height, width))
    pixels = {"blob": blob * 255, "sparse": labels * (rng.random((height, width)) < 0.02), "any": labels - 1}[kind]
    return pixels.astype(np.uint8)


@pytest.mark.skipif(native.state() != "compiled", reason=f"the compiled part is {native.state()}")
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["blob", "sparse", "any"]),
    st.integers(1, 130),
    st.integers(1, 200),
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.sampled_from(STRATEGIES),
)
def test_bits_straight_from_the_stream_are_the_pixels_that_are_not_0(kind, height, width, seed, level, strategy):
    pixels = random_pixels(kind, height, width, seed)
    packed = deflated(filtered(pixels, [0]), level, strategy, memory=1 + seed % 9)
    bits = native.inflate_bits(packed, height, width)
    if bits is None:
        assert kind == "any" or height * width < 600  # a block that the compressor stored as it is
        return
    np.testing.assert_array_equal(bits.pixels(), pixels != 0)
    whole = pixels == pixels
    assert boundary.compare(bits, whole) == boundary.compare(pixels, whole)
    assert boundary.compare(whole, bits) == boundary.compare(whole, pixels)
    runs = masks.merged_runs([masks.encode(np.roll(pixels, 3, 0))])
    assert boundary.compare(bits, runs) == boundary.compare(pixels, runs)
    assert boundary.compare(bits, bits) == boundary.compare(pixels, pixels)


@pytest.mark.skipif(native.state() != "compiled", reason=f"the compiled part is {native.state()}")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_stream_gives_no_bits_or_bits_of_the_announced_size(data):
    packed = bytearray(deflated(filtered(LABELS, [0]), 6, data.draw(st.sampled_from(STRATEGIES))))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    bits = native.inflate_bits(bytes(packed[: data.draw(st.integers(0, len(packed)))]), *LABELS.shape)
    assert bits is None or bits.pixels().shape == LABELS.shape


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_a_mask_is_read_in_its_fastest_form_to_the_same_pixels(mode: str, tmp_path: Path):
    image = Image.fromarray(random_pixels("blob", 120, 160, 3)).convert(mode)
    image.save(tmp_path / "00000.png")
    mask = masks.read_mask(tmp_path / "00000.png")
    assert isinstance(mask, native.BitMask) == (mode == "P" and native.state() == "compiled")
    np.testing.assert_array_equal(masks.to_array(mask), np.array(image) != 0)
    assert masks.to_array(mask).any()
    assert boundary.compare(mask, mask).both == np.count_nonzero(np.array(image))


def test_pixels_in_several_chunks_with_notes_between_header_and_pixels(tmp_path: Path):
    packed = zlib.compress(filtered(LABELS, [0]))
    pieces = [chunk(b"IDAT", packed[at : at + 7]) for at in range(0, len(packed), 7)]
    notes = [chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"pHYs", bytes(9))]
    np.testing.assert_array_equal(png.decode(file_of(header(23, 31), *notes, *pieces)), LABELS)


PACKED = zlib.compress(filtered(LABELS, [0]))
NOT_COVERED = {
    "unknown chunk": file_of(header(23, 31), chunk(b"acTL", bytes(8)), chunk(b"IDAT", PACKED)),
    "interlaced": file_of(header(23, 31, 8, 0, 0, 0, 1), chunk(b"IDAT", PACKED)),
    "16 bits": file_of(header(23, 31, 16, 0, 0, 0, 0), chunk(b"IDAT", PACKED)),
    "two headers": file_of(header(23, 31), header(23, 31), chunk(b"IDAT", PACKED)),
    "pixels apart": file_of(
        header(23, 31), chunk(b"IDAT", PACKED[:9]), chunk(b"tIME", bytes(7)), chunk(b"IDAT", PACKED[9:])
    ),
    "no pixels": file_of(header(23, 31)),
    "no end": file_of(header(23, 31), chunk(b"IDAT", PACKED))[:-12],
    "too few rows": file_of(header(24, 31), chunk(b"IDAT", PACKED)),
    "too many rows": file_of(header(22, 31), chunk(b"IDAT", PACKED)),
    "filter 5": file_of(header(1, 3), chunk(b"IDAT", zlib.compress(b"\5abc"))),
    "no width": file_of(header(5, 0), chunk(b"IDAT", PACKED)),
    "a length beyond the file": png.SIGNATURE + b"\x7f\xff\xff\xff" + header(23, 31)[4:],
    "nothing": b"",
}


@pytest.mark.parametrize("content", NOT_COVERED.values(), ids=NOT_COVERED.keys())
def test_what_the_fast_reader_does_not_cover_it_leaves_alone(content: bytes):
    assert png.decode(content) is None


@pytest.mark.parametrize("size", [(8192, 8192), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_its_data_cannot_fill_is_not_inflated(size: tuple[int, int]):
    content = file_of(header(*size), chunk(b"IDAT", zlib.compress(bytes(2_000_000))))
    assert len(content) < 3000
    assert png.decode(content) is None


def test_no_more_is_inflated_than_the_picture_has():
    bomb = zlib.compress(bytes(50_000_000), 9)
    assert png.decode(file_of(header(200, 200), chunk(b"IDAT", bomb))) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_left_to_pillow(data):
    content = bytearray(file_of(header(23, 31), chunk(b"IDAT", PACKED)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    assert png.decode(bytes(content)) is None
    assert png.decode(bytes(content[:at])) is None
