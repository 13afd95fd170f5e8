"""Radiology reports in MIMIC-CXR's manner: where they lie, and which part of one says what is on the image.

A report is free text under headings that nobody standardised: upper or mixed case, with or without a colon, misspelt,
several of a kind, in the middle of a line. Known headings alone divide it: "LUNGS: clear." under FINDINGS is no section
of its own, nor is "AP chest compared to ___:" under IMPRESSION.
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
from pathlib import Path
from typing import Literal, NamedTuple

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.places import existing
from gtg_bench.benchmark.datasets.problems import Fault, fault

Section = Literal["impression", "findings", "last-paragraph", ""]
SECTIONS: tuple[Section, ...] = ("impression", "findings", "last-paragraph")
"""Where the text may come from, in the order in which they are tried."""

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
"""A heading's first two words, where one alone would say too little or something else."""

_ALIKE = 0.84
"""`difflib` ratio from which a word counts as a misspelt heading, if both are long and have the same initial."""

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
"""The reports' zip file as MIMIC-CXR ships it, and the folder that it is often unpacked to."""

_AGAIN = "download it again from MIMIC-CXR"


class Excerpt(NamedTuple):
    """What of a report is used.

    Attributes:
        text: one line without surrounding blanks; "" where the report says nothing about the image.
        section: where it comes from; "" where there is no text.
    """

    text: str
    section: Section


@dataclass(slots=True)
class _Block:
    """The lines below one heading. kind: impression, findings, other, or start, where a report begins."""

    kind: str
    lines: list[str] = field(default_factory=list)

    def paragraphs(self) -> Iterator[str]:
        """What stands between blank lines, each on one line."""
        lines: list[str] = []
        for line in (*self.lines, ""):
            if line.strip():
                lines.append(line)
            elif lines:
                yield _joined(lines)
                lines = []


def cut(report: str) -> Excerpt:
    """The IMPRESSION of a report, else its FINDINGS, else its last paragraph that is under no other heading.

    Of several sections of a kind the last one with text counts, as in MIMIC-CXR's own parser: a final report comes
    after a wet read. CONCLUSION is read as IMPRESSION; OBSERVATIONS, INTERPRETATION and REPORT as FINDINGS. Places that
    were de-identified ("___") stay; a text of nothing but such places is none.
    """
    blocks = list(_blocks(report))
    for section in SECTIONS[:2]:
        texts = [" ".join(block.paragraphs()) for block in blocks if block.kind == section]
        if found := _last(texts):
            return Excerpt(found, section)
    found = _last(text for block in blocks for text in _free(block))
    return Excerpt(found, SECTIONS[2] if found else "")


def _free(block: _Block) -> list[str]:
    """The paragraphs that belong to no heading: under another heading, all but its own first one."""
    texts = list(block.paragraphs())
    return texts if block.kind == "start" else texts[1:]


def _last(texts: Iterable[str]) -> str:
    """The last text that has words, without the name of the study ("PORTABLE CHEST:") before it; else ""."""
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
    """The kind of section that a line opens, "" for none; and what of the line is text.

    A line in lower case, or one of another heading without a colon, opens one only after a blank line: elsewhere it may
    be a wrapped sentence.
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
    """The kind of section that a heading names, "" where it is no known heading."""
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


def _joined(lines: list[str]) -> str:
    """Wrapped lines as one; a word that was wrapped at its hyphen is whole again."""
    text = " ".join(" ".join(line.split()) for line in lines)
    return re.sub(r"(?<=[a-z]-) (?=[a-z])", "", text)


@dataclass(frozen=True)
class Reports:
    """The reports of MIMIC-CXR, in folders or still in their zip file.

    Attributes:
        folders: those that hold p10, p11 and so on.
        archives: zip files that hold files/p10 and so on.
    """

    folders: tuple[Path, ...]
    archives: tuple[zipfile.ZipFile, ...]

    @classmethod
    def open(cls, root: Path, chosen: str | None) -> Reports:
        """Find the reports.

        Args:
            root: where they are looked for: in `files/`, in mimic-cxr-reports/files/, in mimic-cxr-reports.zip.
            chosen: another folder or zip file in its place, from the root or the working folder.

        Raises:
            UsageError: there are none.
            DataError: the zip file cannot be opened.
        """
        places = [root / chosen, Path(chosen)] if chosen else [root]
        base = next((place for place in places if os.path.exists(place)), None)
        if base is None:
            raise UsageError(f"reports={chosen}: no such folder or zip file, neither below {root} nor here")
        tried = [base / "files", base, base / ARCHIVE / "files", base / ARCHIVE]
        folders = [folder for folder in existing(tried) if any(folder.glob("p[0-9][0-9]"))]
        packed = [path for path in (base, base / f"{ARCHIVE}.zip") if path.suffix == ".zip" and os.path.isfile(path)]
        if not folders and not packed:
            fix = f"name MIMIC-CXR's folder or its {ARCHIVE}.zip with --dataset-option reports=DIR"
            raise UsageError(f"there are no reports (files/p10/p10000032/s50414267.txt) below {base}; {fix}")
        return cls(tuple(folders), tuple(map(_archive, packed)))

    def excerpt(self, name: str) -> Excerpt:
        """What is used of the report `p10/p10000032/s50414267.txt`. Raises Fault as `read`."""
        return cut(self.read(name))

    def read(self, name: str) -> str:
        """The report `p10/p10000032/s50414267.txt`.

        Raises:
            Fault: it is not there (kind "missing"), or cannot be read as text (kind "unreadable").
        """
        for folder in self.folders:
            if (data := _bytes(folder / name)) is not None:
                return _text(folder / name, data)
        for archive in self.archives:
            if (data := _member(archive, f"files/{name}")) is not None:
                return _text(Path(archive.filename or "") / "files" / name, data)
        where = self.folders[0] if self.folders else Path(self.archives[0].filename or "") / "files"
        raise fault(where / name, "there is no such file", "download it from MIMIC-CXR", kind="missing")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise fault(path, f"cannot be opened ({error})", _AGAIN) from error


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    try:
        return archive.read(name)
    except KeyError:
        return None
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(Path(archive.filename or "") / name, f"cannot be read ({error})") from error


def _text(path: Path, data: bytes) -> str:
    """The text of a report. Raises Fault where it is none in UTF-8, or a web page."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"is not UTF-8 text (byte {error.start})") from error
    if "\0" in text or text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
        raise _unreadable(path, "holds a web page or something else that is no report")
    return text


def _unreadable(path: Path, what: str) -> Fault:
    return fault(path, what, _AGAIN, kind="unreadable")
