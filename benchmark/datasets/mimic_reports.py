"""MIMIC-CXR's reports: find them, and take the section that describes the image.

A report is free text under headings without a standard: upper or mixed case, with or without a colon, misspelt,
repeated, or in the middle of a line. Only known headings divide it: "LUNGS: clear." under FINDINGS is not a section,
nor is "AP chest compared to ___:" under IMPRESSION.
"""

from __future__ import annotations

import difflib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from lzma import LZMAError
from pathlib import Path
from typing import Literal, NamedTuple

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.locate import existing
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import read_bounded

Section = Literal["impression", "findings", "last-paragraph", ""]
SECTIONS: tuple[Section, ...] = ("impression", "findings", "last-paragraph")
"""Where the text may come from, in order of preference."""

_IMPRESSION = ("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS")
_FINDINGS = ("FINDINGS", "FINDING", "OBSERVATIONS", "INTERPRETATION", "REPORT")
_OTHER = (
    *("ADDENDUM", "BACKGROUND", "CLINICAL", "COMPARISON", "COMPARISONS", "CONDITION", "DATE", "DICTATED", "DOSE"),
    *("ELECTRONICALLY", "EXAM", "EXAMINATION", "EXAMINATIONS", "HISTORY", "INDICATION", "INDICATIONS", "INFORMATION"),
    *("NOTIFICATION", "NOTIFICATIONS", "PRELIMINARY", "PROCEDURE", "PROTOCOL"),
    *("QUESTION", "REASON", "RECOMMENDATION", "RECOMMENDATIONS", "REFERENCE", "REQUEST", "STUDY", "SYMPTOMS"),
    *("TECHNIQUE", "TECHNICAL", "VIEW", "VIEWS", "WET"),
)
_KINDS = dict.fromkeys(_IMPRESSION, "impression") | dict.fromkeys(_FINDINGS, "findings")
_KINDS |= dict.fromkeys(_OTHER, "other")
_PAIRS = {"FINAL REPORT": "start", "FINAL ADDENDUM": "start", "MEDICAL CONDITION": "other"}
_PAIRS |= dict.fromkeys(("PRIOR STUDY", "PRIOR STUDIES", "PATIENT HISTORY", "PATIENT INFORMATION"), "other")
"""First two words of a heading, if the first alone would be ambiguous."""

_ALIKE = 0.84
"""Minimal `difflib` ratio of a misspelt heading, if both words are long and have the same initial."""

_LONG = 7
_LONG_WORDS = tuple(word for word in _KINDS if len(word) >= _LONG)
_MOST_WORDS = 7
_COLON = re.compile(r"\s*(?P<name>[A-Za-z][\w ()/&,.#'-]{2,59}?)(?:\s*:+|\s+[-–]+(?=\s|$))\s*(?P<rest>.*)")
_BARE = re.compile(r"\s*(?P<name>[A-Z][A-Z ()/&#0-9]{3,40})[\s.]*$")
_INLINE = re.compile(rf"(?<=[.:;?!_\])])[ \t]+(?=(?:{'|'.join((*_IMPRESSION, *_FINDINGS, *_OTHER))})\b[A-Z ()/]*:)")
_RULE = re.compile(r"\s*[_=*-]{5,}\s*$")
_STUDY = re.compile(
    r"\A(?=[^a-z]*\b(?:CHEST|RADIOGRAPHS?|X-?RAYS?|VIEWS?|FILMS?|PORTABLE)\b)[A-Z0-9 ,.()/&_:#-]{3,}:\s+"
)
_LETTERS = re.compile(r"[A-Za-z]{2}")


ARCHIVE = "mimic-cxr-reports"
"""The name of the zip archive that MIMIC-CXR ships, and of the folder it is often unpacked to."""

_AGAIN = "download it again from MIMIC-CXR"
_MAX_BYTES = 2**20
"""Bytes of the largest report that is read."""


class Excerpt(NamedTuple):
    """The part of a report that is used.

    Attributes:
        text: one stripped line; "" if the report does not describe the image.
        section: its section; "" without text.
    """

    text: str
    section: Section


@dataclass(slots=True)
class _Block:
    """The lines below one heading. kind: impression, findings, other, or start (the beginning of a report)."""

    kind: str
    lines: list[str] = field(default_factory=list)

    def paragraphs(self) -> Iterator[str]:
        """The paragraphs between blank lines, each on one line, with hyphenated line breaks rejoined."""
        for blank, lines in groupby(self.lines, key=lambda line: not line.strip()):
            if not blank:
                text = " ".join(" ".join(line.split()) for line in lines)
                yield re.sub(r"(?<=[a-z]-) (?=[a-z])", "", text)


def cut(report: str) -> Excerpt:
    """The IMPRESSION of a report, else its FINDINGS, else its last paragraph that belongs to no other heading.

    If a section is repeated the last one with text counts, as in MIMIC-CXR's own parser: a final report follows a
    preliminary read. CONCLUSION is read as IMPRESSION; OBSERVATIONS, INTERPRETATION and REPORT as FINDINGS.
    De-identified places ("___") are kept, but a text that consists only of them is ignored.
    """
    blocks = list(_blocks(report))
    for section in SECTIONS[:2]:
        texts = [" ".join(block.paragraphs()) for block in blocks if block.kind == section]
        if found := _last(texts):
            return Excerpt(found, section)
    # Under another heading, every paragraph but its first is free text.
    free = [list(block.paragraphs())[0 if block.kind == "start" else 1 :] for block in blocks]
    found = _last(text for texts in free for text in texts)
    return Excerpt(found, SECTIONS[2] if found else "")


