"""Subtitle files of text: decoding, the cues of SubRip, WebVTT and SubStation Alpha, and text without markup.

Times and texts are read here and not by a library: pysubs2 1.8 takes a malformed time line, the name of a WebVTT cue
and its comments for words that are spoken, and names no line. `test_subtitles.py` compares with it on regular files.
"""

from __future__ import annotations

import codecs
import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 2**25
"""Most bytes of a file; fonts inside a SubStation Alpha file take the most."""

NAMED_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark -> encoding; a mark that starts with another one stands before it."""

FALLBACK_ENCODING = "cp1252"


class Cue(NamedTuple):
    """A line of subtitles as its file has it; nothing is checked."""

    place: str
    """Where it stands: `line 12` of a text file, the key of a JSON file."""
    start: float
    """In seconds."""
    end: float
    text: str
    """With markup and line breaks."""
    speaker: str | None = None


class NumberedLine(NamedTuple):
    """A line of a file."""

    number: int
    """1-based."""
    text: str


# Decoding


def decoded(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (text, warnings) of a file's bytes: by its byte order mark, else UTF-8, UTF-16, or Windows-1252.

    Raises:
        ValueError: The bytes are no text.
    """
    for mark, encoding in NAMED_ENCODINGS:
        if content.startswith(mark):
            return _strict(path, content[len(mark) :], encoding), ()
    if encoding := _utf16_without_mark(content[:4096]):
        return _strict(path, content, encoding), ()
    if b"\0" in content:
        raise ValueError(f"{path} is no text: it has a byte 0; expected a file of subtitles")
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        warning = f"line {line} is not UTF-8: the file is read as Windows-1252; convert it to UTF-8 if words look wrong"
        return content.decode(FALLBACK_ENCODING, "replace"), (warning,)


def _strict(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no {encoding} ({error.reason}, byte {error.start}): save it as UTF-8") from error


def _utf16_without_mark(start: bytes) -> str | None:
    """Return the byte order of UTF-16 without a mark, by the zeros of its ASCII characters; None = something else."""
    pairs = len(start) // 2
    high, low = start[1 : 2 * pairs : 2].count(0), start[0 : 2 * pairs : 2].count(0)
    if pairs < 4 or max(high, low) < 0.4 * pairs or min(high, low) > 0:
        return None
    return "utf-16-le" if high else "utf-16-be"


# Text

_BREAK = re.compile(r"<\s*br\s*/?\s*>|\\[Nnh]", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_JOINERS = frozenset("\u200c\u200d")
"""Invisible characters that scripts need."""


def plain(text: str) -> str:
    """Return text in one line without tags, entities, control and invisible formatting characters."""
    words = " ".join(html.unescape(_TAG.sub("", _BREAK.sub(" ", text))).split())
    return words if words.isprintable() else " ".join("".join(map(_printable, words)).split())


def _printable(character: str) -> str:
    """Return a character; a space for one that separates, nothing for one that is not printed."""
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if unicodedata.category(character).startswith("Z") else ""


# Formats

_CLOCK = r"(-?)(?:(\d{1,6}):)?(\d{1,3}):(\d{1,3})(?:[.,](\d{1,9}))?"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?", re.ASCII)
_ARROW = "-->"


def cues(path: Path, text: str) -> Iterator[Cue]:
    """Yield the cues of a file in its order.

    An empty file has none, as tools for speech recognition write of a silent video.

    Raises:
        ValueError: The file is in none of the formats, or has a cue whose times cannot be read, with its line.
    """
    lines = [NumberedLine(number, line) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)]
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return
    if first.text.lstrip("\ufeff").startswith("WEBVTT"):
        yield from _vtt_cues(path, lines)
    elif first.text.lstrip().startswith("[") or path.suffix.lower() in {".ass", ".ssa"}:
        yield from _substation_cues(path, lines)
    else:
        yield from _srt_cues(path, lines)


def _times(path: Path, line: NumberedLine) -> tuple[float, float]:
    """Return (start, end) in seconds of a line with an arrow."""
    match = _TIMES.fullmatch(line.text)
    if match is None:
        raise ValueError(
            f"{path}, line {line.number}: expected times such as 00:01:02,500 --> 00:01:04,000, "
            f"got {line.text.strip()[:80]!r}"
        )
    groups = match.groups()
    return _seconds(groups[:5]), _seconds(groups[5:])


def _seconds(clock: Sequence[str | None]) -> float:
    """Return the seconds of (sign, hours, minutes, seconds, fraction)."""
    sign, hours, minutes, seconds, fraction = clock
    whole = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0)
    value = float(f"{whole}.{fraction or 0}")
    return -value if sign else value


# SubRip

_TVQA_SPEAKER = re.compile(r"\s*\(([^():]{1,60}):\)(.*)", re.DOTALL)


def _srt_cues(path: Path, lines: Sequence[NumberedLine]) -> Iterator[Cue]:
    """Yield the cues of SubRip: a number, a line of times, lines of text, which may contain blank ones."""
    heads = [place for place in range(len(lines)) if _is_srt_head(lines, place)]
    if not heads:
        first = next(line for line in lines if line.text.strip())
        raise ValueError(
            f"{path}, line {first.number}: expected SubRip, WebVTT or SubStation Alpha subtitles, "
            f"got {first.text.strip()[:80]!r}"
        )
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        start, end = _times(path, lines[head])
        body = [line.text for line in lines[head + 1 : following]]
        if following is not None and body and body[-1].strip().isdecimal():
            body.pop()  # the number of the following cue
        text = "\n".join(body)
        match = _TVQA_SPEAKER.fullmatch(text)
        speaker, words = match.groups() if match else (None, text)
        yield Cue(f"line {lines[head].number}", start, end, words, speaker)


