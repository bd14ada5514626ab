"""Server of the Model Context Protocol over the videos of a library, for assistants and other agents."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any, Literal

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from PIL import Image

from evqa.agents.frame_images import draw_label
from evqa.agents.tool import ToolOutput
from evqa.models.messages import ImagePart, ToolSpec
from evqa.serve.video_tools import VideoTools

JPEG_QUALITY = 85

INSTRUCTIONS = (
    "Tools over the user's videos. Times are seconds from the start of a video. Every image has its time in its text "
    "and drawn at its top left. Begin with list_videos, then overview; search and subtitles tell where to look, "
    "frames_at, frames_between and zoom show it. State the seconds that an answer rests on."
)

Transport = Literal["stdio", "http"]


def build_server(tools: VideoTools) -> Server[Any]:
    """Return a server with the tools; calls run in threads."""

    async def list_tools(
        context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del context, params
        return types.ListToolsResult(tools=[_tool(spec) for spec in tools.specs()])

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        del context
        output = await asyncio.to_thread(tools.call, params.name, params.arguments or {})
        return types.CallToolResult(content=_content(output), is_error=not output.ok)

    return Server("evqa", title="EVQA", instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


def serve(tools: VideoTools, transport: Transport, host: str, port: int) -> None:
    """Serve until the client closes the connection (stdio) or the process is interrupted (http)."""
    server = build_server(tools)
    if transport == "stdio":
        asyncio.run(_serve_stdio(server))
        return
    import uvicorn

    uvicorn.run(server.streamable_http_app(host=host), host=host, port=port, log_level="warning")


async def _serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        description=spec.description,
        input_schema=dict(spec.parameters),
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _content(output: ToolOutput) -> list[types.ContentBlock]:
    """Return texts and images of a result in order."""
    blocks: list[types.ContentBlock] = []
    for part in output.parts:
        if isinstance(part, str):
            blocks.append(types.TextContent(text=part))
        elif isinstance(part, ImagePart):
            blocks += [types.TextContent(text=part.label), _image(part)] if part.label else [_image(part)]
    return blocks


def _image(part: ImagePart) -> types.ImageContent:
    pixels = part.pixels() if part.ref is None else draw_label(part.pixels(), part.label)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return types.ImageContent(data=base64.b64encode(buffer.getvalue()).decode("ascii"), mime_type="image/jpeg")
