"""Rollouts: the policy plays episodes in lock step, by the loop and the episodes of evaluation.

`rollout_function` is the `rollout_func` of TRL's `GRPOTrainer`. It returns token ids as they were sampled, and marks
those of messages (`env_mask` 0), which are not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evqa.agents import loop
from evqa.agents.episode import EpisodeRun, ModelRequest
from evqa.agents.tool import ToolFailure
from evqa.agents.transcript import Transcript
from evqa.models.base import Model, ModelError
from evqa.models.chat_tokens import TokenizedChat
from evqa.models.messages import Reply
from evqa.models.text_model import TextModel
from evqa.schema import Prediction, Sample
from unipixel.rl import policy

StartEpisode = Callable[[Model, Transcript, int], EpisodeRun]
"""Starts an episode: (policy, transcript of the sample, seed of this rollout) -> episode. For the method `episode` that
is `methods.episodes.start_episode`; the seed is for agents that draw at random."""


@dataclass(frozen=True)
class Rollout:
    """An episode that the policy played."""

    sample: Sample
    prediction: Prediction
    """With the turns; a failed one where an agent or a tool failed, which is not the policy's fault."""
    tokens: TokenizedChat
    """Token ids; `completion_ids` is not empty."""


def play(
    model: TextModel,
    start: StartEpisode,
    samples: Sequence[Sample],
    seeds: Sequence[int],
    *,
    largest_of: policy.Largest | None = None,
) -> list[Rollout]:
    """Play an episode per sample in lock step.

    Args:
        model: the policy.
        start: starts an episode.
        samples: samples; one may occur several times.
        seeds: seed per sample.
        largest_of: see `policy.Agreement`; None = processes generate on their own.

    Returns:
        One rollout per sample, in order.
    """
    agreement = None if largest_of is None else policy.Agreement(model, largest_of)
    engine = model if agreement is None else agreement.model
    runs = [_started(start, model, sample, seed) for sample, seed in zip(samples, seeds, strict=True)]
    ready = [run for run in runs if isinstance(run, EpisodeRun)]

    def generate(requests: Sequence[ModelRequest]) -> list[Reply]:
        return policy.replies_to(engine, requests, has_tags=ready[0].has_tags)

    predictions = iter(loop.run_together(generate, [run.episode for run in ready]))
    if agreement is not None:
        agreement.finish()
    return [
        _rollout(model, sample, run, run if isinstance(run, Prediction) else next(predictions))
        for sample, run in zip(samples, runs, strict=True)
    ]


def _started(start: StartEpisode, model: Model, sample: Sample, seed: int) -> EpisodeRun | Prediction:
    """The episode of a sample; a failed prediction where it cannot start."""
    transcript = Transcript(sample)
    try:
        return start(model, transcript, seed)
    except (ModelError, ToolFailure, ValueError) as error:
        return transcript.failure(error)


def _rollout(model: TextModel, sample: Sample, run: EpisodeRun | Prediction, prediction: Prediction) -> Rollout:
    eos = model.chat.tokenizer.eos_token_id
    if isinstance(run, Prediction):
        return Rollout(sample, prediction, TokenizedChat((eos,)).with_messages([eos]))
    tokens = policy.tokens_of(run.episode) or TokenizedChat((eos,))
    return Rollout(sample, run.finish(prediction), tokens if tokens.completion_ids else tokens.with_messages([eos]))


def to_columns(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """The result of a `rollout_func`: token ids, their mask, and the columns `sample` and `prediction` for rewards."""
    tokens = [rollout.tokens for rollout in rollouts]
    logprobs = [list(chat.logprobs) for chat in tokens if chat.logprobs is not None]
    has_logprobs = len(logprobs) == len(tokens) and any(map(any, logprobs))
    return {
        "prompt_ids": [list(chat.prompt_ids) for chat in tokens],
        "completion_ids": [list(chat.completion_ids) for chat in tokens],
        "env_mask": [list(map(int, chat.is_generated)) for chat in tokens],
        "logprobs": logprobs if has_logprobs else None,
        "sample": [rollout.sample for rollout in rollouts],
        "prediction": [rollout.prediction for rollout in rollouts],
    }
