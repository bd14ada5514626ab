"""The subcommands of `evqa`, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable

from evqa.commands.files import export, reparse, schema, score_file
from evqa.commands.one_video import ask, track
from evqa.commands.runs import benchmark, merge, predict, segment
from evqa.commands.scores import compare, report, score
from evqa.commands.tables import doctor, list_

COMMANDS: dict[str, Callable[..., int]] = {
    "predict": predict,
    "segment": segment,
    "merge": merge,
    "score": score,
    "score-file": score_file,
    "compare": compare,
    "benchmark": benchmark,
    "reparse": reparse,
    "export": export,
    "report": report,
    "ask": ask,
    "track": track,
    "schema": schema,
    "doctor": doctor,
    "list": list_,
}
