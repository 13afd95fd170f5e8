"""Files that are read back: what is wrong with them is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.state import Strict, numbered, read_lines, read_state, read_yaml, safe_name


class Thing(BaseModel):
    size: int


class Exact(Strict):
    share: float


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\0" * 9, "empty"),
        (b'{"size": 1', "EOF"),
        (b"[1]", "valid dictionary|object"),
        (b'{"size": "x\n"}', "control character"),
        (b'{"size": "big"}', "size: .*integer"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe{\0}\0", "JSON"),
        (b'{"siz\\u001b": 1}', "size: .*required"),
    ],
)
def test_a_damaged_file_is_named_with_field_and_remedy(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_state(path, Thing, "remove it")
    assert str(caught.value).startswith(f"{path} is damaged")
    assert str(caught.value).endswith("; remove it")
    assert str(caught.value).isprintable()


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(b'\xef\xbb\xbf{"more": [1, 2],\r\n "size": 3}')
    assert list(read_state(path, Thing, "").items()) == [("more", [1, 2]), ("size", 3)]
    for missing in (tmp_path, tmp_path / "none.json", tmp_path / "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            read_state(missing, Thing, "")


def test_only_a_last_line_without_an_end_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'1\r\n\nx\n{"a":\n2\n3.')
    found, damaged = read_lines(path, TypeAdapter(int))
    assert found == [1, 2]
    assert (list(damaged), damaged[6]) == ([3, 4, 6], "")
    assert "2 lines" in numbered(damaged)
    assert "line 3" in numbered(damaged)
    assert numbered({6: ""}) == ""


@pytest.mark.parametrize("text", ["- 1", "a: [", "a: !!timestamp 1", "[" * 5000, "a: 2001-99-99", "\0"])
def test_yaml_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"plan\.yaml"):
        read_yaml(path)


def test_numbers_must_be_finite_and_fields_known() -> None:
    assert Exact(share=0.5).share == 0.5
    for values in ({"share": float("nan")}, {"share": 1, "other": 1}):
        with pytest.raises(ValueError, match="1 validation error"):
            Exact.model_validate(values)


def test_names_stay_inside_their_folder() -> None:
    for name in ("ms-cxr", "gtg+best", "strict@2", "my method (2)", "médical"):
        assert safe_name(name, "data set") == name
    for name in ("", ".", "..", "../x", "a/b", "a\\b", "/etc", "a\0", "a\n", " a", "x" * 101):
        with pytest.raises(DataError, match="data set"):
            safe_name(name, "data set")
