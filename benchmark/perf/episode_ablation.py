"""Table of the method episode on the synthetic episodes: without an agent each, and trivial baselines. On a CPU.

    python benchmark/perf/episode_ablation.py
    python benchmark/perf/episode_ablation.py --data episodes-val --vision none

The master works by rules, the grounding agent is bm25, the vision agent the tiny model. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from evqa import datasets, methods, models
from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.files.output_streams import checked_output_streams
from evqa.metrics.case import Case
from evqa.metrics.clips import is_final_clip_right, strict_accuracy
from evqa.models.base import Models
from evqa.schema import Sample


def main(data: str = "episodes-test", vision: str = "tiny", master: str = "episode-rules") -> None:
    """Print accuracy and grounding accuracy of each variant.

    Args:
        data: Name of a data set of synthetic episodes, or its folder.
        vision: Vision agent; none = only the variants without looks.
        master: Master.
    """
    dataset = datasets.load(data)
    samples = list(dataset.samples)
    has_looks = vision != "none"
    team = Models(models.build(master), {"vision": models.build(vision)} if has_looks else {})
    mapping = dataset.folder / "clip_bbox_mapping.json"
    rows = [("subtitles only", _run(team, samples, EpisodeSettings(look=False)))]
    with tempfile.TemporaryDirectory() as folder:
        gold = _cache(Path(folder, "gold.json"), samples, [(sample.evidence_clips or ("",))[0] for sample in samples])
        rng = random.Random(0)
        clips = [rng.choice(sample.clips).id for sample in samples]
        drawn = _cache(Path(folder, "random.json"), samples, clips)
        if has_looks:
            silent = [sample.replace(subtitles=None) for sample in samples]
            fixed = EpisodeSettings(relocate=False)
            rows = [
                ("all agents", _run(team, samples, EpisodeSettings())),
                ("no grounding", _run(team, samples, fixed)),
                ("no vision", rows[0][1]),
                ("boxes shown", _run(team, samples, EpisodeSettings(boxes=mapping))),
                ("random clip", _run(team, samples, replace(fixed, grounding_cache=drawn))),
                ("gold clip, frames only", _run(team, silent, replace(fixed, grounding_cache=gold))),
                *rows,
            ]
    print(f"{len(samples)} questions of {data}; chance is {100 / len(samples[0].options):.1f} %")
    print(f"{'':24}{'accuracy':>22}{'final clip':>22}")
    for name, cases in rows:
        print(f"{name:24}{_share(map(strict_accuracy, cases)):>22}{_share(map(is_final_clip_right, cases)):>22}")


def _run(team: Models, samples: Sequence[Sample], settings: EpisodeSettings) -> list[Case]:
    predict = methods.predictor("episode", times=True, settings=AgentSettings(episode=settings))
    records = [(sample, predict(team, sample)) for sample in samples]
    return [Case(sample, prediction, record=prediction) for sample, prediction in records]


def _cache(path: Path, samples: Sequence[Sample], clips: Sequence[str]) -> Path:
    entries = [
        {"question": sample.question, "clip": clip, "status": "ok"} for sample, clip in zip(samples, clips, strict=True)
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def _share(values: Iterable[float]) -> str:
    """Percentage with its Wilson interval."""
    numbers = list(values)
    n, p, z = len(numbers), sum(numbers) / len(numbers), 1.959964
    center, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)
    return f"{100 * p:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    with checked_output_streams():
        tyro.cli(main)
