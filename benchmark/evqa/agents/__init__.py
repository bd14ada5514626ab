"""Agents: a model that calls tools over a video in several turns, and the loop that runs it."""