def _last(texts: Iterable[str]) -> str:
    """The last text that has words, without a leading name of the study ("PORTABLE CHEST:"); else ""."""
    cleaned = [_STUDY.sub("", text, count=1).strip(" :-–") for text in texts]
    return next((text for text in reversed(cleaned) if _LETTERS.search(text)), "")


def _blocks(report: str) -> Iterator[_Block]:
    block, blank = _Block("start"), True
    for line in _INLINE.sub("\n", report.replace("\ufeff", "")).splitlines():
        kind, rest = _heading(line, blank)
        blank = not line.strip()
        if kind:
            yield block
            block = _Block(kind)
        block.lines.append(rest)
    yield block


def _heading(line: str, after_blank: bool) -> tuple[str, str]:
    """The kind of section that a line opens ("" for none), and the text in the line.

    A lower-case heading, or an "other" heading without a colon, only counts after a blank line: elsewhere it may be
    part of a wrapped sentence.
    """
    if _RULE.match(line):
        return "start", ""
    if (match := _COLON.match(line)) and (after_blank or match["name"][0].isupper()):
        if kind := _kind(match["name"].strip()):
            return kind, match["rest"]
    elif match := _BARE.match(line):
        kind = _kind(match["name"].strip())
        if kind and (after_blank or kind != "other"):
            return kind, ""
    return "", line


@lru_cache(maxsize=4096)
def _kind(name: str) -> str:
    """The kind of section that a heading names; "" for an unknown heading."""
    words = re.findall(r"[A-Z]+", name.upper())
    if not words or len(words) > _MOST_WORDS:
        return ""
    if pair := _PAIRS.get(" ".join(words[:2])):
        return pair
    loud = name == name.upper()
    kinds = [_kind_of_word(word) for word in (words if loud else words[:1])]
    main = [kind for kind in kinds if kind in SECTIONS]
    return "impression" if "impression" in main else main[0] if main else kinds[0]


def _kind_of_word(word: str) -> str:
    if word in _KINDS or len(word) < _LONG - 1:
        return _KINDS.get(word, "")
    near = difflib.get_close_matches(word, _LONG_WORDS, n=1, cutoff=_ALIKE)
    return _KINDS[near[0]] if near and near[0][0] == word[0] else ""


@dataclass(frozen=True)
class Reports:
    """The reports of MIMIC-CXR.

    Attributes:
        places: the folders with p10, p11 and so on, unpacked or inside a zip archive.
    """

    places: tuple[Path | zipfile.Path, ...]

    @classmethod
    def open(cls, root: Path, chosen: str | None) -> Reports:
        """Find the reports.

        Args:
            root: where to look: in `files/`, in mimic-cxr-reports/files/, and in mimic-cxr-reports.zip.
            chosen: another folder or zip archive instead, relative to the root or the working folder.

        Raises:
            UsageError: no reports were found.
            DataError: the zip archive cannot be opened.
        """
        bases = [root / chosen, Path(chosen)] if chosen else [root]
        base = next((place for place in bases if os.path.exists(place)), None)
        if base is None:
            raise UsageError(f"reports={chosen}: not found, neither in {root} nor in the working folder")
        tried = existing([base / "files", base, base / ARCHIVE / "files", base / ARCHIVE])
        places: list[Path | zipfile.Path] = [folder for folder in tried if any(folder.glob("p[0-9][0-9]"))]
        for path in (base, base / f"{ARCHIVE}.zip"):
            if path.suffix == ".zip" and os.path.isfile(path):
                try:
                    places.append(zipfile.Path(path, "files/"))
                except (OSError, zipfile.BadZipFile) as error:
                    raise fault(path, f"cannot be opened ({error})", _AGAIN) from error
        if not places:
            fix = f"name MIMIC-CXR's folder or its {ARCHIVE}.zip with --dataset-option reports=DIR"
            raise UsageError(f"no reports (files/p10/p10000032/s50414267.txt) were found in {base}; {fix}")
        return cls(tuple(places))

    def excerpt(self, name: str) -> Excerpt:
        """The part of the report `p10/p10000032/s50414267.txt` that is used. Raises Fault as `read`."""
        return cut(self.read(name))

    def read(self, name: str) -> str:
        """The report `p10/p10000032/s50414267.txt`.

        Raises:
            Fault: it is missing (kind "missing"), or cannot be read as text (kind "unreadable").
        """
        for place in self.places:
            path = Path(str(place), name)
            try:
                with (place / name).open("rb") as file:
                    data = read_bounded(file, _MAX_BYTES)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, EOFError, RuntimeError, ValueError, zlib.error, LZMAError, zipfile.BadZipFile) as error:
                raise fault(path, f"cannot be read ({error})", _AGAIN, kind="unreadable") from error
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise fault(path, f"is not UTF-8 text (byte {error.start})", _AGAIN, kind="unreadable") from error
            if "\0" in text or text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
                raise fault(path, "is a web page or something else, not a report", _AGAIN, kind="unreadable")
            return text
        raise fault(Path(str(self.places[0]), name), "file not found", "download it from MIMIC-CXR", kind="missing")
