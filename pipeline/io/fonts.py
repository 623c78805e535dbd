"""Fonts for texts of any script, and texts made short enough to be drawn.

DejaVu Sans comes with Matplotlib and has Latin, Greek, Cyrillic, Arabic, Hebrew and more. For another script a font of
this machine is taken that has all characters of the text. Boxes in place of characters are never drawn: where no font
has them, the caller draws something else, such as a class's number.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from PIL import features

_JOINERS = "\u200c\u200d"  # they change how letters of Persian and Indic scripts join
_NO_PLAIN_TEXT = ("lastresort", "emoji", "adobeblank")  # fonts of boxes, of colour bitmaps and of nothing
_ISOLATE, _END = "\u2068", "\u2069"


@dataclass(frozen=True)
class DrawableText:
    """A text, and the font file that has its characters."""

    text: str
    font: str


def find_font(text: str, shaping: bool | None = None) -> DrawableText | None:
    """The text as it can be drawn, on one line, and a font that has all its characters; None if there is no such font.

    shaping  whether letters will be joined and ordered from right to left where their script needs it; None: as Pillow
             can here. Without it, a text that needs it has no font.
    """
    text = drawable_text(text)
    if not text:
        return None
    if needs_shaping(text) and not (features.check("raqm") if shaping is None else shaping):
        return None
    wanted = frozenset(map(ord, text)) - frozenset(map(ord, _JOINERS))
    font = next((file for file in chain([default_font()], _system_fonts()) if wanted <= _characters(file)), None)
    return None if font is None else DrawableText(text, font)


def default_font() -> str:
    """The file of DejaVu Sans."""
    import matplotlib  # here: most commands draw nothing

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def drawable_text(text: str) -> str:
    """In NFC, on one line, without characters that would change the order of what stands beside it.

    Bytes that are no UTF-8 in a file's name become U+FFFD.
    """
    shown = []
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        if category == "Cs":
            shown.append("\ufffd")
        elif category in ("Cc", "Zl", "Zp", "Zs"):
            shown.append(" ")
        elif category != "Cf" or character in _JOINERS:
            shown.append(character)
    return " ".join("".join(shown).split())


def visible(text: str) -> str:
    """With `\\n` for a line break, and the like for other characters that are not seen but tell ids apart."""
    return "".join(
        one.encode("unicode_escape").decode("ascii")
        if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") and one not in _JOINERS
        else one
        for one in text
    )


def needs_shaping(text: str) -> bool:
    """Whether a text is written from right to left, or has marks that are placed by shaping."""
    return any(
        unicodedata.bidirectional(one) in ("R", "AL", "AN") or unicodedata.category(one) in ("Mn", "Mc") for one in text
    )


def isolated(text: str) -> str:
    """A text that keeps its own direction, and leaves that of what stands beside it alone."""
    return f"{_ISOLATE}{text}{_END}" if needs_shaping(text) else text


def escaped(text: str) -> str:
    """With `\\u732b` for characters that DejaVu Sans does not have."""
    known = _characters(default_font())
    return "".join(
        one if ord(one) in known else one.encode("unicode_escape").decode("ascii") for one in drawable_text(text)
    )


def shortened(text: str, fits: Callable[[str], bool]) -> str | None:
    """The text, or as much of its start and end as fits with an ellipsis in between; None if nothing fits."""
    if fits(text):
        return text
    low, high = 0, len(text) - 1  # characters that are kept: `low` fit, or are 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_without_middle(text, middle)) else (low, middle - 1)
    short = _without_middle(text, low)
    return short if fits(short) else None


def _without_middle(text: str, kept: int) -> str:
    """`kept` characters, more of them at the end, where names of files differ. No mark loses its letter."""
    start = kept // 2
    end = len(text) - (kept - start)
    while end < len(text) and unicodedata.category(text[end]) in ("Mn", "Mc"):
        end += 1
    while start and unicodedata.category(text[start]) in ("Mn", "Mc"):
        start -= 1
    return f"{text[:start].rstrip()}…{text[end:].lstrip()}"


def _system_fonts() -> Iterator[str]:
    """Font files of this machine, regular sans-serif ones first; looked for only where DejaVu Sans does not do."""
    yield from _find_system_fonts()


@cache
def _find_system_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts

    def order(file: str) -> tuple[bool, bool, str]:
        name = Path(file).stem.lower()
        return not name.endswith("regular") and "-" in name, "sans" not in name, file

    found = (file for file in findSystemFonts() if not any(part in file.lower() for part in _NO_PLAIN_TEXT))
    return tuple(sorted(found, key=order))


@cache
def _characters(font: str) -> frozenset[int]:
    """Code points of a font's characters; none if the file cannot be read or has no outlines."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(font)
        return frozenset(face.get_charmap()) if face.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
