"""Staged localisation: a question about a long video, answered by stages over sampled frames and segments."""
