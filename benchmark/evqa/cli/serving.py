"""Commands that serve other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from evqa.agents.settings import AgentSettings
from evqa.cli.arguments import AgentOptions, Agents, ModelSettings, Times
from evqa.models.options import ModelOptions, option, parse_agents


def mcp(  # noqa: PLR0913  (each is an option of the command)
    folders: Positional[Annotated[tuple[Path, ...], arg(metavar="FOLDER...", help_behavior_hint="(at least one)")]],
    *,
    model: Annotated[str | None, option("MODEL", default="none: no questions, no masks")] = None,
    method: Annotated[str | None, option("NAME", default="the model's own")] = None,
    transport: Literal["stdio", "http"] = "stdio",
    host: Annotated[str, option("ADDRESS")] = "127.0.0.1",
    port: Annotated[int, option("N")] = 8765,
    times: Times = True,
    seed: int = 0,
    agent: Agents = (),
    agent_settings: AgentOptions = AgentSettings(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008  (frozen)
) -> int:
    """Serve tools over your videos to assistants (MCP).

    The tools list and search the videos of the folders and show frames, regions and subtitles with their times; with
    a model they also answer questions, and segment objects where the model predicts masks. No file outside of the
    folders is read.

    Example: evqa mcp ~/videos

      evqa mcp ~/videos --model st-evidence-3b --transport http

    Args:
        folders: folder with videos.
        model: name of a model (evqa list models) that answers questions.
        method: prompting method (evqa list methods).
        transport: stdio, for a program that starts this command, or http, at http://ADDRESS:N/mcp.
        host: address of --transport http; one that other machines reach is open to all of them.
        port: port of --transport http.
        times: withhold the duration of the video and the timestamps of its frames from the model, as published.
        seed: random seed of sampling (with --temperature).
        agent: additional model of a method with several models: NAME=MODEL or NAME=MODEL,setting=value.
        agent_settings: frames and search of the tools, and the settings of the method.
        options: settings of the model that replace those of its table entry (evqa list models).
    """
    from evqa.ask import AskSettings, build_models
    from evqa.methods import AGENT_METHODS
    from evqa.models import adapter
    from evqa.serve.video_library import VideoLibrary
    from evqa.serve.video_tools import VideoTools

    serve = adapter("evqa.serve.mcp_server:serve", needed_by="evqa mcp", extra="mcp")
    library = VideoLibrary(folders)
    settings = AskSettings(
        method=method,
        times=times,
        seed=seed,
        overrides=options.overrides(),
        agents=parse_agents(agent),
        agent_settings=agent_settings if method in AGENT_METHODS else AgentSettings(),
    )
    models = None if model is None else build_models(model, settings)
    serve(VideoTools(library, agent_settings, models, settings), transport, host, port)
    return 0
