"""Text on images: choice of a font with the characters of the text, and line breaking."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

CJK_FONTS = (
    "CJK",
    "SourceHanSans",
    "wqy",
    "DroidSansFallback",
    "uming",
    "ukai",
    "msyh",
    "simhei",
    "PingFang",
    "Unicode",
)
"""Parts of the file names of fonts with Chinese, Japanese and Korean characters, in order of preference."""


def load_font(text: str, size: int) -> FreeTypeFont:
    """Font of `size` pixels with the characters of `text`: DejaVu Sans, else an installed font with all characters.

    If no installed font has them, DejaVu Sans draws a box for each missing character.
    """
    return ImageFont.truetype(str(_font_file(frozenset(text))), size)


def wrap(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines of at most `width` pixels; its line breaks are kept, and too long words are divided."""
    return [line for paragraph in text.splitlines() for line in _wrap_paragraph(paragraph, font, width)]


def _wrap_paragraph(text: str, font: FreeTypeFont, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        candidate = f"{line} {word}" if line else word
        if font.getlength(candidate) <= width:
            line = candidate
            continue
        if line:
            yield line
        *full, line = _divide(word, font, width)
        yield from full
    yield line


def _divide(word: str, font: FreeTypeFont, width: float) -> list[str]:
    """Yield pieces of a word of at most `width` pixels, but at least one character."""
    pieces = [""]
    for character in word:
        if pieces[-1] and font.getlength(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


@lru_cache(maxsize=256)
def _font_file(characters: frozenset[str]) -> Path:
    default = _default_font()
    if _has_characters(default, characters):
        return default
    return next((file for file in _cjk_font_files() if _has_characters(file, characters)), default)


@lru_cache(maxsize=1)
def _default_font() -> Path:
    """Path of DejaVu Sans, part of matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@lru_cache(maxsize=1)
def _cjk_font_files() -> list[Path]:
    from matplotlib.font_manager import findSystemFonts  # pyright: ignore[reportUnknownVariableType]

    files = sorted(Path(file) for file in findSystemFonts())
    return [file for name in CJK_FONTS for file in files if name.lower() in file.name.lower()]


def _has_characters(file: Path, characters: frozenset[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(file))
    except (OSError, RuntimeError):
        return False
    return all(font.get_char_index(ord(character)) for character in characters if character.isprintable())
