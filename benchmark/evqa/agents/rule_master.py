"""The model `episode-rules`: a master of the method `episode` by rules, for the synthetic episodes; no network.

It reads the conversation as any master does: it looks where the question is about an object, takes words of the
subtitles else, and relocates where the current clip does not have the topic of the question. Where it knows nothing it
answers a0. It has no access to anything but the conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evqa.models.base import Capabilities
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.parsing import replies
from evqa.parsing.option_keys import option_key
from evqa.prompts import option_lines
from evqa.schema import ToolCall, Usage

RULES_VERSION = 1
"""Part of a run's identity; raised with every change of a rule."""

LOOK, RELOCATE = "visual_query", "request_grounding"

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")

NO_LINES = "(none)"
"""Subtitles of a clip without any, as a prompt writes them."""

NUM_CHOICES = 5
"""Options of a look."""

_QUESTION = re.compile(r"^Question: (.{1,2000})$", re.MULTILINE)
_OPTION = re.compile(r"^a(\d): (.{1,500})$", re.MULTILINE)
_CLIP = re.compile(r"<([\w-]{1,200})>\n(.{0,20000}?)\n</\1>", re.DOTALL)
_LOOK = re.compile(r"\AVisual description of the clip ([\w-]{1,200}):\n(.*)", re.DOTALL)
_BRINGS = re.compile(r"What does (\w+) bring for the (\w+)\?")
_WANTS = re.compile(r"What does (\w+) want after (\w+) brings the (\w+) for the (\w+)\?")
_OBJECT = re.compile(r"the (?:object|one) (that \w+(?: (?:late|across))?)(?: while they talk about the (\w+))?")


class _Need(NamedTuple):
    """An object that a question asks about."""

    event: str
    topic: str | None


class _Conversation(NamedTuple):
    """What the master has read."""

    question: str
    options: tuple[str, ...]
    clips: tuple[tuple[str, str], ...]
    """(clip, subtitles), in the order in which they became the current one."""
    looks: tuple[tuple[str, str, str], ...]
    """(clip, query, description)."""
    num_relocations: int


