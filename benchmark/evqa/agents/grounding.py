"""Grounding: which clip of an episode a question is about, by its subtitles.

A grounder gets the question, its options and the clips of the episode, and nothing of the ground truth. The clip that
it names must belong to the episode; anything else is a failure with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from evqa.agents.episode_clips import EpisodeClips
from evqa.agents.grounding_cache import GroundingCache
from evqa.agents.transcript import Transcript
from evqa.models.base import Model, ModelError, rank_texts
from evqa.models.messages import Message, Reply
from evqa.parsing.action_tags import without_thoughts
from evqa.parsing.option_keys import option_key
from evqa.schema import Sample, Usage

GROUNDING = "grounding"
"""Role of the model that names a clip."""

MAX_EPISODE_CHARACTERS = 400_000
"""Characters of the subtitles of an episode in one prompt; longer texts of clips are cut to an equal share."""

ERROR = "error"
EMPTY = "empty"
UNKNOWN = "not in the episode"
SAME = "the same clip again"
NO_MATCH = "no clip has a word of the question"
NO_ENTRY = "the cache has no clip"

_CLIP = re.compile(r"<clip>(.*?)(?:</clip>|$)", re.DOTALL | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)


class Located(NamedTuple):
    """Result of a grounding."""

    place: int | None
    """Index of the clip in the episode; None = failed."""
    failure: str = ""
    """Why it failed."""
    details: str = ""
    """The failure in words."""


class Grounder(Protocol):
    """Names the clip of an episode that a question is about."""

    def locate(self, question: str, options: Sequence[str], episode: EpisodeClips, exclude: int | None) -> Located:
        """The clip.

        Args:
            question: question.
            options: texts of its options.
            episode: clips with their subtitles.
            exclude: index of the current clip, which may not have the answer; None = there is none.
        """
        ...


@dataclass(frozen=True)
class ModelGrounder:
    """Grounder that asks a model with the subtitles of the whole episode, or a ranker of texts."""

    model: Model
    transcript: Transcript

    def locate(self, question: str, options: Sequence[str], episode: EpisodeClips, exclude: int | None) -> Located:
        """The clip; see `Grounder`. Every call is a turn of the role grounding."""
        if self.model.capabilities.ranks_texts:
            return self._ranked(question, options, episode, exclude)
        message = Message("user", (prompt(question, options, episode, exclude),))
        reply = self.transcript.ask(self.model, message, GROUNDING)
        if isinstance(reply, ModelError):
            return Located(None, ERROR, f"{reply}")
        self.transcript.add_turn([message], reply, agent=GROUNDING, model=self.model.name)
        return checked(parse_clip(reply.text, episode.ids), exclude)

    def _ranked(self, question: str, options: Sequence[str], episode: EpisodeClips, exclude: int | None) -> Located:
        query = "\n".join([question, *options])
        places = [place for place in rank_texts(self.model, query, episode.texts) if place != exclude]
        reply = f"<clip>{episode.ids[places[0]]}</clip>" if places else ""
        usage = Usage(input_tokens=0, output_tokens=0, cost=0.0, seconds=0.0)
        self.transcript.add_turn(
            [Message("user", (query,))], Reply(reply, usage=usage), agent=GROUNDING, model=self.model.name
        )
        return Located(places[0]) if places else Located(None, NO_MATCH)


@dataclass(frozen=True)
class CachedGrounder:
    """Grounder that reads the first clip from a cache; later calls, and questions without entry, go to another one."""

    cache: GroundingCache
    transcript: Transcript
    sample: Sample
    fallback: Grounder | None
    """Grounder of all other calls; None = they fail."""

    def locate(self, question: str, options: Sequence[str], episode: EpisodeClips, exclude: int | None) -> Located:
        """The clip; see `Grounder`."""
        clip = self.cache.clip_of(self.sample) if exclude is None else None
        if clip is None:
            if self.fallback is None:
                return Located(None, NO_ENTRY)
            return self.fallback.locate(question, options, episode, exclude)
        usage = Usage(input_tokens=0, output_tokens=0, cost=0.0, seconds=0.0)
        reply = Reply(f"<clip>{clip}</clip>", usage=usage)
        self.transcript.add_turn([Message("user", (question,))], reply, agent=GROUNDING, model=self.cache.name)
        return checked(parse_clip(reply.text, episode.ids), exclude)


def checked(located: Located, exclude: int | None) -> Located:
    """The result, failed where it is the clip that was to be left."""
    return Located(None, SAME) if located.place is not None and located.place == exclude else located


def prompt(question: str, options: Sequence[str], episode: EpisodeClips, exclude: int | None) -> str:
    """Prompt with the question, its options and the subtitles of all clips, of bounded length."""
    clips, share = episode.tagged_texts(MAX_EPISODE_CHARACTERS)
    cut = "" if share is None else f" Each text is cut to {share} characters."
    leave = (
        ""
        if exclude is None
        else f"\nThe clip {episode.ids[exclude]} may not contain the answer: choose a different one."
    )
    return "\n".join(
        [
            "Find the clip of a TV episode in which the answer to a question occurs. The subtitles of each clip stand "
            f"between tags with the id of the clip, in order of time.{cut}",
            f"\n{keyed_question(question, options)}",
            "",
            *clips,
            f"{leave}\nReply with the id of one clip: <clip>ID</clip>",
        ]
    )


def keyed_question(question: str, options: Sequence[str]) -> str:
    """The question, and below it a line per option with its key: `a0: text`."""
    lines = [f"{option_key(place)}: {option}" for place, option in enumerate(options)]
    return "\n".join([f"Question: {question}", *lines])


def parse_clip(text: str, clips: Sequence[str]) -> Located:
    """Read the clip that a reply names: in the last <clip> tag, else anywhere outside the thoughts.

    Case does not matter, and the end of an id suffices where it fits one clip (`seg01_clip_01`). Two clips are none.
    """
    visible = without_thoughts(text)
    tags = _CLIP.findall(visible)
    content = tags[-1] if tags else visible
    if not content.strip():
        return Located(None, EMPTY)
    by_name = {name.lower(): place for place, name in enumerate(clips)}
    names = [name.lower().strip("-") for name in _NAME.findall(content)]
    places = {place for name in names if (place := _place(name, by_name)) is not None}
    if len(places) == 1:
        return Located(places.pop())
    return Located(None, UNKNOWN if not places else "several clips", content.strip()[:200])


def _place(name: str, by_name: Mapping[str, int]) -> int | None:
    if name in by_name:
        return by_name[name]
    if "clip" not in name:
        return None
    fitting = [place for clip, place in by_name.items() if clip.endswith(f"_{name}")]
    return fitting[0] if len(fitting) == 1 else None
