"""Warm start of a tiny master: drills, then scripted traces with random decisions, until it passes the gate.

Each batch has fresh episodes; their seeds are those of no written split.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

import torch
import transformers
from torch import Tensor
from torch.nn import functional

from evqa.agents.transcript import Transcript
from evqa.datasets.shapes.text_episodes import TextEpisode, TextQuestion, text_episode
from evqa.methods.episodes import start_with_tools
from evqa.models.base import Model
from evqa.models.chat_tokens import ChatTokenizer
from unipixel.rl import gate, rollout, sampler, tiny_master, traces
from unipixel.rl.drills import TokenRow, drill
from unipixel.rl.gate import GateReport
from unipixel.rl.tiny_master import TinyMasterConfig

GATE_SEEDS = range(900_000, 900_040)
"""Seeds of the episodes that the gate is measured on."""

FIRST_SEED, SEEDS_PER_RUN = 1_000_000, 1_000_000
"""Seeds of the episodes of traces and drills: a run of seed s has those from FIRST_SEED + s * SEEDS_PER_RUN on."""

MAX_REPLY_TOKENS = 16
"""Maximum number of token ids of a turn; the longest one of the teacher has 13."""

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig:
    """Supervised training before reinforcement learning."""

    seed: int = 0
    """Random seed of weights, drills and traces."""
    drill_steps: int = 120
    """Steps with drills alone."""
    trace_steps: int = 250
    """Steps with traces and drills."""
    extra_steps: int = 120
    """Further steps with traces where the gate is not passed."""
    max_rounds: int = 3
    """Maximum number of rounds of further steps."""
    drills_per_step: int = 64
    """Drills of a step with drills alone; steps with traces have half as many, of half the weight."""
    traces_per_step: int = 48
    """Traces of a step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    model: TinyMasterConfig = field(default_factory=TinyMasterConfig)
    """Size of the model."""

    def __post_init__(self) -> None:
        for name in ("drill_steps", "trace_steps", "extra_steps", "max_rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


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

    def measure(self) -> GateReport:
        """Measure the gate on episodes of no batch."""
        report = measure(self.model, self.chat, GATE_SEEDS)
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
            seconds = time.process_time() - self._start
            self.report(f"{part} {step + 1}/{steps}: loss {loss.item():.3f}, {seconds:.0f} CPU-seconds")


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
