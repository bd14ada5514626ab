"""The subcommands of `evqa`, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable

from evqa.cli.files import export, reparse, schema, score_file
from evqa.cli.info import doctor, list_
from evqa.cli.one_video import ask, track
from evqa.cli.runs import benchmark, merge, predict, segment
from evqa.cli.scores import compare, report, score

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
