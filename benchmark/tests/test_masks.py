import gzip
import json
import os
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from evqa import masks
from evqa.schema import RLE

ORACLE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "sav_rle"

sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
any_mask = sizes.flatmap(lambda size: arrays.arrays(np.bool_, size))


def blob(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return (x - 25) ** 2 + (y - 18) ** 2 < 150


@settings(max_examples=150, deadline=None)
@given(any_mask)
def test_run_lengths_are_those_of_pycocotools_both_ways(mask):
    coded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    rle = masks.encode(mask)
    assert (list(rle.size), rle.counts.encode()) == (coded["size"], coded["counts"])
    np.testing.assert_array_equal(masks.decode(rle), mask)
    assert masks.decode(rle).dtype == np.bool_
    assert masks.area(rle) == mask.sum()
    assert masks.from_run_lengths(masks.run_lengths(rle).tolist(), rle.size) == rle


def test_large_masks_with_long_runs_are_decoded_as_pycocotools_does():
    mask = np.zeros((2160, 3840), dtype=bool)
    mask[1000:1900, 5:3800] = True
    mask[7, 7] = True
    rle = masks.encode(mask)
    expected = coco.decode({"size": list(rle.size), "counts": rle.counts.encode()})
    np.testing.assert_array_equal(masks.decode(rle), expected.astype(bool))


def test_any_non_zero_value_is_foreground_when_encoding():
    labels = np.array([[0, 1, 2], [2, 0, 255]])
    np.testing.assert_array_equal(masks.decode(masks.encode(labels)), labels != 0)


@settings(max_examples=200, deadline=None)
@given(any_mask, st.data())
def test_a_cut_or_altered_run_length_text_is_refused_or_still_fits(mask, data):
    counts = masks.encode(mask).counts
    cut = data.draw(st.integers(0, len(counts)))
    noise = data.draw(st.text(max_size=6))
    altered = RLE(size=mask.shape, counts=counts[:cut] + noise)
    if is_refused(altered):
        with pytest.raises(ValueError, match="the mask is damaged"):
            masks.decode(altered)
    else:
        assert masks.decode(altered).shape == mask.shape
        assert masks.decode(altered).sum() == masks.area(altered)


def is_refused(rle):
    try:
        masks.run_lengths(rle)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    "rle",
    [
        RLE(size=(5, 7), counts=""),
        RLE(size=(5, 7), counts="0"),
        RLE(size=(5, 8), counts=masks.encode(np.ones((5, 7))).counts),
        RLE(size=(5, 7), counts="o" * 5),
        RLE(size=(5, 7), counts="S1" + "\x7f"),
        RLE(size=(5, 7), counts="S1\u00e9"),
        RLE(size=(5, 7), counts="oooooooooooooooo0"),
        RLE(size=(0, 7), counts="0"),
        RLE(size=(-5, -7), counts="S1"),
        RLE(size=(2**20, 2**20), counts="S1"),
    ],
)
def test_a_damaged_mask_is_an_error_not_uninitialised_memory(rle):
    with pytest.raises(ValueError, match=r"damaged|a mask has 1 to"):
        masks.decode(rle)
    with pytest.raises(ValueError, match=r"damaged|a mask has 1 to"):
        masks.union([rle])


@settings(max_examples=60, deadline=None)
@given(sizes.flatmap(lambda size: st.lists(arrays.arrays(np.bool_, size), min_size=1, max_size=4)))
def test_a_union_has_the_pixels_of_all(layers):
    union = masks.union([masks.encode(layer) for layer in layers])
    np.testing.assert_array_equal(masks.decode(union), np.any(layers, axis=0))


@pytest.mark.parametrize("rles", [[], [masks.encode(np.ones((2, 3))), masks.encode(np.ones((3, 2)))]])
def test_a_union_needs_masks_of_one_size(rles):
    with pytest.raises(ValueError, match="one size"):
        masks.union(rles)


