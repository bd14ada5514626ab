"""How fast J and F are, against the algorithm of the public evaluators in the same process on the same masks.

    python benchmark/perf/masks.py                                          # made masks, 480p and 1080p
    python benchmark/perf/masks.py --gold GT_FOLDER --predicted PRED_FOLDER # one's own: <sequence>/%05d.png in both

The reference restates what DAVIS 2017, vos-benchmark, TrackEval and the ST-Evidence evaluator share: outlines by
comparing shifted images, a whole-frame dilation of each with a disk (OpenCV), sums. As the fastest of them does, it
skips pairs with an empty mask. One thread; CPU time of this thread; each figure is the median over the rounds of the
mean over the pairs. J and F of every pair have to be equal to the last bit, or the program stops.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from evqa import masks
from evqa.masks import native
from evqa.metrics.spatial import score_frame
from evqa.schema import RLE

Mask = NDArray[np.bool_]
Scores = tuple[float, float]

SIZES = {"480p": (480, 854, 120), "1080p": (1080, 1920, 40)}
"""Name -> height, width, pairs."""


class Pair(NamedTuple):
    """A predicted and a gold mask."""

    predicted: Mask
    gold: Mask


# Masks


def made_pairs(height: int, width: int, number: int) -> Iterator[Pair]:
    """Irregular blobs with predictions that are shifted, rough, holed, spurious or missed; the same each time."""
    rng = np.random.default_rng(20_261_121)
    for index in range(number):
        centre = rng.uniform(0.25, 0.75, 2) * (height, width)
        radius, waves = rng.uniform(0.06, 0.24) * height, rng.uniform(-0.16, 0.16, 5)
        gold = _blob(height, width, centre, radius, waves)
        drift = rng.normal(0, 0.008 * height, 2)
        predicted = _blob(
            height, width, centre + drift, radius * rng.uniform(0.93, 1.08), waves + rng.normal(0, 0.02, 5)
        )
        kind = index % 10
        if kind == 3:
            predicted = _roughened(predicted, rng)
        elif kind == 5:
            predicted &= ~_blob(height, width, centre, radius * 0.4, waves)
        elif kind == 7:
            predicted |= _blob(height, width, rng.uniform(0.1, 0.9, 2) * (height, width), radius * 0.5, waves)
        elif kind == 9:
            predicted = np.zeros_like(gold) if index % 20 == 9 else predicted
            gold = np.zeros_like(gold) if index % 20 == 19 else gold
        yield Pair(predicted, gold)


def _blob(height: int, width: int, centre: NDArray[Any], radius: float, waves: NDArray[Any]) -> Mask:
    y, x = np.ogrid[:height, :width]
    y, x = y - centre[0], x - centre[1]
    angle = np.arctan2(y, x)
    reach = radius * (1 + sum(wave * np.cos((order + 2) * angle + order) for order, wave in enumerate(waves)))
    return np.asarray(np.hypot(y, x) < reach)


def _roughened(mask: Mask, rng: np.random.Generator) -> Mask:
    """Steps of 8 pixels along the outline, some of them off."""
    height, width = mask.shape
    coarse = mask[::8, ::8] ^ (rng.random((-(-height // 8), -(-width // 8))) < 0.01)
    return np.kron(coarse, np.ones((8, 8), bool))[:height, :width]


def read_pairs(gold: Path, predicted: Path) -> list[Pair]:
    """Every sixth file that both folders have."""
    files = sorted(path for path in gold.glob("*/*.png") if (predicted / path.relative_to(gold)).is_file())
    if not files:
        raise SystemExit(f"{gold} and {predicted} have no <sequence>/<frame>.png in common")
    return [Pair(_pillow(predicted / file.relative_to(gold)), _pillow(file)) for file in files[::6]]


def _pillow(path: Path) -> Mask:
    return np.array(Image.open(path)) > 0


# The algorithm of the public evaluators


def outline_by_shifts(mask: Mask) -> NDArray[np.uint8]:
    """`seg2bmap` at the mask's own size."""
    right, below, across = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], below[:-1, :], across[:-1, :-1] = mask[:, 1:], mask[1:, :], mask[1:, 1:]
    edge = (mask ^ right) | (mask ^ below) | (mask ^ across)
    edge[-1, :] = mask[-1, :] ^ right[-1, :]
    edge[:, -1] = mask[:, -1] ^ below[:, -1]
    edge[-1, -1] = 0
    return edge.astype(np.uint8)


