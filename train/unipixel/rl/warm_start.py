"""Warm start of a tiny master: `python -m unipixel.rl.warm_start --out FOLDER [--seed N]`.

Drills, then scripted traces with random decisions, until the master passes the gate. Each batch has fresh episodes;
their seeds are those of no written split. The command does nothing where the folder has a master with these settings.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from typing import Annotated

import torch
import transformers
import tyro
from torch import Tensor
from torch.nn import functional
from tyro.conf import OmitArgPrefixes

from evqa.agents.transcript import Transcript
from evqa.datasets.shapes.text_episodes import TextEpisode, TextQuestion, text_episode
from evqa.files.output_streams import checked_output_streams
from evqa.methods.episodes import start_with_tools
from evqa.models.base import Model
from evqa.models.chat_tokens import ChatTokenizer
from unipixel.rl import gate, rollout, sampler, tiny_master, traces
from unipixel.rl.drills import TokenRow, drill
from unipixel.rl.gate import GateReport
from unipixel.rl.warm_start_config import WarmStartConfig

FIRST_GATE_SEED = 900_000
"""First seed of the episodes that the gate is measured on."""

FIRST_SEED, SEEDS_PER_RUN = 1_000_000, 1_000_000
"""Seeds of the episodes of traces and drills: a run of seed s has those from FIRST_SEED + s * SEEDS_PER_RUN on."""

MAX_REPLY_TOKENS = 16
"""Maximum number of token ids of a turn; the longest one of the teacher has 13."""

IGNORED = -100

RECORD = "warm_start.json"
"""File of a warm start: its settings, what the gate measured, and its time."""

DEFAULT = WarmStartConfig()


class WarmStart:
    """Supervised training of a tiny master."""

    def __init__(self, config: WarmStartConfig, report: Callable[[str], None] = lambda line: None) -> None:
        """`report`: called with each line about the progress."""
        self.config = config
        self.report = report
        self.model = tiny_master.new_master(config.seed, config.model)
        self.chat = ChatTokenizer(tiny_master.tokenizer())
        self._rng = random.Random(config.seed)
        self._episodes = _episodes(FIRST_SEED + config.seed * SEEDS_PER_RUN)
        self._start = time.process_time()
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )

    def run(self) -> GateReport:
        """Train until the gate is passed.

        Raises:
            GateError: it is not passed after all rounds.
        """
        config = self.config
        self.train_on_drills()
        self.train_on_traces(config.trace_steps, config.learning_rate)
        report = self.measure()
        for _ in range(config.max_rounds):
            if not report.problems():
                break
            self.report(f"gate not passed, {config.extra_steps} further steps: {'; '.join(report.problems())}")
            self.train_on_traces(config.extra_steps, 0.6 * config.learning_rate)
            report = self.measure()
        report.require()
        return report

    def train_on_drills(self) -> None:
        """Train on drills alone, with a constant learning rate after ten steps."""
        for step in range(self.config.drill_steps):
            loss = self._loss(self._drills(self.config.drills_per_step))
            self._update(loss, min(1.0, (step + 1) / 10))
            self._log("drills", step, self.config.drill_steps, loss)

    def train_on_traces(self, steps: int, learning_rate: float) -> None:
        """Train on traces and drills, with a learning rate that falls to 0 along a cosine."""
        for step in range(steps):
            loss = self._loss(self._traces(self.config.traces_per_step))
            total = loss + 0.5 * self._loss(self._drills(self.config.drills_per_step // 2))
            scale = learning_rate / self.config.learning_rate
            self._update(total, scale * max(0.5 * (1 + math.cos(math.pi * step / steps)), 0.02))
            self._log("traces", step, steps, loss)

    def cpu_seconds(self) -> float:
        """CPU time since the start, of one thread."""
        return round(time.process_time() - self._start, 1)

    def measure(self) -> GateReport:
        """Measure the gate on episodes of no batch."""
        seeds = range(FIRST_GATE_SEED, FIRST_GATE_SEED + self.config.gate_episodes)
        report = measure(self.model, self.chat, seeds)
        self.report(f"gate: {report}")
        return report

    def _drills(self, number: int) -> list[TokenRow]:
        return [drill(self._rng, next(self._episodes)) for _ in range(number)]

    def _traces(self, number: int) -> list[TokenRow]:
        questions = ((episode, question) for episode in self._episodes for question in episode.questions)
        chats = [traces.trace(self.chat, *pair, self._rng) for pair in islice(questions, number)]
        return [TokenRow(tokens.ids, [*[False] * len(tokens.prompt_ids), *tokens.is_generated]) for tokens in chats]

    def _loss(self, rows: Sequence[TokenRow]) -> Tensor:
        return loss_of(self.model.train(), rows)

    def _update(self, loss: Tensor, factor: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = factor * self.config.learning_rate
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()

    def _log(self, part: str, step: int, steps: int, loss: Tensor) -> None:
        if step % 50 == 49 or step + 1 == steps:
            self.report(f"{part} {step + 1}/{steps}: loss {loss.item():.3f}, {self.cpu_seconds():.0f} CPU-seconds")


def loss_of(model: transformers.Qwen2ForCausalLM, rows: Sequence[TokenRow]) -> Tensor:
    """Mean cross entropy of the target tokens of some rows."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), model.config.pad_token_id or 0)
    labels = torch.full((len(rows), length), IGNORED)
    for place, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[place, : len(tokens)] = tokens
        labels[place, : len(tokens)] = tokens.where(torch.tensor(row.is_target), torch.tensor(IGNORED))
    states = model.model(input_ids=ids).last_hidden_state[:, :-1]  # padding is behind each row: causal attention
    targets = labels[:, 1:]
    is_target = targets != IGNORED
    return functional.cross_entropy(model.lm_head(states[is_target]), targets[is_target])


