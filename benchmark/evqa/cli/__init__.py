"""The commands of `evqa`, in the groups and the order of its help."""

from __future__ import annotations

from collections.abc import Callable

from evqa.cli.files import export, reparse, schema, score_official
from evqa.cli.info import completion, doctor, list_
from evqa.cli.one_video import ask, track
from evqa.cli.runs import benchmark, merge, predict, segment
from evqa.cli.scores import compare, report, score
from evqa.cli.scripts import SCRIPT_COMMANDS

Command = Callable[..., int]

COMMAND_GROUPS: dict[str, dict[str, Command]] = {
    "run models": {
        "predict": predict,
        "segment": segment,
        "merge": merge,
        "benchmark": benchmark,
        "ask": ask,
        "track": track,
    },
    "score and compare": {
        "score": score,
        "compare": compare,
        "report": report,
        "score-official": score_official,
        "reparse": reparse,
        "export": export,
    },
    "data, checkpoints, training": SCRIPT_COMMANDS,
    "information": {"list": list_, "doctor": doctor, "schema": schema, "completion": completion},
}

COMMANDS: dict[str, Command] = {name: command for group in COMMAND_GROUPS.values() for name, command in group.items()}
