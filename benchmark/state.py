"""Files that the program reads back: checked against a type, damage as one line that names file and remedy."""

from __future__ import annotations

import codecs
import logging
import re
import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.files import check_regular, plain_yaml
from gtg_bench.benchmark.api.text import printable

T = TypeVar("T")

_NAME = re.compile(r"[^\s./\\][^/\\]{0,99}")
_OBJECT = TypeAdapter(dict[str, Any])
_LOG = logging.getLogger("gtg_bench")


class Strict(BaseModel):
    """A model that refuses unknown fields and numbers that are not finite, and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_state(path: Path, model: type[BaseModel], remedy: str) -> dict[str, Any]:
    """The object in a JSON file, as it is written there.

    Args:
        path: the file; a byte order mark is ignored.
        model: describes the object.
        remedy: what to do if the file is damaged.

    Raises:
        DataError: the file cannot be read, or contains something else.
    """
    try:
        values = parsed(_content(path), _OBJECT)
        model.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path} is damaged ({problem(error)}); {remedy}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); {remedy}") from error
    return values


def read_lines(path: Path, kind: TypeAdapter[T]) -> tuple[list[T], dict[int, str]]:
    """The values in a file with one JSON value per line, and what is wrong with each damaged line, by its number.

    Blank lines are skipped. Nothing is wrong ("") with a damaged last line without a line break: its writer was killed.

    Raises:
        DataError: the file cannot be read.
    """
    found, damaged = [], {}
    lines = _content(path).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(parsed(line, kind))
        except ValueError as error:
            damaged[number] = str(error) if number < len(lines) else ""
    return found, damaged


def parsed(text: bytes, kind: TypeAdapter[T]) -> T:
    """The value of a JSON text. Raises ValueError, in one line, if it is not of the kind."""
    if not text.strip(b"\0 \r\n\t"):
        raise ValueError("it is empty")
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise ValueError(problem(error)) from error


def problem(error: ValidationError) -> str:
    """The first problem that a model found, in one short line that starts with the field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, what = ".".join(str(step) for step in first["loc"]), first["msg"].removeprefix("Value error, ")
    return one_line(f"{where}: {what}" if where else what)


def one_line(text: str, most: int = 200) -> str:
    """Text from a file as a short part of a message, in one line with control characters escaped."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]}..."


def shown(value: Any) -> str:
    """Any value as a short part of a message."""
    return one_line(reprlib.repr(value), 60)


def read_yaml(path: Path, what: str = "lines such as NAME: VALUE") -> dict[str, Any]:
    """The mapping in a YAML file of at most 1 MiB, without references.

    Args:
        path: the file.
        what: what it must contain, for the message.

    Raises:
        DataError: the file cannot be read, or contains something else.
    """
    text = _content(path)
    try:
        values = plain_yaml(text.decode())
    except Exception as error:  # PyYAML lets many kinds through: invalid dates, deep nesting, empty tagged values
        raise DataError(f"{path} cannot be read as YAML ({one_line(str(error)) or type(error).__name__})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected {what}, found {shown(values)}")
    return values


def safe_name(name: str, what: str) -> str:
    """A name that becomes part of a path.

    Raises:
        DataError: it could name a place outside its folder, or is not a name at all.
    """
    if not (_NAME.fullmatch(name) and name.isprintable()):
        raise DataError(f"{what} {shown(name)} cannot be part of a file name: use letters, digits, dots and dashes")
    return name


@cache
def warn(text: str) -> None:
    """Log a warning, once: a line on stderr unless the program that imports this package handles it otherwise."""
    _LOG.warning("warning: %s", one_line(text, 1000))


def numbered(damaged: Mapping[int, str]) -> str:
    """Lines that something is wrong with, as "line 3 is damaged (it is empty)"; "" if there are none."""
    wrong = [(number, reason) for number, reason in damaged.items() if reason]
    if len(wrong) > 1:
        return f"{len(wrong)} lines are damaged (the first, line {wrong[0][0]}: {wrong[0][1]})"
    return "".join(f"line {number} is damaged ({reason})" for number, reason in wrong)


def _content(path: Path) -> bytes:
    try:
        check_regular(path)
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{one_line(str(path))} cannot be read ({reason}); check the path and its permissions"
        ) from error
