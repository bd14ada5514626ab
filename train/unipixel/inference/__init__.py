"""Inference: a checkpoint as a chat model of evqa, and mask tracking."""
