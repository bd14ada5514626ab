"""Edit distance of texts, and the text among several that is nearest to all of them."""

from __future__ import annotations

from collections.abc import Sequence


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of characters that turn one text into the other.

    Bit-parallel (Myers 1999, Hyyrö 2003): a row of the table is one integer, so that texts of a few thousand
    characters take milliseconds.
    """
    if not first or not second:
        return len(first) + len(second)
    last = 1 << (len(first) - 1)
    places: dict[str, int] = {}
    for place, character in enumerate(first):
        places[character] = places.get(character, 0) | (1 << place)
    full = (1 << len(first)) - 1
    rises, falls, distance = full, 0, len(first)
    for character in second:
        equal = places.get(character, 0)
        vertical = equal | falls
        horizontal = ((((equal & rises) + rises) ^ rises) | equal) & full
        up, down = (falls | ~(horizontal | rises)) & full, rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up, down = ((up << 1) | 1) & full, (down << 1) & full
        rises, falls = (down | ~(vertical | up)) & full, up & vertical
    return distance


def consensus(texts: Sequence[str]) -> str | None:
    """The text with the least sum of edit distances to the others, the first of equals; None without texts."""
    if not texts:
        return None
    sums = [sum(edit_distance(text, text_2) for text_2 in texts) for text in texts]
    return texts[sums.index(min(sums))]
