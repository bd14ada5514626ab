"""Error messages for unknown names, with the known names and near matches."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name_message(
    kind: str, name: str, names: Iterable[str], *, aliases: Iterable[str] = (), more: str = ""
) -> ValueError:
    """Return the error for an unknown name: all known names, then near matches.

    Args:
        kind: Kind of name that was expected, such as "data set".
        name: The unknown name.
        names: All known names.
        aliases: Alternative names that are accepted and suggested, but not listed.
        more: Text about further accepted values, after the list.
    """
    listed_names = list(names)
    question = did_you_mean(name, [*listed_names, *aliases])
    return ValueError(f"unknown {kind} {name!r}; the {kind}s are: {', '.join(listed_names)}{more}{question}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message: "; did you mean A or B?"; "" = no name is near."""
    near = near_matches(name, names)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def near_matches(name: str, names: Iterable[str], *, at_most: int = 3) -> list[str]:
    """Return the names that resemble a name, the nearest first; case, and `_` or a space for `-`, are ignored.

    Of `ORGANISATION/NAME` the part NAME is compared too.
    """
    plain = {_plain(candidate): candidate for candidate in names}
    tries = [_plain(name)] + ([_plain(name).rpartition("/")[2]] if "/" in name else [])
    near = [plain[candidate] for text in tries for candidate in get_close_matches(text, plain, n=at_most, cutoff=0.6)]
    return list(dict.fromkeys(near))[:at_most]


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")
