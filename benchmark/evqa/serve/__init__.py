"""Servers: tools over the videos of a folder for other programs."""
