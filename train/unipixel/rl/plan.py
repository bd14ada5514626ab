"""Plan of a run of reinforcement learning: located weights, data, agents, packages, and its record; without torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from evqa import models
from evqa.agents.settings import AgentSettings
from evqa.hub import checkpoints
from evqa.models.base import Model
from evqa.models.options import parse_agents
from unipixel.rl import run_record
from unipixel.rl.configs import RLConfig
from unipixel.rl.data import EpisodeData, load_data

T = TypeVar("T")

BUDGETED = "episode-rules"
"""Model without network in the place of the policy, where the team of a run is built: its agents share one budget."""


@dataclass(frozen=True, kw_only=True)
class RLPlan:
    """Inputs of a run."""

    config: RLConfig
    start: Path
    """Folder of the start weights."""
    data: EpisodeData
    processes: int
    record: dict[str, object]
    """Stored with each checkpoint."""

    @property
    def settings(self) -> AgentSettings:
        """Settings of the method `episode`."""
        return AgentSettings(episode=self.config.episode)

    def build_team(self) -> dict[str, Model]:
        """Build the agents: role -> model."""
        return dict(models.build_team(BUDGETED, {}, parse_agents(self.config.agents)).team)


def plan_run(config: RLConfig, processes: int) -> RLPlan:
    """Locate weights, data and the weights of agents.

    Args:
        config: the config of the run.
        processes: number of processes.

    Raises:
        ValueError: something is missing; the message lists all of it with the commands that fetch it.
    """
    config.passes(processes)
    problems = [*_missing_packages(config), *_missing_agents(config)]
    start = _try(lambda: checkpoints.locate_checkpoint(config.weights), problems)
    data = _try(lambda: load_data(config.data, config.seed, config.episode.grounding_cache), problems)
    if start is None or data is None or problems:
        raise ValueError("\n".join(problems))
    record = run_record.record_of(config, processes=processes, data=data.counts, weights=checkpoints.fingerprint(start))
    return RLPlan(config=config, start=start, data=data, processes=processes, record=record)


def _missing_packages(config: RLConfig) -> list[str]:
    needed = {"trl": 'pip install "evqa[rl]"', "datasets": 'pip install "evqa[rl]"'}
    if config.loop.zero_stage is not None:
        needed["deepspeed"] = "pip install deepspeed, or omit --zero-stage (--zero-stage None)"
    if config.rollout.engine == "vllm":
        needed["vllm"] = "pip install vllm, or --engine transformers"
    return [
        f"the package {name} is missing: {fix}"
        for name, fix in needed.items()
        if importlib.util.find_spec(name) is None
    ]


def _missing_agents(config: RLConfig) -> list[str]:
    agents = parse_agents(config.agents)
    problems: list[str] = []
    for role, agent in agents.items():
        if role not in {"grounding", "vision"}:
            problems.append(f"no agent of the method episode has the role {role!r}: the roles are grounding and vision")
        _try(lambda name=agent.model: models.check_weights(name), problems)
    if config.episode.look and "vision" not in agents and config.episode.clip_texts is None:
        problems.append("no agent looks at clips: name one (--agents grounding=bm25 vision=MODEL), or --look False")
    return problems


def _try(compute: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return compute()
    except ValueError as error:
        problems.append(str(error))
        return None
