"""Runs: predictions of a model on a data set, from options to a folder on disk."""
