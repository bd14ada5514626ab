"""Plain text of a reply, as rendered for a reader: without thoughts, markers, markup and tables.

Pure functions from string to string, in time linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence


def _letterlike() -> Iterator[tuple[int, str]]:
    """Full-width, mathematical, circled and squared letters and digits, with their plain form."""
    for code in (*range(0xFF01, 0xFF5F), *range(0x1D400, 0x1D800), *range(0x24B6, 0x24EA)):
        plain_form = unicodedata.normalize("NFKC", chr(code))
        if len(plain_form) == 1:
            yield code, plain_form
    for first in (0x1F110, 0x1F130, 0x1F150, 0x1F170):
        for offset in range(26):
            yield first + offset, chr(ord("A") + offset)


_PLAIN = dict(_letterlike()) | str.maketrans(
    {
        **dict.fromkeys("\u3002\u0964", "\n"),
        **dict.fromkeys("\u3001\u060c", ","),
        **dict.fromkeys("\u061f", "?"),
        **dict.fromkeys("\u2010\u2011", "-"),
        **dict.fromkeys("\u301c\u223c\u02dc", "~"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f\u300a\u300b", '"'),
        **dict.fromkeys("\u2018\u2019", "'"),
        **dict.fromkeys("\u3010\u3014\u3016", "["),
        **dict.fromkeys("\u3011\u3015\u3017", "]"),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\ufe0f\u00a0\u202f\u2007\u3000\u2009", " "),
    }
)


def plain(text: str) -> str:
    """Text with ASCII forms of other scripts' letters, digits and punctuation; each index keeps its meaning."""
    return text.translate(_PLAIN)


# Thoughts

_THOUGHT = re.compile(
    r"""(?:<|\u25c1)(/?)(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|rationale|analysis|reflection|scratchpad|
            explanation|cot)(?:>|\u25b7)
        | <\|(begin|end)_of_thought\|>
        | \[(/?)THINK\]""",
    re.VERBOSE | re.IGNORECASE,
)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s?final\s?<\|message\|>")
_CHANNEL = re.compile(r"<\|channel\|>\s?(?:analysis|commentary)")


def without_thoughts(text: str) -> str:
    """Reply without blocks of reasoning; a block that never ends is removed up to the end of the text.

    If only the end of a block is present, its start was part of the prompt.
    """
    parts: list[str] = []
    is_thought, start = False, 0
    for match in _THOUGHT.finditer(text):
        is_end = "/" in (match[1], match[3]) or match[2] == "end"
        if is_end and not is_thought:
            parts.clear()
        elif not is_end and not is_thought:
            parts.append(text[start : match.start()])
        is_thought, start = not is_end, match.end()
    if not is_thought:
        parts.append(text[start:])
    answer = "\n".join(parts)
    finals = [match.end() for match in _FINAL_CHANNEL.finditer(answer)]
    if finals:
        return answer[finals[-1] :]
    return _CHANNEL.split(answer, maxsplit=1)[0]


# Markers, markup

_BOX_START = re.compile(r"<\|begin_of_box\|>|\[BOX\]")
_BOX_END = re.compile(r"<\|end_of_box\|>|\[/BOX\]")
_COORDINATES = re.compile(r"<\|(box|quad|point)_start\|>[^<>]{0,300}<\|\1_end\|>")
"""Coordinates in an image, in a model's special tokens."""
_MARKER = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</s>|<s>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn)>|\[/?INST\]"
    r"|```(?:json5?|python|text|txt|xml|html|markdown|md|yaml|plaintext|latex)?",
    re.IGNORECASE,
)
_STRIKETHROUGH = re.compile(
    r"~~(?=\S)[^~\n]{1,300}~~|<(del|strike)>[^<>]{0,300}</\1>|\\(?:sout|cancel|st|xcancel)\{[^{}\n]{0,300}\}"
    r"|(?:[^\s\u0336]\u0336[ \u0336]{0,2})+",
    re.IGNORECASE,
)
_S_TAG = re.compile(r"<s>[^<>]{1,300}</s>", re.IGNORECASE)


