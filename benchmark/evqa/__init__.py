"""Evidence-backed video question answering: what the task is, how it is asked, run, scored and shown.

    import evqa

    model = evqa.load("unipixel-3b")
    answer = model.ask("clip.mp4", "What does she pick up?", ["a cup", "a book"])
    answer.text, answer.spans, answer.masks
    answer.save("overlay.mp4")

See docs/python.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evqa.python_api import LoadedModel, RunResult, ScoreTable, load, run, score

__all__ = ["LoadedModel", "RunResult", "ScoreTable", "load", "run", "score"]


def __getattr__(name: str) -> object:
    """Return a name of the Python interface, which is imported when it is used."""
    if name not in __all__:
        raise AttributeError(f"module 'evqa' has no attribute {name!r}")
    return getattr(importlib.import_module("evqa.python_api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
