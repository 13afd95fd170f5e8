"""Text for people: what users supply, made safe for terminals, documents and spreadsheets, and counted things."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def printable(text: str) -> str:
    r"""The text with everything escaped that could move a cursor, change colours or reverse the reading direction.

    Control and format characters, line separators and lone surrogates become \x1b, \u202e and so on; line feeds and
    the joiners of some scripts stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def _escaped(character: str) -> str:
    if character == "\n" or character in _JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def number_of(number: int, what: str) -> str:
    """A number of things in words: "1 image", "1,200 images"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def csv_cell(value: object) -> object:
    """A cell for a CSV file: text that a spreadsheet would run as a formula gets an apostrophe; see `csv_text`."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_text(cell: str) -> str:
    """The text that `csv_cell` wrote: without the apostrophe before what looks like a formula."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
