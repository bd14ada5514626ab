"""Reinforcement learning of agents: GRPO in the loop that is evaluated."""