def without_markers(text: str) -> str:
    """Text without a model's special tokens and struck-through parts; a marked answer becomes an `<answer>` tag."""
    text = _COORDINATES.sub(" ", text)
    with_answer_tags = _BOX_END.sub("</answer>", _BOX_START.sub("<answer>", text))
    without_s_tags = _S_TAG.sub(" ", with_answer_tags)
    return _MARKER.sub(_ending, _STRIKETHROUGH.sub(" ", without_s_tags if without_s_tags.strip() else with_answer_tags))


def _ending(match: re.Match[str]) -> str:
    return "\n" if match[0].startswith("```") else ""


_TEX_TEXT = re.compile(r"\\(?:text|math)(?:bf|rm|it|tt|sf|normal)?\{([^{}\n]{0,300})\}")
_TEX_BOX = re.compile(r"\\(?:fbox|framebox|fcolorbox)\{")
_TEX_SIGNS = re.compile(r"\\[()\[\]]|\$+(?!\d)|\\[ ,;!]")
_HTML = re.compile(r"<(b|strong|i|em|u|ins|mark|p|span|div|li|code|center|h[1-6])>([^<>]{0,500})</\1>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s?/?>", re.IGNORECASE)
_LAST_LINE = re.compile(r"^[ \t]*####[ \t]*(?=\(?[A-Za-z][).:]{0,2}[ \t]*$)", re.MULTILINE)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?)+", re.MULTILINE)
_EMPHASIS = re.compile(r"[*`]|__")
_UNDERSCORES = re.compile(r"(?<![A-Za-z0-9_])_([^_\n]{1,200})_(?![A-Za-z0-9_])")


def without_markup(text: str) -> str:
    """Text without emphasis, heading and quotation marks, TeX commands, and HTML tags around words."""
    result = _TEX_SIGNS.sub(" ", _TEX_BOX.sub(r"\\boxed{", _TEX_TEXT.sub(r"\1", text)))
    result = _BREAK.sub("\n", _HTML.sub(r"\2", result))
    result = _UNDERSCORES.sub(r"\1", _EMPHASIS.sub("", result))
    return _LINE_MARK.sub("", _LAST_LINE.sub("Final answer: ", result))


# Tables

