"""Reading, search and prompts of a long episode: time against reading its file, memory against a short episode.

    python benchmark/perf/long_episode.py
    python benchmark/perf/long_episode.py --clips 500 --lines 80 --episodes 40

Each length runs in a process of its own: `--episodes` episodes are read, indexed and asked `--questions` questions each
by the method `episode` with `bm25` and a master that relocates twice. Times are CPU time, memory is the peak above that
of the process before.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tyro

from evqa import methods, models
from evqa.agents import episode_clips, grounding
from evqa.agents.bm25_model import Bm25Model
from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.files.output_streams import checked_output_streams
from evqa.models.base import Models
from evqa.schema import ClipRef, Sample

CLIP_SECONDS = 21.6
QUESTION = "Who wears the zebra hat with word1, word2 and word3?"
ROUNDS = 9


@dataclass(frozen=True)
class Options:
    """Size of the long episode."""

    clips: int = 500
    """Clips of an episode; 500 are three hours."""
    lines: int = 80
    """Lines of subtitles per clip."""
    episodes: int = 1
    """Episodes that are read one after the other."""
    questions: int = 3
    """Questions per episode."""
    only: int | None = None
    """Measure this number of clips in this process, and print it as JSON."""


def main(options: Options) -> None:
    """Print the measurements of an episode of ten minutes and of a long one."""
    if options.only is not None:
        sys.stdout.write(f"{json.dumps(measured(options, options.only))}\n")
        return
    for clips in (round(600 / CLIP_SECONDS), options.clips):
        command = [sys.executable, __file__, "--lines", str(options.lines), "--episodes", str(options.episodes)]
        command += ["--questions", str(options.questions), "--only", str(clips)]
        values = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        parts = ", ".join(f"{name} {value}" for name, value in values.items())
        sys.stdout.write(f"{clips} clips, {clips * options.lines} lines: {parts}\n")


def measured(options: Options, num_clips: int) -> dict[str, str]:
    """Return name -> value with its unit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = [long_sample(folder, place, num_clips, options.lines) for place in range(options.episodes)]
        master = folder / "master.json"
        move = {"text": "elsewhere", "calls": [{"name": "request_grounding", "arguments": {}}]}
        master.write_text(json.dumps({"*": [move, move, "<answer>a0</answer>"]}))
        settings = AgentSettings(episode=EpisodeSettings(look=False))
        predict = methods.predictor("episode", times=True, settings=settings)
        team = Models(models.build(str(master)))
        before = peak()
        times = search_times(samples[0])
        lengths = [
            max(len(turn.prompt) for turn in predict(team, sample).turns)
            for sample in samples
            for _ in range(options.questions)
        ]
        clips = episode_clips.open_clips(samples[0])
        prompt = grounding.prompt(QUESTION, samples[0].options, clips, 1)
        return times | {
            "longest prompt of bm25 and master": f"{max(lengths)} characters",
            "prompt of a grounding model": f"{len(prompt)} characters",
            "memory": f"{(peak() - before) / 2**20:.0f} MiB",
        }


def search_times(sample: Sample) -> dict[str, str]:
    """Return the CPU time of reading the subtitles, of the first query with its index, and of a further query."""
    started = time.process_time()
    clips = episode_clips.open_clips(sample)
    reading = time.process_time() - started
    ranker = Bm25Model()
    queries: list[float] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        ranker.rank_texts(QUESTION, clips.texts)
        queries.append(time.process_time() - started)
    query = median(queries[1:])
    return {
        "reading": f"{1000 * reading:.0f} ms",
        "index": f"{1000 * queries[0]:.0f} ms",
        "query": f"{1000 * query:.2f} ms",
        "query / reading": f"{query / reading:.4f}",
    }


def long_sample(folder: Path, place: int, num_clips: int, num_lines: int) -> Sample:
    """Return a question about an episode with random words in its subtitles."""
    generator = np.random.default_rng(place)
    words = np.array([f"word{number}" for number in range(3000)])
    names = [f"s01e{place:02d}_seg{1 + clip // 99:02d}_clip_{clip % 99:02d}" for clip in range(num_clips)]
    path = folder / f"{place}.json"
    with path.open("w", encoding="utf-8") as file:
        for clip, rows in zip(names, generator.integers(0, len(words), (num_clips, num_lines, 8)), strict=True):
            lines = [
                {"text": f"Ann : {' '.join(words[row])}", "start": 0.2 * number, "end": 0.2 * number + 0.2}
                for number, row in enumerate(rows)
            ]
            lines[0]["text"] += " zebra" if clip == names[-1] else ""
            file.write(f"{json.dumps({'vid_name': clip, 'sub': lines})}\n")
    clips = tuple(
        ClipRef(id=clip, path=folder / clip, start=CLIP_SECONDS * number, duration=CLIP_SECONDS)
        for number, clip in enumerate(names)
    )
    return Sample(
        id=f"{place}",
        video_id=f"s01e{place:02d}",
        video=folder / "episode.mp4",
        subtitles=path,
        clips=clips,
        question=QUESTION,
        options=("a", "b", "c", "d", "e"),
        answer=0,
        duration=CLIP_SECONDS * num_clips,
    )


def peak() -> int:
    """Return the peak of the resident memory of this process in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    with checked_output_streams():
        main(tyro.cli(Options, description=__doc__))