class RuleMaster:
    """Master by rules."""

    def __init__(self, *, name: str = "episode-rules") -> None:
        self.name = name
        self.capabilities = Capabilities(concurrency=16, tools="native")
        self.settings: Mapping[str, str | int | float | bool | None] = {"rules": RULES_VERSION}

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Take one action: a look, a relocation, or the answer."""
        del decoding
        conversation = _read(messages)
        action = _action(conversation, {tool.name for tool in tools})
        usage = Usage(input_tokens=0, output_tokens=0, cost=0.0, seconds=0.0)
        if isinstance(action, ToolCall):
            return Reply("", usage=usage, finish="tool_calls", calls=(action,))
        return Reply(f"<answer>{option_key(action)}</answer>", usage=usage)


def _read(messages: Sequence[Message]) -> _Conversation:
    question, options = "", list[str]()
    clips: list[tuple[str, str]] = []
    looks: list[tuple[str, str, str]] = []
    queries = {call.id: call for message in messages for call in message.calls}
    relocations = sum(call.name == RELOCATE for call in queries.values())
    for message in messages:
        text = "\n".join(part for part in message.parts if isinstance(part, str))
        if message.role == "user" and not question and (match := _QUESTION.search(text)):
            question, options = match[1], [option[2] for option in _OPTION.finditer(text)]
        if message.role in {"user", "tool"}:
            clips += [(match[1], match[2]) for match in _CLIP.finditer(text)]
        if message.role == "tool" and (match := _LOOK.match(text)):
            looks.append((match[1], queries[str(message.call_id)].arguments, match[2]))
    return _Conversation(question, tuple(options), tuple(clips), tuple(looks), relocations)


def _action(conversation: _Conversation, tools: set[str]) -> ToolCall | int:
    """The next action; a number is the option of the answer."""
    if not conversation.options:
        return 0
    needs = [_Need(match[1], match[2]) for match in _OBJECT.finditer(conversation.question)]
    return _by_looks(conversation, needs, tools) if needs else _by_subtitles(conversation, tools)


def _by_subtitles(conversation: _Conversation, tools: set[str]) -> ToolCall | int:
    for _, text in conversation.clips:
        if (answer := _stated_option(conversation, text)) is not None:
            return answer
    return _relocation(conversation, tools) or 0


def _stated_option(conversation: _Conversation, text: str) -> int | None:
    """Option that the subtitles of a clip state."""
    brings, wants = _BRINGS.search(conversation.question), _WANTS.search(conversation.question)
    if brings:
        pattern = rf"{brings[1]} : I bring the (\w+) for the {brings[2]}\b"
    elif wants:
        pattern = rf"{wants[2]} : I bring the {wants[3]} for the {wants[4]} \.\n{wants[1]} : Now I want the (\w+)"
    else:
        return None
    match = re.search(pattern, text)
    return conversation.options.index(match[1]) if match and match[1] in conversation.options else None


def _by_looks(conversation: _Conversation, needs: Sequence[_Need], tools: set[str]) -> ToolCall | int:
    colors = [_color(conversation, need) for need in needs]
    missing = [need for need, color in zip(needs, colors, strict=True) if color is None]
    actions = [action for need in missing if (action := _search(conversation, need, tools)) is not None]
    if actions:
        return min(actions, key=lambda action: action.name != LOOK)  # what the current clip shows comes first
    return _best_option(conversation.options, colors)


def _search(conversation: _Conversation, need: _Need, tools: set[str]) -> ToolCall | None:
    """Action that finds an object: a look at the current clip, or another clip; None = nothing is left to do."""
    clip = _clip_for(conversation, need)
    if clip is None:
        return _relocation(conversation, tools)
    is_seen = any(name == clip and need.event in query for name, query, _ in conversation.looks)
    return None if is_seen or LOOK not in tools else _look(conversation, need)


def _clip_for(conversation: _Conversation, need: _Need) -> str | None:
    """The current clip, if it has the topic of an object; None = it has not."""
    if not conversation.clips:
        return None
    name, text = conversation.clips[-1]
    return name if need.topic is None or text == NO_LINES or re.search(rf"\b{need.topic}\b", text) else None


def _look(conversation: _Conversation, need: _Need) -> ToolCall:
    query = f"What color is the object {need.event}?\nOptions:\n{option_lines(_choices(conversation, need))}"
    return ToolCall(id=f"look_{len(conversation.looks)}", name=LOOK, arguments=json.dumps({"question": query}))


def _choices(conversation: _Conversation, need: _Need) -> tuple[str, ...]:
    """Five colors among which a look chooses: first those that the options name at the place of the object."""
    place = [match[1] for match in _OBJECT.finditer(conversation.question)].index(need.event)
    colors = [[word for word in option.split() if word in COLORS] for option in conversation.options]
    of_place = [words[place] for words in colors if len(words) > place]
    return tuple(dict.fromkeys([*of_place, *COLORS]))[:NUM_CHOICES]


def _color(conversation: _Conversation, need: _Need) -> str | None:
    """Color that a look found for an object; None = it was not looked at where it is."""
    texts = dict(conversation.clips)
    for name, query, description in conversation.looks:
        text = texts.get(name, "")
        is_place = need.topic is None or text == NO_LINES or re.search(rf"\b{need.topic}\b", text)
        if need.event in query and is_place:
            choices = _choices(conversation, need)
            choice = replies.parse(description, ("answer",), choices).answer
            return None if choice is None else choices[choice]
    return None


def _best_option(options: Sequence[str], colors: Sequence[str | None]) -> int:
    """The option that agrees with most of the colors, each at its place."""

    def agreement(option: str) -> int:
        words = [word for word in option.split() if word in COLORS]
        return sum(word == color for word, color in zip(words, colors, strict=False))

    return max(range(len(options)), key=lambda place: (agreement(options[place]), -place))


def _relocation(conversation: _Conversation, tools: set[str]) -> ToolCall | None:
    if RELOCATE not in tools or conversation.num_relocations >= 2:
        return None
    return ToolCall(id=f"relocate_{conversation.num_relocations}", name=RELOCATE, arguments="{}")
