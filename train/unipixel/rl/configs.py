"""Typed config of reinforcement learning, and its recipes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Suppress

from evqa import suggestions
from evqa.agents.settings import EpisodeSettings
from evqa.files import roots
from evqa.models.options import parse_agents
from unipixel.configs import BaseLoopConfig, LoraConfig, check_at_least, default_words
from unipixel.rl.rewards import PRESETS, Terms

SIZES: dict[str, str] = {"3b": "qwen2.5-3b", "7b": "qwen2.5-7b", "tiny": "outputs/rl/warm-start/model"}
"""Size of the agent -> checkpoint that training starts from: a name, or a folder that has to be made first."""


@dataclass(frozen=True, kw_only=True)
class RLDataConfig:
    """Questions for training and for evaluation during training. All options of a question are kept."""

    train: str = "longtvqa-plus-train"
    """Data set of episodes for training: a name or a folder."""
    held_out: Annotated[str | None, default_words("episodes of the training set")] = None
    """Data set for evaluation during training; None = a share of the episodes of the training set."""
    held_out_share: float = 0.05
    """Share of the episodes of the training set that are held out, with all their questions; at least one."""
    held_out_samples: int = 200
    """Number of held-out questions, drawn at random; 0 = all."""
    subset: int = 0
    """Number of questions for training, drawn at random; 0 = all."""
    skip_episodes: tuple[str, ...] = ()
    """Episodes that are left out."""
    only_located: bool = False
    """Leave out questions without a clip in the grounding cache."""

    def __post_init__(self) -> None:
        check_at_least(0, subset=self.subset, held_out_samples=self.held_out_samples)
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must be in [0, 1), got {self.held_out_share}")


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Questions of a step, the rollouts of each, and how they are generated."""

    questions_per_step: int = 16
    """Questions of a step; each is a group of rollouts, whose rewards are compared."""
    group_size: int = 8
    """Rollouts of a question."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Share of the probability from which a token is sampled."""
    max_prompt_tokens: int = 12_800
    """Maximum number of tokens of a conversation before its last reply."""
    max_reply_tokens: int = 1_500
    """Maximum number of tokens of a reply."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """Engine that generates: transformers, or vLLM in the training processes (`pip install vllm`, GPUs)."""
    vllm_memory: float = 0.3
    """Share of the memory of a GPU for vLLM."""
    vllm_gpus: int = 1
    """GPUs over which vLLM shards the model."""

    def __post_init__(self) -> None:
        check_at_least(1, questions_per_step=self.questions_per_step, vllm_gpus=self.vllm_gpus)
        check_at_least(2, group_size=self.group_size)
        check_at_least(1, max_prompt_tokens=self.max_prompt_tokens, max_reply_tokens=self.max_reply_tokens)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0, got {self.temperature}: greedy rollouts are all equal")
        for name, value in (("top_p", self.top_p), ("vllm_memory", self.vllm_memory)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {value}")

    @property
    def batch(self) -> int:
        """Rollouts of a step."""
        return self.questions_per_step * self.group_size


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
    """Objective and optimizer of group relative policy optimization."""

    learning_rate: float = 5e-6
    """Peak learning rate."""
    warmup_ratio: float = 0.1
    """Share of the updates with linear warmup."""
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "constant_with_warmup"
    """Learning rate schedule after warmup."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's beta1 and beta2."""
    weight_decay: float = 0.01
    """Weight decay of matrices."""
    max_grad_norm: float = 1.0
    """Maximum gradient norm for clipping; 0 = no clipping."""
    kl: float = 0.001
    """Weight of the KL divergence from the start weights, by the low-variance estimate; 0 = none."""
    clip: float = 0.2
    """Range around 1 to which the ratio of probabilities is clipped."""
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    """Averaging of the loss: over all tokens of an update (dapo), per rollout and then over rollouts (grpo), or as
    named in TRL."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Standard deviation by which an advantage is divided."""
    updates_per_step: int = 1
    """Optimizer updates per step: the rollouts of a step are split into that many batches."""

    def __post_init__(self) -> None:
        check_at_least(0, learning_rate=self.learning_rate, kl=self.kl, weight_decay=self.weight_decay)
        check_at_least(0, max_grad_norm=self.max_grad_norm, clip=self.clip)
        check_at_least(1, updates_per_step=self.updates_per_step)
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio must be in [0, 1), got {self.warmup_ratio}")


