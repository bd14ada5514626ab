"""A synthetic world of moving shapes, small enough for a laptop: scenes, their pictures and questions about them.

`data/shapes/prepare.py` writes it as real video files in the published ST-Evidence layout.
"""
