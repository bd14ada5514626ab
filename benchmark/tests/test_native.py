"""J and F: the compiled part and its numpy twin against the definition of DAVIS, stated here once more."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from evqa import masks
from evqa.masks import native
from evqa.masks.native import BadRunsError, BoundaryCounts, RunLengths
from evqa.metrics import boundary, spatial

ROOT = Path(__file__).resolve().parents[2]
ORACLE = ROOT.parent / "shared" / "oracles" / "davis_osvos"
needs_native = pytest.mark.skipif(native.state() != "compiled", reason=f"the compiled part is {native.state()}")


def definition(predicted: np.ndarray, gold: np.ndarray, radius: int) -> BoundaryCounts:
    """Outlines by comparing whole shifted images, tolerance by the distance to the nearest outline pixel."""
    sides = [mask.astype(int) for mask in (predicted, gold)]
    outlines = []
    for mask in sides:
        right, below, across = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
        right[:, :-1], below[:-1], across[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
        edge = ((mask ^ right) | (mask ^ below) | (mask ^ across)).astype(bool)
        edge[-1] = (mask[-1] ^ right[-1]).astype(bool)
        edge[:, -1] = (mask[:, -1] ^ below[:, -1]).astype(bool)
        edge[-1, -1] = False
        outlines.append(edge)
    pixels = int((predicted & gold).sum()), int(predicted.sum()), int(gold.sum())
    if not (predicted.any() and gold.any()):
        return BoundaryCounts(*pixels)
    near = [within(edge, radius) for edge in outlines]
    met = int((outlines[0] & near[1]).sum()), int((outlines[1] & near[0]).sum())
    return BoundaryCounts(*pixels, int(outlines[0].sum()), int(outlines[1].sum()), *met)


def within(edge: np.ndarray, radius: int) -> np.ndarray:
    if not edge.any():
        return edge
    nearest = ndimage.distance_transform_edt(~edge, return_distances=False, return_indices=True)
    return ((nearest - np.indices(edge.shape)) ** 2).sum(axis=0) <= radius**2


def test_the_distance_is_that_of_a_dilation_with_a_disk():
    edge = np.random.default_rng(2).random((40, 50)) < 0.01
    y, x = np.mgrid[-6:7, -6:7]
    np.testing.assert_array_equal(within(edge, 6), ndimage.binary_dilation(edge, x**2 + y**2 <= 36))


def runs(*layers: np.ndarray) -> RunLengths:
    return masks.merged_runs([masks.encode(layer) for layer in layers])


def check(predicted: np.ndarray, gold: np.ndarray, radius: int) -> None:
    """Every way to count gives the counts of the definition."""
    expected = definition(predicted, gold, radius)
    assert boundary.compare_in_numpy(predicted, gold, radius) == expected
    if native.state() != "compiled":
        return
    size = predicted.shape
    upper = np.arange(size[0])[:, None] < size[0] // 2
    forms = [predicted, runs(predicted), runs(predicted & upper, predicted & ~upper), predicted.astype(np.uint8) * 7]
    for first in forms:
        for second in (gold, runs(gold)):
            assert native.compare(first, second, size, radius) == expected


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))
pairs = sizes.flatmap(
    lambda size: st.tuples(*[arrays.arrays(np.bool_, size, elements=st.booleans(), fill=st.booleans())] * 2)
)


@settings(max_examples=120, deadline=None)
@given(pairs, st.integers(0, 12))
def test_every_way_of_counting_gives_the_counts_of_the_definition(pair, radius: int):
    check(*pair, radius)


def shapes(rng: np.random.Generator, size: tuple[int, int]) -> list[np.ndarray]:
    """Noise, nothing, everything, a row, a column, a pixel, ellipses, ellipses with holes."""
    y, x = np.mgrid[: size[0], : size[1]]
    line, column, pixel = (np.zeros(size, dtype=bool) for _ in range(3))
    line[rng.integers(size[0])] = column[:, rng.integers(size[1])] = True
    pixel[rng.integers(size[0]), rng.integers(size[1])] = True
    middle, reach = rng.random(2) * size, 1 + rng.random(2) * size / 2
    ellipse = ((y - middle[0]) / reach[0]) ** 2 + ((x - middle[1]) / reach[1]) ** 2 < 1
    noise = [rng.random(size) < share for share in (0.003, 0.5, 0.99)]
    return [*noise, np.zeros(size, bool), np.ones(size, bool), line, column, pixel, ellipse, ellipse ^ noise[0]]


EDGES = [(1, 1), (1, 90), (90, 1), (2, 2), (63, 64), (64, 65), (65, 127), (128, 129), (150, 190)]


@pytest.mark.parametrize("size", EDGES)
def test_frames_around_the_size_of_a_word_and_of_one_row_or_column(size: tuple[int, int]):
    rng = np.random.default_rng(sum(size))
    for number in range(24):
        kinds = shapes(rng, size)
        first = kinds[number % len(kinds)]
        second = kinds[rng.integers(len(kinds))] if number % 3 else np.roll(first, rng.integers(-5, 6, 2), (0, 1))
        check(first, second, int(rng.integers(0, 10)))


@pytest.mark.parametrize("radius", [31, 32, 33, 63, 64, 65, 71, 127, 128])
def test_a_radius_beyond_a_word_is_exact(radius: int):
    rng = np.random.default_rng(radius)
    kinds = shapes(rng, (150, 260))
    for first, second in [(kinds[8], kinds[0]), (kinds[7], kinds[0]), (kinds[9], np.roll(kinds[8], radius, 1))]:
        check(first, second, radius)


@pytest.mark.parametrize("size", [(4320, 7680), (2161, 4097), (20_000, 400), (3, 30_000)])
def test_large_frames_agree_and_what_is_not_compiled_is_done_in_numpy(size: tuple[int, int]):
    gold = np.zeros(size, dtype=bool)
    gold[size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = True
    predicted = np.roll(gold, (7, 75), (0, 1))
    radius = boundary.tolerance(*size)
    expected = boundary.compare_in_numpy(predicted, gold, radius)
    assert boundary.compare(runs(predicted), runs(gold)) == boundary.compare(predicted, gold) == expected
    if native.state() == "compiled":
        covered = native.compare(runs(predicted), runs(gold), size, radius)
        assert covered == (expected if radius <= 128 else None)


def test_pixels_may_lie_in_any_order_in_memory():
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 40, 50)) < 0.5
    wide = np.zeros((40, 61), np.uint8)
    wide[:, 1:51] = first
    for form in (np.asfortranarray(first), wide[:, 1:51], first[::-1][::-1], first.astype(np.int32)):
        assert boundary.compare(form, second) == boundary.compare(first, second)


COUNTS = masks.encode(np.random.default_rng(1).random((9, 14)) < 0.4).counts


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(COUNTS)), st.text("0PoO_`/ ?\x00\u00e9\u0660", max_size=4), st.integers(0, 3))
def test_run_lengths_are_refused_exactly_where_they_cannot_be_drawn(cut: int, noise: str, skip: int):
    counts = COUNTS[:cut] + noise + COUNTS[cut + skip :]
    mask, whole = RunLengths((9, 14), [counts]), RunLengths((9, 14), [COUNTS])
    try:
        pixels = masks.to_array(mask)
    except ValueError:
        for number, pair in enumerate([(mask, whole), (whole, mask)]):
            with pytest.raises(BadRunsError) as caught:
                boundary.compare(*pair)
            assert caught.value.first == (number == 0)
    else:
        assert boundary.compare(mask, whole) == boundary.compare(pixels, masks.to_array(whole))


@pytest.mark.parametrize("counts", [["0"], [""], [f"{COUNTS} {COUNTS}"], [COUNTS, ""], ["`" * 9], ["o" * 5, COUNTS]])
def test_texts_that_would_pass_for_other_masks_are_refused(counts: list[str]):
    with pytest.raises(BadRunsError):
        boundary.compare(RunLengths((9, 14), counts), RunLengths((9, 14), [COUNTS]))


@needs_native
@pytest.mark.parametrize("size", [(0, 5), (-4, -4), (2**20, 2**20), (2**62, 2)])
def test_a_size_that_no_frame_has_is_not_compared(size: tuple[int, int]):
    assert native.compare(RunLengths(size, ["0"]), RunLengths(size, ["0"]), size, 3) is None


@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no masks of a network in {ORACLE}")
def test_masks_of_a_network_count_the_same_in_all_forms():
    files = sorted((ORACLE / "gt").glob("*/*.png"))[::24]
    assert len(files) == 13
    for file in files:
        pair = [np.array(Image.open(path)) > 0 for path in (ORACLE / "pred" / file.parent.name / file.name, file)]
        expected = boundary.compare_in_numpy(pair[0], pair[1], 8)
        assert boundary.compare(runs(pair[0]), runs(pair[1])) == boundary.compare(*pair) == expected
        score = spatial.score_frame(runs(pair[0]), pair[1])
        assert score.j == np.sum(pair[0] & pair[1]) / np.sum(pair[0] | pair[1])


# How it is built

SCRIPT = """
import json, numpy as np
from evqa import masks
from evqa.masks import native
from evqa.metrics import boundary
rng = np.random.default_rng(0)
pairs = [(np.roll(mask, 3, 0), mask) for mask in (rng.random((5, 60, 80)) < 0.02)]
counts = [boundary.compare(*(masks.merged_runs([masks.encode(mask)]) for mask in pair)) for pair in pairs]
print(json.dumps([native.state(), counts]))
"""


def built(tmp_path: Path, compiler: str) -> dict[str, str]:
    """The environment of a copy of the package as setup.py builds it with this compiler."""
    shutil.copytree(ROOT / "benchmark/evqa", tmp_path / "evqa", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path), "--build-temp"]
    environment = {**os.environ, "CC": compiler, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(
        [*command, str(tmp_path / "temp")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return environment


def counted(environment: dict[str, str], folder: Path) -> list:
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_setup_builds_it_and_without_a_compiler_or_by_choice_the_counts_are_the_same(tmp_path: Path):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    without = counted(built(tmp_path / "without", "/nowhere/cc"), tmp_path)
    assert without[0] == "not built"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    environment = built(tmp_path / "with", compiler)
    assert counted(environment, tmp_path) == ["compiled", without[1]]
    assert counted({**environment, native.SWITCH: "1"}, tmp_path) == ["switched off", without[1]]


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_library_that_cannot_be_loaded_is_left_out(tmp_path: Path, content: bytes):
    shutil.copytree(ROOT / "benchmark/evqa", tmp_path / "evqa", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "evqa" / "masks" / "_native.abi3.so").write_bytes(content)
    state, counts = counted({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path)
    assert (state, len(counts)) == ("cannot be loaded", 5)
