"""What a user sees of a run on stderr: how much is done, the time that is left, the score so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from tqdm import tqdm

from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case
from evqa.metrics.frames import BadMask, compare, gold_masks
from evqa.metrics.spatial import BOTH_EMPTY
from evqa.metrics.temporal import tiou
from evqa.schema import Prediction, Sample, Track

FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"

QUIET_SECONDS = 30.0
"""Between two lines where stderr is a file."""

LIVE_FRAMES = 8
"""Of a sample, evenly spread, on which masks are compared while a run goes on; `evqa score` compares all."""


class Progress:
    """A bar; the time left is weighed by what each sample costs, since the longest videos come first."""

    def __init__(self, samples: Mapping[str, Sample], *, show: bool) -> None:
        """`samples`: all that the run is to have, by id."""
        self._samples: Mapping[str, Sample] = samples if show else {}
        self._values: dict[str, dict[str, float] | None] = {}
        self._costs: Mapping[str, float] = {}
        self._started, self._spent, self._left = time.monotonic(), 0.0, 0.0
        pace = 0.2 if sys.stderr.isatty() else QUIET_SECONDS
        self._bar = tqdm(total=len(samples), disable=not show, dynamic_ncols=True, bar_format=FORMAT, mininterval=pace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add_earlier(self, prediction: Prediction) -> None:
        """A record of an earlier call; a later one for the same sample replaces it."""
        if sample := self._samples.get(prediction.sample_id):
            self._values[sample.id] = live_values(sample, prediction)

    def start(self, num_done: int, costs: Mapping[str, float]) -> None:
        """Work starts now: what is there, and the cost of each sample that is to be predicted (any unit)."""
        self._costs, self._started, self._left = costs, time.monotonic(), sum(costs.values())
        self._bar.update(num_done)
        self._bar.set_postfix_str(self.text(), refresh=False)

    def add(self, prediction: Prediction) -> None:
        """One more is predicted."""
        cost = self._costs.get(prediction.sample_id, 0.0)
        self._spent, self._left = self._spent + cost, self._left - cost
        self.add_earlier(prediction)
        self._bar.set_postfix_str(self.text(), refresh=False)
        self._bar.update()

    def text(self) -> str:
        """`left 1:20, Acc 61.2, IoU 40.3, J&F 55.0, failed 2`."""
        failed = sum(values is None for values in self._values.values())
        parts = [f"{name} {100 * mean:.1f}" for name, mean in self.means().items()]
        if self._spent > 0:
            seconds = (time.monotonic() - self._started) * self._left / self._spent
            parts.insert(0, f"left {tqdm.format_interval(max(0.0, seconds))}")
        return ", ".join([*parts, f"failed {failed}"] if failed else parts)

    def means(self) -> dict[str, float]:
        """Each part that was asked for -> its mean so far, where a failed sample counts 0."""
        failed = sum(values is None for values in self._values.values())
        scored = [values for values in self._values.values() if values is not None]
        names = dict.fromkeys(name for values in scored for name in values)
        found = {name: [values[name] for values in scored if name in values] for name in names}
        return {name: sum(values) / (len(values) + failed) for name, values in found.items()}


def live_values(sample: Sample, prediction: Prediction) -> dict[str, float] | None:
    """Scores in [0, 1] that cost little, of the parts that were asked for and have gold; None = failed."""
    if prediction.status == "failed":
        return None
    asked = {ask for turn in prediction.turns for ask in turn.answer_fields}
    values: dict[str, float] = {}
    if "answer" in asked and sample.answer is not None:
        values["Acc"] = accuracy(Case(sample, prediction))
    if "spans" in asked and sample.spans is not None:
        values["IoU"] = tiou(prediction.spans or (), sample.spans)
    if "time_choice" in asked and sample.time_answer is not None:
        values["time"] = float(prediction.time_choice == sample.time_answer)
    if "mask_choice" in asked and sample.mask_answer is not None:
        values["space"] = float(prediction.mask_choice == sample.mask_answer)
    if "masks" in asked and (space := _space(sample, prediction)) is not None:
        values["J&F"] = space
    return values


def _space(sample: Sample, prediction: Prediction) -> float | None:
    """Mean J&F of a few frames; 0 for masks that cannot be read, None where gold has none that can."""
    try:
        gold = gold_masks(sample)
        if gold is None or prediction.tracks is None:
            return None if gold is None else 0.0
        num_frames = max(sample.num_frames or prediction.num_frames or 1, max(gold, default=0) + 1)
        seen = {round(place * (num_frames - 1) / (LIVE_FRAMES - 1)) for place in range(LIVE_FRAMES)}
        thinned = prediction.model_copy(update={"tracks": tuple(_only(track, seen) for track in prediction.tracks)})
        scores = compare({index: gold[index] for index in seen & gold.keys()}, thinned, num_frames)
    except BadMask:
        return 0.0
    except ValueError:  # of gold: `evqa score` names it
        return None
    return sum(scores.frames.get(index, BOTH_EMPTY).jf for index in seen) / len(seen)


def _only(track: Track, seen: Collection[int]) -> Track:
    return track.model_copy(update={"masks": {index: track.masks[index] for index in seen if index in track.masks}})
