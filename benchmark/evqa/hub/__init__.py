"""Checkpoints and data sets of the hub: download, verification, archives."""