def measure(model: transformers.Qwen2ForCausalLM, chat: ChatTokenizer, seeds: Sequence[int]) -> GateReport:
    """Measure a master on the episodes of some seeds, sampled at temperature 1."""
    questions: dict[str, tuple[TextEpisode, TextQuestion]] = {}
    samples = []
    for seed in seeds:
        episode = text_episode(seed)
        for question in episode.questions:
            sample = traces.sample_of(episode, question)
            samples.append(sample)
            questions[sample.id] = (episode, question)

    def start(master: Model, transcript: Transcript, seed: int) -> rollout.EpisodeRun:
        del seed
        tools = traces.tools_of(*questions[transcript.sample.id], transcript)
        return start_with_tools(master, tools, traces.SETTINGS)

    policy = sampler.text_model_of(model, chat, max_reply_tokens=MAX_REPLY_TOKENS, seed=seeds[0])
    return gate.measure(rollout.play(policy, start, samples, [0] * len(samples)))


def _episodes(first_seed: int) -> Iterator[TextEpisode]:
    return (text_episode(seed) for seed in count(first_seed))


# Command


def ensure(folder: Path, config: WarmStartConfig, report: Callable[[str], None]) -> None:
    """Train a warm start and write it, where the folder has none with this config.

    Raises:
        GateError: it does not pass the gate; nothing is written.
        ValueError: the folder has something else.
    """
    record = folder / RECORD
    settings = asdict(config)
    if record.is_file():
        stored = json.loads(record.read_text(encoding="utf-8")).get("config")
        if stored != settings:
            raise ValueError(
                f"{folder} has a warm start with other settings: {stored}; remove it, or give another --out"
            )
        report(f"already trained: {folder}")
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and has no {RECORD}: remove it, or give another --out")
    training = WarmStart(config, report)
    write(folder, training, training.run())
    report(f"written: {folder}")


def write(folder: Path, training: WarmStart, measured: GateReport) -> None:
    """Write the model of a warm start as a whole, with its record; an empty folder is replaced."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tiny_master.save(training.model, partial)
    facts = {"config": asdict(training.config), "gate": asdict(measured), "cpu_seconds": training.cpu_seconds()}
    (partial / RECORD).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)


def main(out: Path, config: Annotated[WarmStartConfig, OmitArgPrefixes] = DEFAULT) -> int:
    """Train a tiny master on drills and scripted traces until it passes the gate.

    Args:
        out: Folder of the checkpoint.
        config: Settings.
    """
    torch.set_num_threads(1)  # a model of this size is slower with several
    try:
        ensure(out, config, lambda line: print(line, flush=True))  # noqa: T201
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(tyro.cli(main))
