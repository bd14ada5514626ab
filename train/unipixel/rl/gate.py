"""Gate between warm start and reinforcement learning: what a master has to do before reward can teach it decisions.

Reinforcement learning does not repair a wrong check word, and a master that cannot read the evidence is never rewarded
for having looked. Both are measured in episodes that the master plays by itself, per kind of question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evqa.parsing.action_tags import last_answer
from evqa.schema import Prediction, Sample, Turn
from unipixel.rl import traces
from unipixel.rl.rewards import agent_turns, is_in_grammar
from unipixel.rl.rollout import Rollout

MIN_READING = 0.80
"""Least share of right answers where the evidence is in the context."""

MIN_CHECK = 0.95
"""Least share of right check words, per kind of question."""

MIN_GRAMMAR = 0.90
"""Least share of turns in the grammar."""

_CLIP = re.compile(r"<clip>(.*?)</clip>", re.DOTALL)
_CHECK = re.compile(r"\s*<reasoning>\s*(\w+)\s+(\w+)")


class GateError(ValueError):
    """A master does not pass the gate."""


class Rate(NamedTuple):
    """Share of right cases."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN without cases."""
        return self.right / self.total if self.total else float("nan")

    def __str__(self) -> str:
        """As `0.93 (28/30)`."""
        return f"{self.value:.2f} ({self.right}/{self.total})"


@dataclass(frozen=True)
class GateReport:
    """What a master does in episodes that it plays."""

    check: Mapping[str, Rate]
    """Kind of question -> right check words, of all turns."""
    reading: Rate
    """Right answers where the evidence is in the context."""
    grammar: Rate
    """Turns in the grammar."""

    def problems(self) -> list[str]:
        """Why the master does not pass; [] = it passes."""
        checks = [
            f"check word of {kind} {rate}, expected at least {MIN_CHECK}"
            for kind, rate in self.check.items()
            if not rate.value >= MIN_CHECK
        ]
        further = [("reading", self.reading, MIN_READING), ("grammar", self.grammar, MIN_GRAMMAR)]
        failures = [
            f"{name} {rate}, expected at least {least}" for name, rate, least in further if not rate.value >= least
        ]
        return [*checks, *failures]

    def __str__(self) -> str:
        """One line."""
        checks = ", ".join(f"{kind} {rate.value:.2f}" for kind, rate in self.check.items())
        return f"grammar {self.grammar.value:.2f}, check word {checks}, reading {self.reading}"

    def require(self) -> None:
        """Raise a `GateError` if the master does not pass."""
        if problems := self.problems():
            raise GateError(
                f"the warm start does not pass the gate: {'; '.join(problems)}. Train it longer (--trace-steps) or "
                "from another seed: reinforcement learning does not repair it"
            )


def measure(rollouts: Sequence[Rollout]) -> GateReport:
    """Measure sampled rollouts of a master on text episodes."""
    checks: dict[str, list[bool]] = {}
    reading: list[bool] = []
    grammar: list[bool] = []
    for rollout in rollouts:
        sample, prediction = rollout.sample, rollout.prediction
        turns = agent_turns(prediction)
        grammar += [is_in_grammar(turn.reply) for turn in turns]
        checks.setdefault(sample.question_type or "", []).extend(check_words(sample, turns))
        if turns and last_answer(turns[-1].reply) is not None and has_evidence(sample, prediction):
            reading.append(prediction.answer == sample.answer)
    return GateReport(
        {kind: Rate(sum(values), len(values)) for kind, values in sorted(checks.items())},
        Rate(sum(reading), len(reading)),
        Rate(sum(grammar), len(grammar)),
    )


def check_words(sample: Sample, turns: Sequence[Turn]) -> Iterator[bool]:
    """Yield for each turn of the master whether it names the item of the question and its check word is right."""
    item, clip = item_of(sample), ""
    for turn in turns:
        clip = next(reversed(_CLIP.findall(turn.prompt)), clip)
        match = _CHECK.match(turn.reply)
        yield match is not None and match.groups() == (item, traces.check_word(item, tuple(clip.split())))


def item_of(sample: Sample) -> str:
    """Return the item that a question of the text episodes is about: its last word."""
    return sample.question.rstrip(" ?").rpartition(" ")[2]


def has_evidence(sample: Sample, prediction: Prediction) -> bool:
    """Whether the context had the evidence when the master answered: its clip, and for visual questions the look."""
    clip = ""
    for turn in agent_turns(prediction):
        clip = next(reversed(_CLIP.findall(turn.prompt)), clip)
        if item_of(sample) not in clip.split():
            continue
        if not (sample.question_type or "").startswith("visual") or any(
            result.ok and _shows_answer(sample, result.text) for result in turn.results
        ):
            return True
    return False


def _shows_answer(sample: Sample, text: str) -> bool:
    """Whether the result of a look is about the object and attribute of a question: `what ATTRIBUTE is the OBJECT`."""
    words = sample.question.split()
    description = text.split()
    return description[:1] == words[4:5] and words[1] in description
