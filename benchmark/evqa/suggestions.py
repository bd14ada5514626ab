"""Messages for names that are in no table."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name_message(
    kind: str, name: str, known: Iterable[str], *, aliases: Iterable[str] = (), more: str = ""
) -> ValueError:
    """The error for a name that is unknown: all known names, then near matches.

    Args:
        kind: What it should be the name of, such as "data set".
        name: What was given.
        known: All names.
        aliases: Other names that are understood, and suggested where one is near, but not listed.
        more: What else could have been given.
    """
    names = list(known)
    question = did_you_mean(name, [*names, *aliases])
    return ValueError(f"unknown {kind} {name!r}; the {kind}s are: {', '.join(names)}{more}{question}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean A or B?"; "" where no known name is near."""
    near = near_matches(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def near_matches(name: str, known: Iterable[str], *, at_most: int = 3) -> list[str]:
    """Known names that resemble one, the nearest first; case, and `_` or a space for `-`, make no difference.

    Of `ORGANISATION/NAME` the name alone may resemble one too.
    """
    plain = {_plain(one): one for one in known}
    tries = [_plain(name)] + ([_plain(name).rpartition("/")[2]] if "/" in name else [])
    near = [plain[one] for text in tries for one in get_close_matches(text, plain, n=at_most, cutoff=0.6)]
    return list(dict.fromkeys(near))[:at_most]


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")
