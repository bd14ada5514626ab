"""Earlier names of commands and options, which still work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

OLD_COMMANDS = {"score-file": "score-official"}
"""Earlier name of a command -> its name. Both work; only the second is shown."""

OLD_OPTIONS = {
    "--with": "--segmenter",
    "--only": "--sample-ids",
    "--no-times": "--no-timestamps",
    "--restart": "--overwrite",
    "--tries": "--max-retries",
    "--every": "--frame-stride",
    "--max-side": "--max-size",
    "--side": "--image-size",
    "--mask-margin": "--mask-temporal-margin",
    "--one-pass": "--direct-prompts",
}
"""Earlier name of an option -> its name. Both work; only the second is shown.

`--tries N` counted the first request too: it is `--max-retries N-1`.
"""

NEW_MEANINGS = {("replay", "--with"), ("ground", "--with")}
"""(command, option) whose name is an earlier name elsewhere, and no earlier name there."""


def rename_old_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with today's names of commands and options."""
    if not arguments:
        return []
    command, *words = arguments
    return [OLD_COMMANDS.get(command, command), *_rename_options(command, iter(words))]


def _rename_options(command: str, words: Iterator[str]) -> Iterator[str]:
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name not in OLD_OPTIONS or (command, name) in NEW_MEANINGS:
            yield word
        elif name == "--tries":
            yield OLD_OPTIONS[name]
            tries = value if equals else next(words, "")
            yield str(int(tries) - 1) if tries.isdecimal() else tries
        else:
            yield f"{OLD_OPTIONS[name]}{equals}{value}"
