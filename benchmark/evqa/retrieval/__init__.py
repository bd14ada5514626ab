"""Retrieval in a video: the grid of its frames, embedding indices of frames, subtitles, and text search."""