def reference(predicted: Mask, gold: Mask) -> Scores:
    """J and F of a pair."""
    if not (predicted.any() and gold.any()):
        value = float(predicted.any() == gold.any())
        return value, value
    region = float(np.sum(predicted & gold) / np.sum(predicted | gold))
    radius = math.ceil(0.008 * float(np.linalg.norm(gold.shape)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)
    ours, theirs = outline_by_shifts(predicted), outline_by_shifts(gold)
    num_ours, num_theirs = int(np.sum(ours)), int(np.sum(theirs))
    if not (num_ours and num_theirs):
        return region, float(num_ours == num_theirs)
    precision = int(np.sum(ours * cv2.dilate(theirs, disk))) / num_ours
    recall = int(np.sum(theirs * cv2.dilate(ours, disk))) / num_theirs
    outline = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return region, outline


# Measurement


class Case(NamedTuple):
    """One comparison: the same pairs in the form that either side takes them."""

    name: str
    ours: Callable[[Any, Any], Scores]
    our_pairs: Sequence[tuple[Any, Any]]
    theirs: Callable[[Any, Any], Scores]
    their_pairs: Sequence[tuple[Any, Any]]


def _ours(predicted: Any, gold: Any) -> Scores:
    score = score_frame(predicted, gold)
    return score.j, score.f


def _ours_from_json(predicted: str, gold: str) -> Scores:
    return _ours(
        masks.merged_runs([RLE.model_validate_json(predicted)]), masks.merged_runs([RLE.model_validate_json(gold)])
    )


def _ours_from_files(predicted: Path, gold: Path) -> Scores:
    return _ours(masks.read_mask(predicted), masks.read_mask(gold))


def _theirs_from_json(predicted: str, gold: str) -> Scores:
    return reference(coco.decode(json.loads(predicted)).astype(bool), coco.decode(json.loads(gold)).astype(bool))


def _theirs_from_files(predicted: Path, gold: Path) -> Scores:
    return reference(_pillow(predicted), _pillow(gold))


def cases(pairs: Sequence[Pair], folder: Path) -> list[Case]:
    """The forms in which masks come: in memory as pixels or run lengths, as JSON text, as palette PNG files."""
    coded = [(masks.encode(predicted), masks.encode(gold)) for predicted, gold in pairs]
    runs = [(masks.merged_runs([predicted]), masks.merged_runs([gold])) for predicted, gold in coded]
    texts = [(predicted.model_dump_json(), gold.model_dump_json()) for predicted, gold in coded]
    files = [
        (_write(folder / f"{index}-0.png", pair.predicted), _write(folder / f"{index}-1.png", pair.gold))
        for index, pair in enumerate(pairs)
    ]
    return [
        Case("pixels in memory", _ours, pairs, reference, pairs),
        Case("run lengths in memory", _ours, runs, reference, pairs),
        Case("from JSON of run lengths", _ours_from_json, texts, _theirs_from_json, texts),
        Case("from palette PNG files", _ours_from_files, files, _theirs_from_files, files),
    ]


def _write(path: Path, mask: Mask) -> Path:
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 128)])
    image.save(path)
    return path


def seconds(function: Callable[[Any, Any], Scores], pairs: Sequence[tuple[Any, Any]]) -> tuple[float, list[Scores]]:
    """CPU seconds a pair, and the scores; each pair once to warm up, then once for the clock."""
    spent, scores = 0.0, []
    for pair in pairs:
        function(*pair)
        start = time.thread_time()
        scores.append(function(*pair))
        spent += time.thread_time() - start
    return spent / len(pairs), scores


def compare(case: Case, rounds: int) -> tuple[float, float]:
    """Microseconds a pair: theirs, ours; rounds take turns, so that both see the same machine."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        theirs, expected = seconds(case.theirs, case.their_pairs)
        ours, scores = seconds(case.ours, case.our_pairs)
        if scores != expected:
            raise SystemExit(f"{case.name}: J or F differ from the reference")
        times.append((theirs, ours))
    return statistics.median(pair[0] for pair in times) * 1e6, statistics.median(pair[1] for pair in times) * 1e6


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, help="folder of <sequence>/%%05d.png")
    parser.add_argument("--predicted", type=Path, help="the same of predictions")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}, kernel {native.state()}"
    )
    if options.gold and options.predicted:
        groups = {"own masks": read_pairs(options.gold, options.predicted)}
    else:
        groups = {name: list(made_pairs(*size)) for name, size in SIZES.items()}
    for name, pairs in groups.items():
        height, width = pairs[0].gold.shape
        print(
            f"\n{name}: {len(pairs)} pairs of {height} x {width}, "
            f"mean J {np.mean([reference(*pair)[0] for pair in pairs]):.2f}"
        )
        print(f"{'':26}{'reference us':>14}{'evqa us':>10}{'ratio':>8}")
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(pairs, Path(folder)):
                theirs, ours = compare(case, options.rounds)
                print(f"{case.name:26}{theirs:14.0f}{ours:10.1f}{theirs / ours:8.1f}")
    print("\nJ and F are equal to the last bit in every pair")


if __name__ == "__main__":
    main()