_RULE_CELL = re.compile(r"\s*:?-{1,}:?\s*")
_LETTER_CELL = re.compile(r"(?:[Oo]ption\s)?\(?([A-Z])(?:[).:].*)?")
_ANSWER_CELL = re.compile(
    r"(?:final |correct |best |chosen |selected |my )?(?:answer|choice|option)(?: letter)?|\u7b54\u6848", re.IGNORECASE
)
_TIME_CELL = re.compile(
    r"(?:temporal |time |evidence |key )*(?:evidence|segments?|spans?|intervals?|ranges?|timestamps?|times?)"
    r"(?:\s?\([^()]*\))?|\u65f6\u95f4\u6bb5?|\u7247\u6bb5",
    re.IGNORECASE,
)
_START_CELL = re.compile(r"(?:start|begin|from)(?:ning|ing)?(?:[ _]?time)?(?:\s?\([^()]*\))?", re.IGNORECASE)
_END_CELL = re.compile(r"(?:end|stop|to|finish)(?:ing)?(?:[ _]?time)?(?:\s?\([^()]*\))?", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_KEY_CELLS = (_ANSWER_CELL, _TIME_CELL, _START_CELL, _END_CELL)
_NUMBER_CELL = re.compile(r"[\d:.]+\s?(?:s|sec|seconds)?")


def without_tables(text: str) -> str:
    """Text with each Markdown table as lines `key: value`, `A) ...` or `Segments: ...`."""
    if "|" not in text:
        return text
    lines: list[str] = []
    rows: list[list[str]] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith("|") and stripped.count("|") > 1:
            rows.append([cell.strip(" *_`\"'") for cell in stripped.strip("|").split("|")])
            continue
        lines += _lines_of_table(rows)
        rows = []
        lines.append(line)
    return "\n".join(lines + _lines_of_table(rows))


def _lines_of_table(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    has_head = len(rows) > 1 and all(_RULE_CELL.fullmatch(cell) for cell in rows[1])
    head, body = (rows[0], rows[2:]) if has_head else ((), rows)
    is_keyed = [len(row) >= 2 and any(kind.fullmatch(row[0]) for kind in _KEY_CELLS) for row in body]
    if any(is_keyed) and not any(map(_is_letter, body)):
        return [f"{row[0]}: {', '.join(row[1:2])}" for row in body if len(row) > 1]
    return _columns(head, body) or [_row(head, row) for row in body]


def _is_letter(row: Sequence[str]) -> bool:
    return _LETTER_CELL.fullmatch(row[0]) is not None


def _columns(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines for the columns with a known heading."""
    columns = {
        name: next((column for column, cell in enumerate(head) if pattern.fullmatch(cell)), None)
        for name, pattern in (
            ("answer", _ANSWER_CELL),
            ("start", _START_CELL),
            ("end", _END_CELL),
        )
    }
    lines: list[str] = []
    answer, start, end = (columns[name] for name in ("answer", "start", "end"))
    rows = [row for row in body if len(row) >= len(head)]
    time_columns = [column for column, cell in enumerate(head) if _TIME_CELL.fullmatch(cell)]
    time = next((column for column in time_columns if all(len(_DIGITS.findall(row[column])) > 1 for row in rows)), None)
    if answer is not None and len(rows) == 1:
        lines.append(f"Answer: {rows[0][answer]}")
    if start is not None and end is not None:
        lines.append("Segments: " + ", ".join(f"[{row[start]}, {row[end]}]" for row in rows))
    elif time is not None:
        lines.append("Segments: " + "; ".join(row[time] for row in rows))
    return lines


def _row(head: Sequence[str], row: Sequence[str]) -> str:
    if _is_letter(row) and len(row) > 1:
        label = row[0] if len(row[0]) > 1 else f"{row[0]})"
        return f"{label} {' - '.join(row[1:])}"
    if len(row) == 2 and all(_NUMBER_CELL.fullmatch(cell) for cell in row):
        cells = [f"{key}: {cell}" for key, cell in zip(head, row, strict=False)]
        return ", ".join(cells or row)
    return "  ".join(row)


# Sentences

SENTENCE_STARTS = (
    r"(?:(?:The|This|These|There|It|They|He|She|We|In|At|On|As|Because|Since|My|Let|Please|Note|Hope|Thanks?|You|Actually|However|Also)\b"
    r"|I\s(?:hope|am|was|will|would|think|believe|can|could|cannot|have|had|did|do|looked|watched|see|saw)\b|An?\s[a-z]{2})"
)
"""Pattern of capitalized words that start a sentence."""
_SENTENCE_END = re.compile(
    rf"\n+|(?<=[.!?\u2026])[)\"']?\s+|(?<=\u2026)|(?<=[A-Za-z0-9\])}}>])(?<!ption)(?<!hoice)(?<!nswer)(?<!etter)\s{{1,3}}(?={SENTENCE_STARTS}|[\u4e00-\u9fff]{{3}})"
)
_LONE_LETTER = re.compile(r"[(\[]?[A-Z]\.")


def sentences(text: str, limit: int = 400) -> list[str]:
    """Lines and sentences of a text in order, stripped, the last `limit`.

    `B. The ball` is one sentence. A capitalized word starts a sentence even without a full stop before it: `blue ball
    The weather is nice`.
    """
    segments: list[str] = []
    is_lone = False
    end = 0
    for match in _SENTENCE_END.finditer(text):
        is_lone = _add(segments, text[end : match.start()], is_joined=is_lone) and "\n" not in match[0]
        end = match.end()
    _add(segments, text[end:], is_joined=is_lone)
    return segments[-limit:]


def _add(segments: list[str], sentence: str, *, is_joined: bool) -> bool:
    """Append a sentence and return whether it is a single letter, to which the rest of its line belongs."""
    stripped = sentence.strip()
    if not stripped:
        return False
    if is_joined and segments:
        segments[-1] = f"{segments[-1]} {stripped}"
        return False
    segments.append(stripped)
    return _LONE_LETTER.fullmatch(stripped) is not None
