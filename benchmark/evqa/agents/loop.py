"""Loop of agents: `run` runs one episode with one model, `run_together` many episodes in lock step."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from evqa.agents.episode import Episode, ModelRequest
from evqa.agents.tool import ToolFailure
from evqa.models.base import Model, ModelError, RunAborted
from evqa.models.messages import Reply
from evqa.schema import Prediction

GenerateBatch = Callable[[Sequence[ModelRequest]], Sequence[Reply | ModelError]]
"""Replies to several requests, in their order; a `ModelError` in place of a reply fails its episode only."""


def run(model: Model, episode: Episode) -> Prediction:
    """Run an episode. A failure of the model or of a tool makes a failed prediction with the turns before it.

    Raises:
        RunAborted: no further call of the model can succeed.
    """
    with episode.transcript as transcript:
        play(model, episode)
    return transcript.prediction()


def play(model: Model, episode: Episode) -> None:
    """Run an episode to its end; the transcript has its turns.

    Raises:
        ModelError, RunAborted: the model, or one that a tool asks, did not reply.
        ToolFailure: a tool failed.
        ValueError: the video cannot be read.
    """
    while (request := episode.next_request()) is not None:
        try:
            reply = model.generate(request.messages, tools=request.tools, decoding=request.decoding)
        except (ModelError, RunAborted) as error:
            episode.add_error(error)
            raise
        episode.receive(reply)


def run_together(generate: GenerateBatch, episodes: Sequence[Episode]) -> list[Prediction]:
    """Run episodes in lock step: each call of `generate` has the next request of every episode that is not over.

    Returns:
        One prediction per episode, in order; a failed one where its model or a tool failed.
    """
    failures: dict[int, Prediction] = {}
    while requests := _requests(episodes, failures):
        for number, reply in zip(requests, generate(list(requests.values())), strict=True):
            episode = episodes[number]
            try:
                if isinstance(reply, ModelError):
                    episode.add_error(reply)
                    raise reply
                episode.receive(reply)
            except (ModelError, ToolFailure, ValueError) as error:
                failures[number] = episode.transcript.failure(error)
    return [failures.get(number) or episode.prediction() for number, episode in enumerate(episodes)]


def _requests(episodes: Sequence[Episode], failures: Container[int]) -> dict[int, ModelRequest]:
    """Next request of each episode that is neither over nor failed, by its number."""
    running = ((number, episode) for number, episode in enumerate(episodes) if number not in failures)
    return {number: request for number, episode in running if (request := episode.next_request()) is not None}