@dataclass(frozen=True, kw_only=True)
class RLLoopConfig(BaseLoopConfig):
    """Steps, batches of a device, evaluation and transcripts."""

    steps: int = 401
    """Number of steps; a step generates `questions-per-step` x `group-size` rollouts."""
    per_device_batch_size: int = 2
    """Rollouts per forward pass on one device."""
    save_steps: int = 25
    """Steps between checkpoints."""
    logging_steps: int = 1
    """Steps between log lines."""
    eval_steps: int = 25
    """Steps between evaluations on the held-out questions, greedy; also before the first step. 0 = none."""
    eval_sampled: bool = False
    """Evaluate with sampled replies as well, at the temperature of training."""
    transcript_steps: int = 10
    """Steps between samples of training rollouts in the run's folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, steps=self.steps, per_device_batch_size=self.per_device_batch_size)
        check_at_least(1, save_steps=self.save_steps, logging_steps=self.logging_steps)
        check_at_least(1, transcript_steps=self.transcript_steps)
        check_at_least(0, eval_steps=self.eval_steps)


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """Train an agent by GRPO on the episodes that it is evaluated on."""

    recipe: Suppress[str]
    weights: str
    """Start weights: a checkpoint name (`evqa list`) or a folder."""
    out: Path
    """Folder of the run: checkpoints, logs, evaluations, and the merged model in `model/`."""
    agents: tuple[str, ...] = ("grounding=bm25",)
    """Agents of the team, as `evqa predict --agent`: ROLE=MODEL or ROLE=MODEL,setting=value. The roles are grounding
    and vision."""
    data: Annotated[RLDataConfig, OmitArgPrefixes] = field(default_factory=RLDataConfig)
    episode: Annotated[EpisodeSettings, OmitArgPrefixes] = field(default_factory=EpisodeSettings)
    seed: int = 42
    """Random seed of data order, sampling and dropout."""
    rewards: Terms = PRESETS["longvideoagent"]
    """Terms of the reward."""
    rollout: Annotated[RolloutConfig, OmitArgPrefixes] = field(default_factory=RolloutConfig)
    grpo: Annotated[GRPOConfig, OmitArgPrefixes] = field(default_factory=GRPOConfig)
    lora: Annotated[LoraConfig, OmitArgPrefixes] = field(default_factory=LoraConfig)
    loop: Annotated[RLLoopConfig, OmitArgPrefixes] = field(default_factory=RLLoopConfig)

    def __post_init__(self) -> None:
        if not self.rewards:
            raise ValueError("rewards is empty: expected at least one term")
        names = [term.name for term in self.rewards]
        if len(set(names)) < len(names):
            raise ValueError(f"each reward may occur once, got {names}")
        parse_agents(self.agents)
        if self.rollout.batch % (self.grpo.updates_per_step * self.loop.per_device_batch_size):
            raise ValueError(
                f"{self.rollout.batch} rollouts of a step are not {self.grpo.updates_per_step} batches of a multiple "
                f"of per_device_batch_size={self.loop.per_device_batch_size}: change one of them"
            )

    @property
    def num_updates(self) -> int:
        """Optimizer updates of the run."""
        return self.loop.steps * self.grpo.updates_per_step

    def passes(self, processes: int) -> int:
        """Forward passes of a device per step.

        Raises:
            ValueError: the rollouts of an update do not divide among the processes.
        """
        per_pass = self.loop.per_device_batch_size * processes
        if self.rollout.batch % (per_pass * self.grpo.updates_per_step):
            raise ValueError(
                f"the {self.rollout.batch} rollouts of a step are not {self.grpo.updates_per_step} updates of whole "
                f"passes of {self.loop.per_device_batch_size} x {processes} processes: change "
                "--per-device-batch-size, --questions-per-step or --group-size"
            )
        return self.rollout.batch // per_pass


def longvideoagent(size: str) -> RLConfig:
    """The published hyper-parameters and reward of LongVideoAgent (arXiv 2512.20618).

    A step has 16 x 8 rollouts and two updates (their mini-batches of 8 questions).
    """
    return RLConfig(
        recipe="longvideoagent",
        weights=SIZES[size],
        out=roots.outputs("rl", f"longvideoagent-{size}"),
        agents=("grounding=bm25", "vision=qwen2.5-vl-7b"),
        episode=EpisodeSettings(episode_turns=5, actions="tags"),
        grpo=GRPOConfig(updates_per_step=2),
        lora=LoraConfig(rank=128, alpha=64.0, dropout=0.0),
        loop=RLLoopConfig(zero_stage=2),
    )


def grounded(size: str) -> RLConfig:
    """As `longvideoagent`, with the reward `grounded`: grammar of every turn, right clip, a late cost of calls."""
    return replace(
        longvideoagent(size),
        recipe="grounded",
        out=roots.outputs("rl", f"grounded-{size}"),
        rewards=PRESETS["grounded"],
    )


def tiny(size: str) -> RLConfig:
    """A small language model with a warm start on a CPU: steps of a second, no adapter, no KL; synthetic episodes."""
    folder = roots.writable(roots.DATA) / "text_episodes"
    return RLConfig(
        recipe="tiny",
        weights=SIZES[size],
        out=roots.outputs("rl", size),
        data=RLDataConfig(train="text-episodes-train", held_out="text-episodes-val"),
        episode=EpisodeSettings(
            prompts="compact",
            clip_texts=folder / "clip_texts.json",
            grounding_cache=folder / "grounding_cache.json",
        ),
        rewards=PRESETS["tiny"],
        rollout=RolloutConfig(questions_per_step=8, group_size=8, max_prompt_tokens=400, max_reply_tokens=16),
        grpo=GRPOConfig(
            learning_rate=4e-4, lr_scheduler="linear", warmup_ratio=0.05, betas=(0.9, 0.98), weight_decay=0.0, kl=0.0
        ),
        lora=LoraConfig(rank=0),
        loop=RLLoopConfig(
            steps=90,
            per_device_batch_size=64,
            bf16=False,
            gradient_checkpointing=False,
            num_threads=1,
            save_steps=30,
            eval_steps=30,
        ),
    )


RECIPES: dict[str, Callable[[str], RLConfig]] = {"longvideoagent": longvideoagent, "grounded": grounded, "tiny": tiny}
"""Recipe -> function of the size."""


def default_recipe(size: str) -> str:
    """Recipe of a size."""
    return "tiny" if size == "tiny" else "longvideoagent"


def build_recipe(name: str, size: str) -> RLConfig:
    """The config of a recipe. `ValueError`: there is no such recipe or size."""
    if name not in RECIPES:
        raise suggestions.unknown_name_message("recipe", name, RECIPES)
    if size not in SIZES:
        raise suggestions.unknown_name_message("size", size, SIZES)
    return RECIPES[name](size)
