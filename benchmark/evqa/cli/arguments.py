"""Types of arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from evqa.agents.settings import AgentSettings
from evqa.models.options import ModelOptions, option
from evqa.runs.options import ExecutionOptions

DataName = Positional[Annotated[str, arg(metavar="DATA")]]
ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Agents = UseAppendAction[Annotated[tuple[str, ...], option("NAME=MODEL")]]
RunData = Annotated[str | None, option("NAME", default="the one that the run names")]
MethodName = Annotated[str | None, option("NAME", default="the one of the data set and the model")]
ExecutionSettings = OmitArgPrefixes[Annotated[ExecutionOptions, arg(name="sample and worker")]]
ModelSettings = OmitArgPrefixes[Annotated[ModelOptions, arg(name="")]]
AgentOptions = OmitArgPrefixes[Annotated[AgentSettings, arg(name="agent")]]
Times = Annotated[bool, option(name="timestamps", default="off")]
CanaryChoice = Annotated[Literal["auto", "on", "off"], option("{auto,on,off}")]
ModeChoice = Literal["separate", "concat", "both"]
