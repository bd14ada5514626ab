"""Benchmark tasks: a data set with its prompting method and its scoring presets."""
