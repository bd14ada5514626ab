"""Settings of a model that the command line may change; each stands in a row of the table of models too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError
from tyro.conf import UseAppendAction, arg

from evqa.models.registry import AgentConfig, Setting

Whole = Annotated[int | None, arg(metavar="N")]
Amount = Annotated[float | None, arg(metavar="X")]
Word = Annotated[str | None, arg(metavar="NAME")]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Settings in place of those of the model's row; one that the model does not have is an error."""

    base_url: Annotated[str | None, arg(metavar="URL")] = None
    """address of an Azure resource or of a compatible server, such as http://localhost:8000/v1."""
    api: Literal["openai", "azure", "ark", "compatible"] | None = None
    """which provider, for a row of the same model elsewhere: gpt-5 --api azure --base-url ... --model-id ..."""
    api_version: Word = None
    """Azure's."""
    model_id: Word = None
    """what the server calls the model; with Azure the deployment."""
    fps: Amount = None
    """frames a second that the model sees; not the rate of the video itself."""
    max_frames: Whole = None
    """frames that it sees, at most."""
    max_side: Whole = None
    """pixels of the longer side of a frame, at most."""
    video: Literal["file", "frames"] | None = None
    """whether the model gets the video itself, or its frames."""
    max_tokens: Whole = None
    """tokens of a reply, at most."""
    max_new_tokens: Whole = None
    """the same, of our models."""
    reasoning_effort: Word = None
    """how long a reasoning model of OpenAI's protocol thinks: minimal, low, medium, high."""
    thinking_budget: Whole = None
    """tokens that Gemini may think, at most; 0 = it does not."""
    structured: Literal["schema", "object", "none"] | None = None
    """whether the server holds the model to a JSON schema, to any JSON object, or not."""
    timeout: Amount = None
    """seconds for one request."""
    tries: Whole = None
    """requests for one reply, at most; only what the server calls temporary is tried again."""
    rpm: Amount = None
    """requests a minute, at most."""
    max_cost: Amount = None
    """US dollars for the run, at most, what earlier calls spent included."""
    max_total_tokens: Whole = None
    """tokens for the run, at most."""
    price_in: Amount = None
    """US dollars a million tokens of prompt."""
    price_out: Amount = None
    """US dollars a million tokens of reply."""
    batch_size: Whole = None
    """questions that an open model answers in one pass."""
    temperature: Annotated[float | Literal["omit"] | None, arg(metavar="X|omit")] = None
    """of sampling, for a model that can; 0 = the likeliest token each time; omit = not sent to a server."""
    top_p: Amount = None
    """share of the likeliest tokens that a model behind an API samples from."""
    token_field: Word = None
    """how the request of OpenAI's protocol calls --max-tokens: max_tokens, max_completion_tokens; omit = not sent."""
    extra_body: Annotated[str | None, arg(metavar="JSON")] = None
    """an object with further fields of each request to an API, such as '{"top_k": 20}'."""
    header: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME:VALUE")]] = ()
    """a further header of each request to an API; repeat it for each."""
    prompt_frame: Literal["first", "evidence"] | None = None
    """where our models draw objects first: as upstream, or in the middle of the longest span that the reply names."""
    mask_fps: Amount = None
    """frames a second that the mask decoder of our models draws; masks between are interpolated."""
    mask_margin: Amount = None
    """seconds around the spans of the reply that it draws; none: everything."""
    compile: bool = False
    """compile the image encoder of our models' mask decoder (torch.compile): minutes once; what it gains on a GPU is
    not measured yet."""
    device_map: Word = None
    """where a model with open weights lies: auto (all GPUs), cpu, cuda:0."""
    device: Word = None
    """the same, under the name of PyTorch: auto, cpu, cuda, cuda:1."""
    dtype: Word = None
    """numbers of a model with open weights: auto, bfloat16, float16, float32."""
    tensor_parallel: Whole = None
    """GPUs that hold one copy of the model, with vLLM."""
    trust_remote_code: bool = False
    """run the Python code that comes with the model's weights; it can do whatever you can."""

    def overrides(self) -> dict[str, Setting]:
        """What was given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None and value is not False}
        if not self.header:
            del given["header"]
        return {name: None if name in OMITTED and value == OMIT else value for name, value in given.items()}


OMIT = "omit"
"""In place of the value of a setting that is not sent."""

OMITTED = ("temperature", "token_field")

ROLE = re.compile(r"[a-z][a-z0-9_-]{0,30}")
"""Name of an agent."""

SETTING = re.compile(r",(?=[a-z_]+=)")
"""Before a setting of an agent."""


def parse_agents(texts: Sequence[str]) -> dict[str, AgentConfig]:
    """Read `NAME=MODEL` or `NAME=MODEL,setting=value,...`, one per agent, with the settings of `ModelOptions`.

    Raises:
        ValueError: a text has another form, a name is given twice, or a setting is unknown or has an invalid value.
    """
    agents: dict[str, AgentConfig] = {}
    for text in texts:
        role, equals, rest = text.partition("=")
        model, *settings = SETTING.split(rest)
        if not equals or not model or ROLE.fullmatch(role) is None or role == "main":
            raise ValueError(
                f"an agent is NAME=MODEL or NAME=MODEL,setting=value, such as vision=gpt-4o; NAME has small letters, "
                f"digits, - and _, and is not main; got {text!r}"
            )
        if role in agents:
            raise ValueError(f"the agent {role!r} is given twice: give one --agent per name")
        agents[role] = AgentConfig(model, dict(_setting(role, setting) for setting in settings))
    return agents


def _setting(role: str, text: str) -> tuple[str, Setting]:
    """(name, value) of `name=value`, with the type that the option of that name has."""
    name, _, value = text.partition("=")
    types: Mapping[str, object] = get_type_hints(ModelOptions)
    if name not in types or name == "header":
        raise ValueError(
            f"agent {role!r} has no setting {name!r}; settings are options of models, such as max_tokens=64"
        )
    try:
        return name, TypeAdapter(types[name]).validate_strings(value)
    except ValidationError as error:
        raise ValueError(f"agent {role!r}: {name}={value} is invalid: {error.errors()[0]['msg']}") from error
