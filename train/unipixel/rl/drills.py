"""Drills: short contexts with look-ups behind them, by which a tiny master learns to read and to copy.

Half of the drills have eight look-ups (a word of the context, and the word that belongs to it), drawn with replacement,
because facts that occur once each can be derived by elimination. The other half have four complete turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from evqa.datasets.shapes.text_episodes import ATTRIBUTES, ITEMS, NUM_OPTIONS, OBJECTS, PLACES, TextClip, TextEpisode
from evqa.parsing.option_keys import option_key
from unipixel.rl import tiny_master, traces

NUM_LOOKUPS, NUM_TURNS = 8, 4


class TokenRow(NamedTuple):
    """Token ids of a training text, and which of them are targets."""

    ids: list[int]
    is_target: list[bool]


class _Context(NamedTuple):
    """Context of a drill."""

    clip: TextClip
    options: tuple[str, ...]
    values: dict[str, str]
    """Attribute -> value of the object that was looked at."""
    facts: tuple[tuple[str, str], ...]
    """(cue, value) of those values that are options."""
    texts: tuple[str, ...]
    """Options, clip and result of a look in words."""


def drill(rng: random.Random, episode: TextEpisode) -> TokenRow:
    """Return a drill about a clip of an episode."""
    context = _context(rng, episode)
    is_lookup = rng.random() < 0.5
    texts = rng.sample(context.texts, len(context.texts)) if is_lookup else context.texts
    opening = " ".join([tiny_master.USER, *texts, tiny_master.END, tiny_master.ASSISTANT])
    parts = [(opening, frozenset[int]())]
    make: Callable[[random.Random, _Context], tuple[str, frozenset[int]]] = _lookup if is_lookup else _turn
    parts += [make(rng, context) for _ in range(NUM_LOOKUPS if is_lookup else NUM_TURNS)]
    return _row(parts)


def _context(rng: random.Random, episode: TextEpisode) -> _Context:
    clip = rng.choice(episode.clips)
    name, values = rng.choice(list(clip.objects.items()))
    attribute = rng.choice(list(ATTRIBUTES))
    is_dialogue = rng.random() < 0.5
    facts = [(line.item, line.place) for line in clip.lines] if is_dialogue else [(attribute, values[attribute])]
    pool = PLACES if is_dialogue else ATTRIBUTES[attribute]
    options = list(dict.fromkeys([*(value for _, value in facts), *rng.sample(pool, len(pool))]))[:NUM_OPTIONS]
    rng.shuffle(options)
    description = " ".join([name, *(word for pair in values.items() for word in pair)])
    texts = (
        " ".join(f"{option_key(place)} {option}" for place, option in enumerate(options)),
        f"<clip> {' '.join(line.text for line in clip.lines)} </clip>",
        f"<information> {description} </information>",
    )
    return _Context(clip, tuple(options), values, tuple(facts), texts)


def _lookup(rng: random.Random, context: _Context) -> tuple[str, frozenset[int]]:
    """A look-up: its words, and the places of the targets among them."""
    kind = rng.choices(("place", "attribute", "key", "check"), (0.25, 0.20, 0.25, 0.30))[0]
    if kind == "check":
        item = _item(rng, context)
        return f"<reasoning> {item} {traces.check_word(item, context.clip.items)}", frozenset({2})
    if kind == "key":
        place = rng.randrange(NUM_OPTIONS)
        return f"{context.options[place]} {option_key(place)}", frozenset({1})
    pairs = (
        [(line.item, line.place) for line in context.clip.lines] if kind == "place" else list(context.values.items())
    )
    return " ".join(rng.choice(pairs)), frozenset({1})


def _turn(rng: random.Random, context: _Context) -> tuple[str, frozenset[int]]:
    """A complete turn; all but its decision and what it is asked about are targets."""
    item = _item(rng, context)
    check = traces.check_word(item, context.clip.items)
    kind = rng.choices(("answer", "look", "guess", "relocate"), (0.5, 0.2, 0.15, 0.15))[0]
    if kind == "answer":
        cue, value = rng.choice(context.facts)
        text = traces.answer(item, check, f"{cue} {value}", option_key(context.options.index(value)))
        free = {0, 1, 3}
    elif kind == "guess":
        text, free = traces.answer(item, check, "guess", option_key(rng.randrange(NUM_OPTIONS))), {0, 1, 3, 4}
    elif kind == "look":
        text, free = traces.look(item, check, rng.choice(OBJECTS)), {0, 1, 3, 4}
    else:
        text, free = traces.relocation(item, check), {0, 1, 3}
    words = f"{text} {tiny_master.END}"
    return words, frozenset(range(len(words.split()))) - free


def _item(rng: random.Random, context: _Context) -> str:
    """An item of the clip or one of all, with equal probability."""
    return rng.choice(context.clip.items if rng.random() < 0.5 else ITEMS)


def _row(parts: list[tuple[str, frozenset[int]]]) -> TokenRow:
    pairs = list(_marked_ids(parts))
    return TokenRow([number for number, _ in pairs], [is_target for _, is_target in pairs])


def _marked_ids(parts: list[tuple[str, frozenset[int]]]) -> Iterator[tuple[int, bool]]:
    for words, targets in parts:
        yield from ((number, place in targets) for place, number in enumerate(tiny_master.encode(words)))
