"""Environments of TRL for policies that get images: the same `Episode`, for `GRPOTrainer(environment_factory=...)`.

TRL runs the loop there: it renders the calls and results by the chat template of the policy and trains on images of
tool results, which `rollout_func` cannot (TRL 1.16). Each tool of the episode is a public method of the environment. A
turn without a call ends the episode, so that the corrections of `rollout` do not exist; that the answer is due stands
behind the result before the last turn. TRL gives the text of the last turn to the reward function
only: `prediction_of` reads the answer from it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from evqa.agents.episode import EpisodeRun
from evqa.agents.tool import Tool
from evqa.agents.transcript import Transcript
from evqa.models.base import Model
from evqa.models.messages import ImagePart, Message, Part, Reply
from evqa.schema import Prediction, Sample, ToolCall
from unipixel.rl.rewards import RewardTerm, case_of
from unipixel.rl.rollout import StartEpisode

Blocks = list[dict[str, Any]]
"""Content of a message for a chat template with images."""


class EpisodeEnvironment:
    """Environment of one rollout; `environment_class` adds the tools."""

    _samples: Sequence[Sample] = ()
    _start: StartEpisode
    _policy: Model

    def __init__(self) -> None:
        self._run: EpisodeRun | None = None
        self._prediction: Prediction | None = None

    def reset(self, **row: Any) -> str:
        """Start the episode of the row's sample (its number); return the text of its user message."""
        sample = self._samples[int(row["sample"])]
        self._run = type(self)._start(self._policy, Transcript(sample), 0)
        self._prediction = None
        return "\n".join(part for part in self._run.episode.setup.opening[-1].parts if isinstance(part, str))

    def _call(self, tool: str, arguments: Mapping[str, object]) -> str | Blocks:
        """Result of a call of a tool: a text, or blocks of texts and images."""
        assert self._run is not None, "reset comes first"
        episode = self._run.episode
        if episode.is_over or (request := episode.next_request()) is None:
            return "error: the episode is over"
        if request.is_last:
            return "error: not served, the answer is due"
        call = ToolCall(id=f"call_{episode.num_turns + 1}", name=tool, arguments=json.dumps(dict(arguments)))
        episode.receive(Reply("", calls=(call,)))
        following = episode.next_request()
        results = following.messages[len(request.messages) + 1 :] if following is not None else ()
        parts = [part for message in results for part in message.parts]
        return _content(parts)

    def _finish(self, text: str) -> Prediction:
        """Prediction of the episode with the text of the last turn."""
        assert self._run is not None, "reset comes first"
        if self._prediction is None:
            episode = self._run.episode
            if not episode.is_over and episode.next_request() is not None:
                episode.receive(Reply(text))
            self._prediction = self._run.finish(episode.prediction())
        return self._prediction


def environment_class(samples: Sequence[Sample], start: StartEpisode, policy: Model) -> type[EpisodeEnvironment]:
    """The class for `environment_factory`, with a public method per tool of the first sample's episode.

    Args:
        samples: questions; a row of the data set has the number of one in the column `sample`.
        start: starts an episode, with native actions.
        policy: model whose capabilities the episodes are made for; it is not asked.
    """
    tools = start(policy, Transcript(samples[0]), 0).episode.setup.tools
    fields: dict[str, Any] = {"_samples": samples, "_start": staticmethod(start), "_policy": policy}
    return type("Environment", (EpisodeEnvironment,), fields | {tool.__name__: _method(tool) for tool in tools})


def rows(samples: Sequence[Sample], start: StartEpisode, policy: Model) -> list[dict[str, Any]]:
    """Rows of the data set: the system message, an empty user message for `reset`, and the number of the sample."""
    opening = start(policy, Transcript(samples[0]), 0).episode.setup.opening
    prompt = [{"role": message.role, "content": _text(message)} for message in opening[:-1]]
    return [{"prompt": [*prompt, {"role": "user", "content": ""}], "sample": place} for place in range(len(samples))]


def prediction_of(environment: Any, completion: Sequence[Mapping[str, Any]]) -> Prediction:
    """Prediction of a rollout, from its environment and its messages."""
    last = completion[-1] if completion else {}
    content = last.get("content") or ""
    is_answer = last.get("role") == "assistant" and not last.get("tool_calls")
    text = content if isinstance(content, str) else "".join(str(block.get("text", "")) for block in content)
    return environment._finish(text if is_answer else "")


def reward_function(term: RewardTerm) -> Callable[..., list[float | None]]:
    """A term as a reward function of TRL, for rollouts with environments."""

    def reward(*, completions: list[Any], environments: list[Any], trainer_state: Any, **_: Any) -> list[float | None]:
        values: list[float | None] = []
        for environment, completion in zip(environments, completions, strict=True):
            prediction = prediction_of(environment, completion)
            case = case_of(environment._run.episode.transcript.sample, prediction)
            values.append(None if prediction.status == "failed" else term.value(case, trainer_state.global_step))
        return values

    reward.__name__ = term.name
    return reward


def _method(tool: Tool) -> Callable[..., str | Blocks]:
    """A tool as a method with its name, parameters and docstring in the form that TRL reads."""
    signature = inspect.signature(tool, eval_str=True)
    parameters = [
        parameter.replace(annotation=_plain(parameter.annotation)) for parameter in signature.parameters.values()
    ]

    def method(self: EpisodeEnvironment, **arguments: object) -> str | Blocks:
        return self._call(tool.__name__, arguments)

    instance = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__ = tool.__name__
    method.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    method.__signature__ = signature.replace(parameters=[instance, *parameters], return_annotation=str)  # type: ignore[attr-defined]
    lines = [f"    {parameter.name}: {_description(signature, parameter.name)}" for parameter in parameters]
    method.__doc__ = "\n".join([inspect.cleandoc(tool.__doc__ or ""), *(["", "Args:", *lines] if lines else [])])
    return method


def _plain(annotation: Any) -> Any:
    """The type of an `Annotated` type."""
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation


def _description(signature: inspect.Signature, name: str) -> str:
    metadata = getattr(signature.parameters[name].annotation, "__metadata__", ())
    return next((field.description for field in metadata if getattr(field, "description", None)), name)


def _content(parts: Sequence[Part]) -> str | Blocks:
    """Parts of a result as a text or, with images, as blocks, each image behind its label."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return "\n".join(part for part in parts if isinstance(part, str))
    blocks: Blocks = []
    for part in parts:
        if isinstance(part, ImagePart):
            blocks += [{"type": "text", "text": part.label}] if part.label else []
            blocks.append({"type": "image", "image": Image.fromarray(part.pixels())})
        elif isinstance(part, str):
            blocks.append({"type": "text", "text": part})
    return blocks


def _text(message: Message) -> str:
    return "\n".join(part for part in message.parts if isinstance(part, str))
