"""Scoring: metrics over samples, intervals, baselines, scores.json."""
