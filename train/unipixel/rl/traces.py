"""Scripted traces of the text episodes: what a tiny master is taught before reinforcement learning.

A teacher plays episodes in the loop of evaluation. The kind of each action is drawn at random, whatever the question
needs; only the form of an action, its argument, and what it states about the context are right. So a model learns to
write actions, to check whether the current clip mentions the item of the question (`in`, `not`), and to read an answer
from the context, and nothing about when to use which action.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from evqa.agents.bm25_model import Bm25Model
from evqa.agents.clip_texts import TextLooker
from evqa.agents.episode_clips import EpisodeClips
from evqa.agents.episode_prompts import STYLES
from evqa.agents.episode_tools import EpisodeTools
from evqa.agents.grounding import CachedGrounder, ModelGrounder
from evqa.agents.grounding_cache import GroundingCache
from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.agents.transcript import Transcript
from evqa.datasets.shapes.text_episodes import OBJECTS, TextEpisode, TextQuestion
from evqa.methods.episodes import start_with_tools
from evqa.models.chat_tokens import ChatTokenizer, TokenizedChat
from evqa.models.text_model import GeneratedIds, TextModel
from evqa.parsing.option_keys import option_key
from evqa.schema import ClipRef, Sample
from unipixel.rl import rollout

IN, NOT = "in", "not"
"""Check words: whether the current clip mentions the item of the question."""

SETTINGS = AgentSettings(episode=EpisodeSettings(prompts="compact"))
"""Settings of the method `episode` for a tiny master."""

CLIP_SECONDS = 90.0

MAX_TOKENS = 10_000
"""Limit of a conversation of the teacher, far above its length: no trace is cut off."""


@dataclass(frozen=True)
class Habits:
    """Probabilities of the kinds of actions of the teacher."""

    look: float = 0.30
    relocate: float = 0.25
    answer: float = 0.45
    right_object: float = 0.9
    """Of looking at the object of the question, where it has one."""


def check_word(item: str, clip_items: tuple[str, ...]) -> str:
    """Return the check word for an item and the items of a clip."""
    return IN if item in clip_items else NOT


def relocation(item: str, check: str) -> str:
    """Return the turn that asks for another clip."""
    return f"<reasoning> {item} {check} find </reasoning> <request_grounding/>"


def look(item: str, check: str, target: str) -> str:
    """Return the turn that looks at an object."""
    return f"<reasoning> {item} {check} look {target} </reasoning> <visual_query> {target} </visual_query>"


def answer(item: str, check: str, evidence: str, key: str) -> str:
    """Return the turn that answers; `evidence`: the cue and the value behind it, or `guess`."""
    return f"<reasoning> {item} {check} {evidence} {key} </reasoning> <answer> {key} </answer>"


def sample_of(episode: TextEpisode, question: TextQuestion) -> Sample:
    """Return the sample of a question, as the written data set has it."""
    name = f"text_s00e{episode.seed:07d}"
    clips = tuple(
        ClipRef(
            id=f"{name}_seg01_clip_{place:02d}",
            path=Path("frames"),
            start=CLIP_SECONDS * place,
            duration=CLIP_SECONDS,
        )
        for place in range(len(episode.clips))
    )
    return Sample(
        id=f"{episode.seed}-{question.kind}",
        video_id=name,
        video=Path("videos", f"{name}.mp4"),
        clips=clips,
        question=question.text,
        options=question.options,
        answer=question.answer,
        evidence_clips=(clips[question.clip].id,),
        question_type=question.kind,
    )


def tools_of(episode: TextEpisode, question: TextQuestion, transcript: Transcript) -> EpisodeTools:
    """Return the tools over an episode in memory."""
    sample = transcript.sample
    texts = tuple("\n".join(line.text for line in clip.lines) for clip in episode.clips)
    descriptions = {ref.id: clip.descriptions for ref, clip in zip(sample.clips, episode.clips, strict=True)}
    cache = GroundingCache("start", by_id={sample.id: sample.clips[question.start].id})
    return EpisodeTools(
        episode=EpisodeClips(sample, texts),
        transcript=transcript,
        grounder=CachedGrounder(cache, transcript, sample, ModelGrounder(_GROUNDER, transcript)),
        looker=TextLooker(descriptions, transcript),
        style=STYLES["compact"],
    )


def trace(
    chat: ChatTokenizer, episode: TextEpisode, question: TextQuestion, rng: random.Random, habits: Habits = Habits()
) -> TokenizedChat:
    """Play a question and return its token ids; those of the teacher are marked as generated."""
    transcript = Transcript(sample_of(episode, question))
    tools = tools_of(episode, question, transcript)
    teacher = _Teacher(episode, question, tools, rng, habits)
    model = TextModel(
        name="teacher",
        chat=chat,
        generate_ids=lambda prompts: [
            GeneratedIds(
                [*chat.tokenizer(teacher.turn(), add_special_tokens=False)["input_ids"], chat.tokenizer.eos_token_id]
            )
            for _ in prompts
        ],
        max_tokens=MAX_TOKENS,
        max_reply_tokens=0,
        identity={},
    )
    (played,) = rollout.play(model, lambda *_: start_with_tools(model, tools, SETTINGS), [transcript.sample], [0])
    assert played.prediction.status == "ok", played.prediction.error
    return played.tokens


class _Teacher:
    """Writes turns; it knows the question, and what of the evidence is in the context."""

    def __init__(
        self, episode: TextEpisode, question: TextQuestion, tools: EpisodeTools, rng: random.Random, habits: Habits
    ) -> None:
        self._episode, self._question, self._tools = episode, question, tools
        self._rng, self._habits = rng, habits
        self._has_looked = False
        self._num_turns = 0

    def turn(self) -> str:
        """The next turn; the last one that the settings allow is an answer."""
        question, habits = self._question, self._habits
        self._num_turns += 1
        must_answer = self._num_turns == SETTINGS.episode.episode_turns
        place = self._tools.place
        assert place is not None
        check = check_word(question.item, self._episode.clips[place].items)
        weights = (habits.look, habits.relocate, habits.answer)
        kind = "answer" if must_answer else self._rng.choices(("look", "relocate", "answer"), weights)[0]
        if kind == "relocate":
            return relocation(question.item, check)
        if kind == "look":
            target = self._target()
            self._has_looked |= target == question.target and place == question.clip
            return look(question.item, check, target)
        if self._has_evidence():
            value = question.options[question.answer]
            return answer(question.item, check, f"{question.cue} {value}", option_key(question.answer))
        return answer(question.item, check, "guess", option_key(self._rng.randrange(len(question.options))))

    def _target(self) -> str:
        is_right = self._question.target is not None and self._rng.random() < self._habits.right_object
        return self._question.target if is_right and self._question.target else self._rng.choice(OBJECTS)

    def _has_evidence(self) -> bool:
        return self._has_looked if self._question.target else self._question.clip in self._tools.visited


_GROUNDER = Bm25Model()
