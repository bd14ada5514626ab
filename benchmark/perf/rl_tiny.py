"""Experiment with the tiny master: warm starts, GRPO with several seeds, ablations; numbers on unseen questions.

    python benchmark/perf/rl_tiny.py                      # all runs that are missing, then the tables
    python benchmark/perf/rl_tiny.py --only-tables

A run that is finished is not repeated. Every model is evaluated on the split `final` of the text episodes, greedily and
sampled at temperature 1, by the episodes of evaluation. Intervals are 95 % intervals of paired differences to the
warm start, drawing episodes. Times are CPU-seconds of one thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tyro

from evqa import datasets
from evqa.agents.settings import AgentSettings
from evqa.datasets.shapes.text_episodes import KINDS
from evqa.files import roots
from evqa.metrics.clips import LOOK, RELOCATE
from evqa.metrics.intervals import paired_difference
from evqa.models.chat_tokens import ChatTokenizer, load_tokenizer
from evqa.schema import Prediction, Sample
from unipixel.rl.configs import RLConfig, build_recipe
from unipixel.rl.rewards import PRESETS, RewardTerm, agent_turns
from unipixel.rl.warm_start_config import WarmStartConfig

DATA = "text-episodes-final"
SAMPLING_SEED = 7

NO_COST = tuple(term for term in PRESETS["tiny"] if term.name != "calls")


@dataclass(frozen=True)
class Arm:
    """A run of GRPO."""

    name: str
    warm_seed: int | None
    """Seed of its warm start; None = random weights."""
    seed: int
    ablation: str = ""

    def config(self, folder: Path) -> RLConfig:
        """The config of the run below a folder."""
        base = build_recipe("tiny", "tiny")
        start = folder / ("random" if self.warm_seed is None else f"warm-{self.warm_seed}")
        config = replace(base, out=folder / self.name, weights=str(start), seed=self.seed)
        config = replace(config, loop=replace(config.loop, eval_steps=0, save_steps=config.loop.steps))
        return ABLATIONS[self.ablation](config) if self.ablation else config


def _shortened(config: RLConfig, steps: int) -> RLConfig:
    return replace(config, loop=replace(config.loop, steps=steps, save_steps=steps))


ABLATIONS: Mapping[str, Callable[[RLConfig], RLConfig]] = {
    "no look tool": lambda config: _shortened(replace(config, episode=replace(config.episode, look=False)), 40),
    "reference reward": lambda config: replace(config, rewards=PRESETS["longvideoagent"]),
    "no call cost": lambda config: replace(config, rewards=NO_COST),
    "flat call cost 0.2": lambda config: _shortened(
        replace(config, rewards=(*NO_COST, RewardTerm(name="calls", weight=-0.2))), 40
    ),
    "no warm start": lambda config: _shortened(config, 10),
}
"""Ablation -> its config; those whose outcome is clear early are shorter."""


def main(
    out: Path | None = None,
    warm_seeds: tuple[int, ...] = (0, 1),
    seeds: tuple[int, ...] = (0, 1, 2),
    only_tables: bool = False,  # noqa: FBT001, FBT002
    run: str | None = None,
) -> None:
    """Run what is missing, and print the tables.

    Args:
        out: folder of all runs; by default outputs/rl_tiny.
        warm_seeds: seeds of warm starts.
        seeds: seeds of GRPO for each of them.
        only_tables: print the tables of what is there.
        run: name of a single run, which this process makes.
    """
    folder = out or roots.outputs("rl_tiny")
    arms = list(all_arms(warm_seeds, seeds))
    if run is not None:
        make(next(arm for arm in arms if arm.name == run), folder)
        return
    if not only_tables:
        for seed in warm_seeds:
            warm_up(folder / f"warm-{seed}", seed)
        for arm in arms:
            if not (folder / arm.name / "model" / "config.json").is_file():
                command = [sys.executable, __file__, "--out", str(folder), "--run", arm.name]
                subprocess.run(command, check=True)
            evaluate(folder / arm.name / "model", arm.ablation == "no look tool")
    print(tables(folder, arms))


def all_arms(warm_seeds: Sequence[int], seeds: Sequence[int]) -> Iterator[Arm]:
    """Yield all runs of GRPO: the recipe for all seeds, then an ablation each."""
    for seed in seeds:
        yield from (Arm(f"warm-{warm}-grpo-{seed}", warm, seed) for warm in warm_seeds)
    for name in ABLATIONS:
        warm = None if name == "no warm start" else warm_seeds[0]
        yield Arm(f"ablation-{name.replace(' ', '-')}", warm, seeds[0], name)


def warm_up(folder: Path, seed: int) -> None:
    """Train a warm start where it is missing, and evaluate it."""
    from unipixel.rl import warm_start

    warm_start.ensure(folder, WarmStartConfig(seed=seed), print)
    evaluate(folder)


def make(arm: Arm, folder: Path) -> None:
    """Train an arm, and write its CPU time."""
    from unipixel.rl import run, tiny_master

    config = arm.config(folder)
    if arm.warm_seed is None:
        tiny_master.save(tiny_master.new_master(arm.seed), Path(config.weights))
    start = time.process_time()
    run.run(run.RLCommand(config=config, from_scratch=True), rank=0, processes=1)
    (config.out / "cpu_seconds.json").write_text(json.dumps(time.process_time() - start))


# Evaluation


@dataclass(frozen=True)
class Outcome:
    """Result of a question."""

    id: str
    episode: str
    kind: str
    right: bool
    looks: int
    relocations: int


def evaluate(model: Path, has_no_look: bool = False) -> None:  # noqa: FBT001, FBT002
    """Write the outcomes of a model on the final questions, where they are missing."""
    for mode in ("greedy", "sampled"):
        path = model / f"{DATA}-{mode}.json"
        if not path.is_file():
            outcomes = [asdict(outcome) for outcome in play(model, mode == "sampled", has_no_look)]
            path.write_text(json.dumps(outcomes))


def play(folder: Path, is_sampled: bool, has_no_look: bool) -> Iterator[Outcome]:  # noqa: FBT001
    """Yield the outcome of each question."""
    from transformers import AutoModelForCausalLM

    from unipixel.rl import grpo, rollout, sampler

    recipe = build_recipe("tiny", "tiny")
    episode = replace(recipe.episode, look=not has_no_look)
    chat = ChatTokenizer(load_tokenizer(folder))
    policy = sampler.text_model_of(
        AutoModelForCausalLM.from_pretrained(folder),
        chat,
        max_reply_tokens=recipe.rollout.max_reply_tokens,
        seed=SAMPLING_SEED if is_sampled else None,
    )
    samples = datasets.load(DATA).samples
    rollouts = rollout.play(
        policy, grpo.start_with_team({}, AgentSettings(episode=episode)), samples, [0] * len(samples)
    )
    yield from (outcome_of(entry.sample, entry.prediction) for entry in rollouts)


def outcome_of(sample: Sample, prediction: Prediction) -> Outcome:
    """Return the outcome of a prediction."""
    calls = [call.name for turn in agent_turns(prediction) for call in turn.calls]
    return Outcome(
        sample.id,
        sample.video_id,
        sample.question_type or "",
        prediction.answer == sample.answer,
        calls.count(LOOK),
        calls.count(RELOCATE),
    )


# Tables


def tables(folder: Path, arms: Sequence[Arm]) -> str:
    """Return the tables of all models that were evaluated, in Markdown."""
    lines = [f"| run | mode | accuracy | gain | {' | '.join(KINDS)} | CPU-s |", "|---" * (5 + len(KINDS)) + "|"]
    warm = sorted({arm.warm_seed for arm in arms if arm.warm_seed is not None})
    models: list[tuple[str, Path, Path | None]] = [
        (f"warm start {seed}", folder / f"warm-{seed}", None) for seed in warm
    ]
    for arm in arms:
        start = folder / f"warm-{warm[0] if arm.warm_seed is None else arm.warm_seed}"
        name = arm.ablation or f"warm start {arm.warm_seed}, GRPO {arm.seed}"
        models.append((name, folder / arm.name / "model", start))
    for name, model, start in models:
        for mode in ("greedy", "sampled"):
            if (model / f"{DATA}-{mode}.json").is_file():
                lines.append(row(name, mode, model, start))
    return "\n".join(lines)


def row(name: str, mode: str, model: Path, start: Path | None) -> str:
    """Return the row of a model: accuracy, gain over its warm start, and per kind accuracy with looks / relocations."""
    outcomes = read(model, mode)
    gain = "" if start is None else gain_of(read(start, mode), outcomes)
    cells = [cell(outcomes, None if start is None else read(start, mode), kind) for kind in KINDS]
    seconds = model.parent / "cpu_seconds.json"
    cpu = f"{json.loads(seconds.read_text()):.0f}" if seconds.is_file() else ""
    return f"| {name} | {mode} | {100 * accuracy(outcomes):.1f} | {gain} | {' | '.join(cells)} | {cpu} |"


def cell(outcomes: Sequence[Outcome], before: Sequence[Outcome] | None, kind: str) -> str:
    """Return accuracy, gain and calls on the questions of a kind."""
    chosen_outcomes = [outcome for outcome in outcomes if outcome.kind == kind]
    count = len(chosen_outcomes)
    gain = "" if before is None else f" {gain_of([entry for entry in before if entry.kind == kind], chosen_outcomes)}"
    looks = sum(outcome.looks for outcome in chosen_outcomes) / count
    relocations = sum(outcome.relocations for outcome in chosen_outcomes) / count
    return f"{100 * accuracy(chosen_outcomes):.1f}{gain}; {looks:.2f} / {relocations:.2f}"


def gain_of(before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """Return the paired difference of accuracies in percent, with its interval."""
    first, second = ({outcome.id: outcome for outcome in outcomes} for outcomes in (before, after))
    ids = sorted(first)
    difference = paired_difference(
        [float(first[name].right) for name in ids],
        [float(second[name].right) for name in ids],
        [first[name].episode for name in ids],
    )
    low, high = difference.low or 0.0, difference.high or 0.0
    return f"{100 * difference.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def read(model: Path, mode: str) -> list[Outcome]:
    """Return the outcomes of a model."""
    return [Outcome(**entry) for entry in json.loads((model / f"{DATA}-{mode}.json").read_text())]


def accuracy(outcomes: Sequence[Outcome]) -> float:
    """Return the share of right answers."""
    return sum(outcome.right for outcome in outcomes) / max(len(outcomes), 1)


if __name__ == "__main__":
    tyro.cli(main)
