"""Configuration of the warm start of a tiny master; without torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TinyMasterConfig:
    """Size of the model."""

    hidden_size: int = 96
    num_layers: int = 3
    num_heads: int = 4
    intermediate_size: int = 288


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig:
    """Supervised training before reinforcement learning."""

    seed: int = 0
    """Random seed of weights, drills and traces."""
    drill_steps: int = 120
    """Steps with drills alone."""
    trace_steps: int = 300
    """Steps with traces and drills."""
    extra_steps: int = 120
    """Further steps with traces where the gate is not passed."""
    max_rounds: int = 3
    """Maximum number of rounds of further steps."""
    drills_per_step: int = 64
    """Drills of a step with drills alone; steps with traces have half as many, of half the weight."""
    traces_per_step: int = 48
    """Traces of a step."""
    gate_episodes: int = 40
    """Episodes on which the gate is measured, of four questions each."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    model: TinyMasterConfig = field(default_factory=TinyMasterConfig)
    """Size of the model."""

    def __post_init__(self) -> None:
        leasts = dict.fromkeys(("drill_steps", "trace_steps", "extra_steps", "max_rounds"), 0) | {"gate_episodes": 1}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