def _is_srt_head(lines: Sequence[NumberedLine], place: int) -> bool:
    """Whether a line is the line of times of a cue: it has times, or an arrow where they are expected."""
    text = lines[place].text
    if _ARROW not in text:
        return False
    before = lines[place - 1].text.strip() if place else ""
    before_number = lines[place - 2].text.strip() if place > 1 else ""
    is_expected = not before or (before.isdecimal() and not before_number)
    return is_expected or _TIMES.fullmatch(text) is not None


# WebVTT

_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,100})?\s([^<>]{1,100})>")
_WORD_TIME = re.compile(r"<(?:\d{1,6}:)?\d{1,3}:\d{1,3}\.\d{1,9}>", re.ASCII)
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


def _vtt_cues(path: Path, lines: Sequence[NumberedLine]) -> Iterator[Cue]:
    """Yield the cues of WebVTT: what follows a line of times up to a blank line; notes and styles are left out.

    Captions that scroll repeat the line above, as YouTube's automatic ones do, where each word has its time. There the
    first line of a cue is dropped that the cue before ended with.
    """
    is_scrolling = any(_WORD_TIME.search(line.text) for line in lines)
    previous = ""
    for block in _blocks(lines):
        if _NO_CUE.match(block[0].text):
            continue
        for head, body in _vtt_bodies(block):
            start, end = _times(path, head)
            texts = [line.text for line in body]
            if is_scrolling:
                words = [text for line in texts if (text := plain(line))]
                texts = words[1:] if words and words[0] == previous else words
                previous = words[-1] if words else previous
            yield from _voices(Cue(f"line {head.number}", start, end, "\n".join(texts)))


def _vtt_bodies(block: Sequence[NumberedLine]) -> Iterator[tuple[NumberedLine, Sequence[NumberedLine]]]:
    """Yield (line of times, lines of text) of the cues of a block; those of a cue may follow without a blank line."""
    heads = [
        place
        for place, line in enumerate(block)
        if _ARROW in line.text and (place < 2 or _TIMES.fullmatch(line.text) is not None)
    ]
    for head, following in zip(heads, [*heads[1:], None], strict=False):
        yield block[head], block[head + 1 : following]


def _voices(cue: Cue) -> Iterator[Cue]:
    """Yield a cue per `<v SPEAKER>` of a cue of WebVTT."""
    before, *rest = _VOICE.split(cue.text)
    if before.strip() or not rest:
        yield cue._replace(text=before)
    for speaker, text in zip(rest[::2], rest[1::2], strict=True):
        yield cue._replace(text=text, speaker=speaker)


def _blocks(lines: Sequence[NumberedLine]) -> Iterator[list[NumberedLine]]:
    """Yield the groups of lines between empty lines; a line with a space belongs to its cue."""
    block: list[NumberedLine] = []
    for line in lines:
        if line.text:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


# SubStation Alpha

_DEFAULT_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_OVERRIDE = re.compile(r"\{([^{}]*)\}")
_DRAWING = re.compile(r"\\p(\d)", re.ASCII)
_SUBSTATION_TIME = re.compile(_CLOCK, re.ASCII)


def _substation_cues(path: Path, lines: Sequence[NumberedLine]) -> Iterator[Cue]:
    """Yield the dialogue of SubStation Alpha, whose line `Format:` names the fields; comments are left out."""
    fields, is_in_events, has_events = _DEFAULT_FIELDS, False, False
    for line in lines:
        text = line.text.strip().lstrip("\ufeff")
        if text.startswith("[") and text.endswith("]"):
            is_in_events = text.lower() == "[events]"
            has_events = has_events or is_in_events
        elif is_in_events:
            kind, _, content = text.partition(":")
            if kind == "Format":
                fields = tuple(name.strip().lower() for name in content.split(","))
                _check_fields(path, line, fields)
            elif kind == "Dialogue":
                yield _dialogue(path, line, fields, content)
    if not has_events:
        raise ValueError(f"{path} has no section [Events]; expected SubStation Alpha subtitles")


def _check_fields(path: Path, line: NumberedLine, fields: Sequence[str]) -> None:
    missing = [name for name in ("start", "end", "text") if name not in fields]
    if missing or fields[-1] != "text":
        raise ValueError(
            f"{path}, line {line.number}: expected fields with Start and End, Text last; got {list(fields)}"
        )


def _dialogue(path: Path, line: NumberedLine, fields: Sequence[str], content: str) -> Cue:
    values = content.strip().split(",", len(fields) - 1)
    if len(values) < len(fields):
        raise ValueError(f"{path}, line {line.number}: expected {len(fields)} fields, got {len(values)}")
    entry: Mapping[str, str] = dict(zip(fields, values, strict=True))
    times = [_SUBSTATION_TIME.fullmatch(entry[name].strip()) for name in ("start", "end")]
    if times[0] is None or times[1] is None:
        got = [entry["start"][:40], entry["end"][:40]]
        raise ValueError(f"{path}, line {line.number}: expected times such as 0:01:02.50, got {got}")
    start, end = (_seconds(match.groups()) for match in times if match)
    return Cue(f"line {line.number}", start, end, _words(entry["text"]), entry.get("name", "").strip() or None)


def _words(text: str) -> str:
    """Return the text of a dialogue without overrides `{...}` and without the drawings that `\\p1` starts."""
    words, *rest = _OVERRIDE.split(text)
    is_drawing = False
    for overrides, following in zip(rest[::2], rest[1::2], strict=True):
        for scale in _DRAWING.findall(overrides):
            is_drawing = scale != "0"
        words += "" if is_drawing else following
    return words
