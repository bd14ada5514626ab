"""A synthetic data set of moving shapes that trains on a laptop: scenes, their frames, and questions about them.

`data/shapes/prepare.py` writes it as real video files in the published ST-Evidence layout.
"""
