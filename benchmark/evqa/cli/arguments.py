"""Types of arguments that several commands have, and earlier spellings that still work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from evqa.models.options import ModelOptions, option
from evqa.runs.options import ExecutionOptions

DataName = Positional[Annotated[str, arg(metavar="DATA")]]
ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Agents = UseAppendAction[Annotated[tuple[str, ...], option("NAME=MODEL")]]
RunData = Annotated[str | None, option("NAME", default="the one that the run names")]
MethodName = Annotated[str | None, option("NAME", default="the one of the data set and the model")]
ExecutionSettings = OmitArgPrefixes[Annotated[ExecutionOptions, arg(name="sample and worker")]]
ModelSettings = OmitArgPrefixes[Annotated[ModelOptions, arg(name="model")]]
Times = Annotated[bool, option(name="timestamps", default="off")]
ModeChoice = Literal["separate", "concat", "both"]

OLD_COMMANDS = {"score-file": "score-official"}
"""Earlier name of a command -> its name. Both work; only the second is shown."""

OLD_OPTIONS = {
    "--with": "--segmenter",
    "--only": "--sample-ids",
    "--no-times": "--no-timestamps",
    "--restart": "--overwrite",
    "--tries": "--max-retries",
    "--every": "--frame-stride",
    "--max-side": "--max-size",
    "--side": "--image-size",
    "--mask-margin": "--mask-temporal-margin",
    "--one-pass": "--direct-prompts",
}
"""Earlier name of an option -> its name. Both work; only the second is shown.

`--tries N` counted the first request too: it is `--max-retries N-1`.
"""


def rename_old_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with today's names of commands and options."""
    if not arguments:
        return []
    command, *words = arguments
    return [OLD_COMMANDS.get(command, command), *_rename_options(iter(words))]


def _rename_options(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name not in OLD_OPTIONS:
            yield word
        elif name == "--tries":
            yield OLD_OPTIONS[name]
            tries = value if equals else next(words, "")
            yield str(int(tries) - 1) if tries.isdecimal() else tries
        else:
            yield f"{OLD_OPTIONS[name]}{equals}{value}"