def test_resize_takes_the_pixel_under_each_centre():
    mask = np.array([[1, 0], [0, 1]], dtype=bool)
    np.testing.assert_array_equal(masks.resize(mask, (4, 4)), mask.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(masks.resize(mask.repeat(3, 0).repeat(3, 1), (2, 2)), mask)
    np.testing.assert_array_equal(masks.resize(blob(), (40, 60)), blob())
    assert masks.resize(blob(), (80, 90)).shape == (80, 90)


def test_png_of_every_kind_is_read_by_value_not_by_colour(tmp_path):
    labels = np.zeros((6, 8), dtype=np.uint8)
    labels[1:4, 2:5], labels[4:, 6:] = 1, 2
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([9, 9, 9, 0, 0, 0, 255, 0, 0])  # the colour of object 1 is black, that of the background is not
    palette.putdata(labels.ravel().tolist())
    coloured = np.zeros((6, 8, 3), dtype=np.uint8)
    coloured[labels > 0] = (0, 0, 1)
    alpha = np.dstack([coloured, np.full((6, 8), 255, dtype=np.uint8)])
    files = {
        "palette": palette,
        "grey": Image.fromarray(labels),
        "black-and-white": Image.fromarray(labels > 0),
        "sixteen-bit": Image.fromarray(labels.astype(np.uint16) * 256),
        "colour": Image.fromarray(coloured),
        "alpha": Image.fromarray(alpha),
        "grey-alpha": Image.fromarray(np.dstack([labels, np.full_like(labels, 255)]), mode="LA"),
    }
    for name, image in files.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(masks.read_png(tmp_path / f"{name}.png"), labels > 0, err_msg=name)
    np.testing.assert_array_equal(masks.read_labels(tmp_path / "palette.png"), labels)
    np.testing.assert_array_equal(masks.read_labels(tmp_path / "grey.png"), labels)
    np.testing.assert_array_equal(masks.read_labels(tmp_path / "sixteen-bit.png"), labels.astype(int) * 256)
    with pytest.raises(ValueError, match="expected one channel"):
        masks.read_labels(tmp_path / "colour.png")


def test_a_folder_is_written_as_the_published_evaluator_reads_it_and_read_back(tmp_path):
    frame_masks = {3: blob(), 0: ~blob(), 12: np.zeros((40, 60), dtype=bool)}
    masks.write_folder(tmp_path / "masks", frame_masks.items())
    paths = masks.read_folder(tmp_path / "masks")
    assert {index: path.name for index, path in paths.items()} == {
        0: "00000.png",
        3: "00003.png",
        12: "00012.png",
    }
    assert list(paths) == [0, 3, 12]
    with Image.open(paths[3]) as image:
        assert image.mode == "L"
        assert set(np.unique(np.asarray(image))) == {0, 255}
    for index, path in paths.items():
        np.testing.assert_array_equal(masks.read_png(path), frame_masks[index])


def test_a_mask_folder_with_a_stray_name_is_refused_by_name(tmp_path):
    masks.write_folder(tmp_path, [(0, blob())])
    (tmp_path / ".DS_Store").write_text("not ours")
    (tmp_path / "notes.txt").write_text("not ours")
    assert list(masks.read_folder(tmp_path)) == [0]
    (tmp_path / "0.png").write_bytes((tmp_path / "00000.png").read_bytes())
    with pytest.raises(ValueError, match="both frame 0"):
        masks.read_folder(tmp_path)
    (tmp_path / "0.png").rename(tmp_path / "overlay.png")
    with pytest.raises(ValueError, match="named by its frame index"):
        masks.read_folder(tmp_path)
    with pytest.raises(ValueError, match="not a folder of masks"):
        masks.read_folder(tmp_path / "absent")


def test_a_folder_of_masks_may_hold_links_within_it_and_nothing_else_but_files(tmp_path):
    masks.write_folder(tmp_path / "m", [(0, blob())])
    (tmp_path / "m" / "00001.png").symlink_to("00000.png")
    assert list(masks.read_folder(tmp_path / "m")) == [0, 1]
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "m")
    np.testing.assert_array_equal(masks.read_png(masks.read_folder(linked)[1]), blob())
    (tmp_path / "m" / "00002.png").mkdir()
    with pytest.raises(ValueError, match=r"00002\.png is not a file"):
        masks.read_folder(tmp_path / "m")
    (tmp_path / "m" / "00002.png").rmdir()
    os.mkfifo(tmp_path / "m" / "00002.png")
    with pytest.raises(ValueError, match=r"00002\.png is not a file"):
        masks.read_folder(tmp_path / "m")


@settings(max_examples=200, deadline=None)
@given(any_mask)
def test_outlines_give_the_mask_back(mask):
    union = np.zeros_like(mask)
    for polygon in masks.to_polygons(mask):
        region = masks.from_polygons(polygon.exterior, polygon.holes, mask.shape)
        assert not (union & region).any()
        union |= region
    np.testing.assert_array_equal(union, mask)


def test_outlines_are_few_corners_with_holes_apart():
    mask = np.zeros((10, 12), dtype=bool)
    mask[1:9, 2:11] = True
    mask[3:5, 4:6] = False
    mask[6:8, 7:9] = False
    (polygon,) = masks.to_polygons(mask)
    assert sorted(map(tuple, polygon.exterior)) == [(2, 1), (2, 9), (11, 1), (11, 9)]
    assert sorted(len(hole) for hole in polygon.holes) == [4, 4]


def test_a_polygon_covers_the_pixels_whose_centres_it_covers():
    square = [[1, 1], [4, 1], [4, 3], [1, 3]]
    mask = masks.from_polygons(square, [], (5, 6))
    assert mask.sum() == 6
    assert mask[1:3, 1:4].all()
    triangle = masks.from_polygons([[0, 0], [4, 0], [0, 4]], [], (4, 4))
    y, x = np.mgrid[:4, :4]
    np.testing.assert_array_equal(triangle, x + 0.5 + y + 0.5 < 4)
    clipped = masks.from_polygons([[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]], [square], (5, 6))
    np.testing.assert_array_equal(clipped, ~mask)
    for corners in ([], [[1, 1]], [[1, 1], [4, 4]]):
        assert not masks.from_polygons(corners, [], (5, 6)).any()


@pytest.mark.parametrize(
    "points",
    [[[0, 0], [1, 1], [2]], [[0, 0], [1, float("nan")], [2, 2]], [[0, 0], [1e300, 1], [2, 2]]],
)
def test_a_broken_polygon_is_refused(points):
    with pytest.raises(ValueError, match=r"corners \[x, y\]|below 2\^31"):
        masks.from_polygons(points, [], (5, 6))


@pytest.mark.skipif(not ORACLE.is_dir(), reason="the SA-V masks are not here")
def test_published_run_lengths_decode_as_pycocotools_does():
    checked = 0
    for path in sorted(ORACLE.glob("*.json*"))[:4]:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            rles = list(rles_in(json.load(file)))
        for item in rles[:50]:
            rle = RLE(size=tuple(item["size"]), counts=item["counts"])
            expected = coco.decode({"size": item["size"], "counts": item["counts"].encode()})
            np.testing.assert_array_equal(masks.decode(rle), expected.astype(bool))
            checked += 1
    assert checked > 0


def rles_in(value):
    if isinstance(value, dict) and set(value) >= {"size", "counts"}:
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from rles_in(item)
