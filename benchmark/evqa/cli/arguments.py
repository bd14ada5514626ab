"""Arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from evqa.models.options import ModelOptions
from evqa.runs.options import ExecutionOptions

DataName = Positional[Annotated[str, arg(metavar="DATA")]]
ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Folder = Annotated[Path | None, arg(metavar="FOLDER")]
Number = Annotated[int | None, arg(metavar="N")]
Agents = UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=MODEL")]]
Name = Annotated[str | None, arg(metavar="NAME")]
ExecutionSettings = OmitArgPrefixes[Annotated[ExecutionOptions, arg(name="execution")]]
ModelSettings = OmitArgPrefixes[Annotated[ModelOptions, arg(name="model")]]
Times = Annotated[bool, arg(help_behavior_hint="(default: off)")]
ModeChoice = Literal["separate", "concat", "both"]
