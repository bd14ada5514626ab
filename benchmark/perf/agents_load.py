"""How busy concurrent agents keep a slow server: share of its capacity, and CPU time per request of this process.

    python benchmark/perf/agents_load.py                                # 64 agents, 16 replies at once, 1 s each
    python benchmark/perf/agents_load.py --seconds 0.25 --frames 10
    python benchmark/perf/agents_load.py --calls 0                      # without tools: the overhead of requests

A server of chat completions in a process of its own replies to at most so many requests at once, each after a fixed
time. Its replies call the tool for frames by id a few times, then answer, so that each request holds the images of all
earlier results. The share is the seconds of all replies in progress, over its capacity times the seconds from the first
request to the last reply. Start and end of the run count, so that `--samples` is several times `--agents`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from evqa import datasets, media, methods, models
from evqa.agents.settings import AgentSettings
from evqa.files import jsonl
from evqa.models.base import Models
from evqa.runs import runner, thread_executor
from evqa.schema import Sample

FPS = 6.0


@dataclass
class SlowServer:
    """Server of chat completions; replies to `capacity` requests at once, each after `seconds`."""

    capacity: int
    seconds: float
    calls: int
    """Replies with a tool call before the answer."""
    frames: int
    """Frames per call."""
    busy: float = 0.0
    """Seconds of replies in progress, added up."""
    count: int = 0
    first: float | None = None
    """Start of the first request, by `time.monotonic`."""
    last: float = 0.0
    """End of the last reply."""
    num_bytes: int = 0
    slots: asyncio.Semaphore = field(init=False)

    async def serve(self) -> None:
        """Print the port, and serve for ever."""
        self.slots = asyncio.Semaphore(self.capacity)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**26, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                request = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                reply = self._stats() if head.startswith(b"get") else await self._reply(request)
                content = json.dumps(reply).encode()
                header = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                writer.write(header % len(content) + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _stats(self) -> dict[str, float]:
        wall = self.last - (self.first or 0.0)
        return {"busy": self.busy, "wall": wall, "count": self.count, "bytes": self.num_bytes}

    async def _reply(self, request: bytes) -> dict[str, Any]:
        self.first = self.first or time.monotonic()
        async with self.slots:
            start = time.monotonic()
            await asyncio.sleep(self.seconds)
            self.last = time.monotonic()
            self.busy += self.last - start
        self.count += 1
        self.num_bytes += len(request)
        turn = request.count(b'"role":"assistant"')
        message: dict[str, Any] = {"role": "assistant", "content": '{"answer": "A", "segments": [[1, 2]]}'}
        if turn < self.calls:
            ids = [(self.count + turn * 37 + number * 5) % 60 for number in range(self.frames)]
            function = {"name": "get_frames_by_id", "arguments": json.dumps({"frame_ids": ids})}
            message |= {"content": None, "tool_calls": [{"id": f"c{turn}", "type": "function", "function": function}]}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return {"model": "slow", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


def main(  # noqa: PLR0913  (each is an option)
    *,
    agents: int = 64,
    samples: int = 256,
    capacity: int = 16,
    seconds: float = 1.0,
    calls: int = 3,
    frames: int = 8,
    server: bool = False,
) -> None:
    """Run agents on drawn clips of a minute against a slow server, and print the share of its capacity that is busy.

    Args:
        agents: samples in progress at once.
        samples: samples in all.
        capacity: replies in progress at once.
        seconds: time of a reply.
        calls: tool calls of a sample.
        frames: frames of a call.
        server: be the server.
    """
    if server:
        asyncio.run(SlowServer(capacity=capacity, seconds=seconds, calls=calls, frames=frames).serve())
        return
    options = {"--capacity": capacity, "--seconds": seconds, "--calls": calls, "--frames": frames}
    arguments = [text for name, value in options.items() for text in (name, str(value))]
    command = [sys.executable, __file__, "--server", *arguments]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as slow:
        try:
            assert slow.stdout is not None
            url = f"http://127.0.0.1:{slow.stdout.readline().strip()}"
            measure(url, Path(folder), agents, samples)
            with urllib.request.urlopen(f"{url}/stats") as reply:
                stats = json.load(reply)
        finally:
            slow.terminate()
    share, size = stats["busy"] / (capacity * stats["wall"]), stats["bytes"] / stats["count"] / 1e6
    print(f"server: {stats['count']} requests of {size:.2f} MB in {stats['wall']:.1f} s, {share:.1%} of capacity busy")


def measure(url: str, folder: Path, agents: int, samples: int) -> None:
    """Run the method `retrieve` on all samples, and print its times."""
    os.environ.setdefault("EVQA_SERVER_KEY", "none")
    data = write_dataset(folder / "data", samples)
    model = models.build("openai-compatible", base_url=f"{url}/v1", model_id="slow", concurrency=agents)
    executor = thread_executor.ThreadExecutor(Models(model))
    settings = AgentSettings(encoder="none")
    wall, cpu = time.perf_counter(), time.process_time()
    summary = runner.run_samples(
        executor,
        methods.predictor("retrieve", times=True, settings=settings),
        data,
        folder / "run",
        runner.identity_of(executor, "retrieve", data),
        progress=False,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert not summary.failed, next(iter(summary.failed.values()))
    replies = summary.usage.num_replies
    print(
        f"client: {summary.num_ok} samples of {agents} agents at once in {wall:.1f} s, {replies} replies, "
        f"{1000 * cpu / replies:.1f} ms of CPU time per reply"
    )


def write_dataset(folder: Path, num_samples: int) -> datasets.Dataset:
    """Questions about four drawn clips of a minute, 640 x 360 pixels."""
    (folder / "videos").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (23, 40, 3), dtype=np.uint8)
    ground = np.repeat(np.repeat(noise, 16, 0), 16, 1)[:360]
    for number in range(4):
        images = (np.roll(ground, 4 * index + 90 * number, axis=1) for index in range(round(60 * FPS)))
        media.write_video(folder / "videos" / f"clip{number}.mp4", images, FPS)
    samples = [
        Sample(
            id=f"s{number:04d}",
            video_id=f"clip{number % 4}",
            video=Path(f"videos/clip{number % 4}.mp4"),
            question="Which shape glows?",
            options=("circle", "square"),
            answer=0,
        )
        for number in range(num_samples)
    ]
    jsonl.write_records(folder / "samples.jsonl", samples)
    return datasets.load(str(folder))


if __name__ == "__main__":
    tyro.cli(main)
