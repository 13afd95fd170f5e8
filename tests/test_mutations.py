"""Mutated state files: whatever is in them, reading them succeeds or ends in one of the package's own errors.

`GTG_BENCH_MUTATIONS=20000 pytest tests/test_mutations.py` tries more of them.
"""

from __future__ import annotations

import codecs
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gtg_bench.benchmark.api import Frame, GroundingMap, GtgError, MethodSettings, SampleRecord
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.tables.run_table import board_document, show_runs
from gtg_bench.benchmark.report.tables.selection import load
from gtg_bench.benchmark.runs.lookup import find_run, read_run, specs_in
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.methods.priors import TABLES, _read
from gtg_bench.methods.weights.check import check
from gtg_bench.methods.weights.find import ZOO, card_of, find_weights
from gtg_bench.training.cache import TensorCache
from gtg_bench.training.loop.progress import seen
from gtg_bench.training.pretraining.recipe import load_zoo_recipe
from gtg_bench.training.recipe import RECIPES, load_recipe

MUTATIONS = int(os.environ.get("GTG_BENCH_MUTATIONS", "100"))
DEEP = 100_000
VALUES: list[Any] = [
    *(None, True, -1, 0, 10**400, 2**63, 1e308, float("nan"), float("-inf"), "", "x", "../../x", "/", "\0", "\x1b[31m"),
    *("~nobody/x", "y" * 300, "\ud800", "[bold]", "1e999", "NaN", "٣", [], {}, [[]], {"a": {"b": [None]}}, ["a", 1]),
]
TOKENS = [*map(str.encode, "\0 \" , ; \n \r { }] NaN - ' &a[*a] ?".split(" ")), b"\xff", b": ", b"9" * 5000]
WHOLE = [b"", b"\0" * 512, b" \n", b"null", b"[]", b"{}", b"1", b"[" * DEEP, b'{"a":' * DEEP, b"\xff\xfe{\0"]

SPEC = RunSpec("phantom", "1", "", "s", None, "test", None, MethodSettings("center-prior"))
RECORDS = [
    SampleRecord(f"s{k}", f"i{k}", f"p{k}", "AB"[k % 2], "ok", {"miou": 0.1 * k, "cnr": 1.5}, facts={"side": "left"})
    for k in range(4)
]


def mutated(content: bytes, random: random.Random) -> bytes:
    """The content with one to three kinds of damage."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(DAMAGE)(content, random)
    return content


def spliced(content: bytes, random: random.Random) -> bytes:
    """A slice removed, repeated or replaced."""
    start = random.randrange(len(content) + 1)
    end = start + random.choice((0, 1, 1, 5, 40))
    return content[:start] + random.choice((b"", content[start:end] * 2, random.choice(TOKENS))) + content[end:]


def flipped(content: bytes, random: random.Random) -> bytes:
    found = bytearray(content or b"x")
    for _ in range(random.choice((1, 1, 3, 30))):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def nested(content: bytes, random: random.Random) -> bytes:
    """One value of a JSON file or line replaced, renamed or removed."""
    lines = content.split(b"\n") if content.count(b"\n{") else [content]
    number = random.randrange(len(lines))
    try:
        whole = json.loads(lines[number])
    except (ValueError, RecursionError):
        return celled(content, random)
    at = whole
    while isinstance(at, (dict, list)) and at:
        key = random.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not isinstance(at[key], (dict, list)) or not at[key] or random.random() < 0.3:
            value = at.pop(key) if random.random() < 0.2 else random.choice(VALUES)
            at = at if isinstance(at, dict) else {}
            at[random.choice(("x", key, key, key)) if isinstance(key, str) else "x"] = value
            break
        at = at[key]
    lines[number] = json.dumps(random.choice((whole, whole, whole, [whole]))).encode()
    return b"\n".join(lines)


def celled(content: bytes, random: random.Random) -> bytes:
    """One cell of a table, or value of a YAML file, replaced."""
    separator = b"," if content.count(b",") > content.count(b": ") else b": "
    lines = content.split(b"\n")
    number = random.randrange(len(lines))
    cells = lines[number].split(separator)
    value = str(random.choice(VALUES)).encode("utf-8", "surrogatepass")
    cells[random.randrange(len(cells))] = value
    lines[number] = separator.join(cells)
    return b"\n".join(lines)


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    *(spliced, flipped, *[nested] * 4, celled),
    lambda content, random: content[: random.randrange(len(content) + 1)],
    lambda content, random: random.choice(WHOLE),
    lambda content, random: codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n"),
    lambda content, random: content.replace(b",", b";").replace(b".", b","),
    lambda content, random: random.randbytes(100),
]


def allowed(*calls: Callable[[], object]) -> None:
    """Make calls that may raise the package's own errors."""
    for call in calls:
        with suppress(GtgError):
            call()


class Files:
    """The undamaged files of each kind, and how they are read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.console = folder, Console(file=(folder / "out").open("w"), width=100)
        (folder / "boards").mkdir()
        self.run = RunFolder(folder / "runs", SPEC)
        self.record(RunFolder(folder / "runs", SPEC))
        leaderboard.update(folder / "boards", SPEC, RECORDS)
        for name in ("cxrbert-ldm", "cxr-bert", "autoencoder"):
            shutil.copytree(ZOO / name, folder / "zoo" / name)
        (folder / "plan.yaml").write_text(
            "unet: zoo/cxrbert-ldm/unet\nscheduler: {place: zoo/cxrbert-ldm, path: scheduler}\nvae: zoo/autoencoder\n"
            "text_encoder: {place: zoo/cxr-bert, family: cxr-bert, max_length: 48}\ndefaults: {steps: 5, layers: all}\n"
        )
        (folder / "seen.jsonl").write_text('{"step": 1, "cnr": 0.5}\n{"step": 2, "cnr": 0.75}\n')
        shutil.copyfile(RECIPES / "phantom.yaml", folder / "ldm.yaml")
        (folder / "changes.yaml").write_text("seed: 1\nautoencoder: {schedule: {steps: 3}, kl_weight: 0.1}\n")

        shutil.copyfile(TABLES / "phantom.npz", folder / "table.npz")
        MapStore(self.run.path, "a", {"s1": "5" * 24}).save(
            "s1", GroundingMap(np.eye(4, dtype=np.float32), Frame.original((8, 8)), "a note")
        )
        self.of_tensors()
        assert find_weights("cxrbert-ldm", str(folder / "plan.yaml")).version
        assert find_weights("cxrbert-ldm", str(folder / "zoo" / "cxrbert-ldm")).version

    def record(self, run: RunFolder) -> None:
        known = run.read()
        run.open("cpu", n_total=4, map_key="a", data_root=None, dataset_options={})
        run.append(record for record in RECORDS if record.sample_id not in known)
        run.finish()

    def of_run(self) -> None:
        runs = self.folder / "runs"
        names = (lambda: list(specs_in(runs)), lambda: find_run(runs, "center-prior"), lambda: read_run(runs, SPEC))
        allowed(
            *names,
            lambda: MapStore(self.run.path, "a", {"s1": "5" * 24}).siblings,
            lambda: self.record(RunFolder(runs, SPEC)),
            *names,
        )

    def of_board(self) -> None:
        boards = self.folder / "boards"
        allowed(
            lambda: board_document(boards, "phantom", {}, "gtg", False),
            lambda: load(boards, "phantom", {}).shown("method"),
            lambda: show_runs([leaderboard.update(boards, SPEC, RECORDS)], boards, self.console),
        )

    def of_card(self) -> None:
        folder = str(self.folder / "zoo" / "cxrbert-ldm")
        allowed(lambda: find_weights("cxrbert-ldm", folder).version, lambda: check("cxrbert-ldm", folder))
        card_of("cxrbert-ldm", folder)

    def of_plan(self) -> None:
        plan = str(self.folder / "plan.yaml")
        allowed(lambda: find_weights("cxrbert-ldm", plan).version, lambda: check("cxrbert-ldm", plan))

    def of_seen(self) -> None:
        shutil.copyfile(self.folder / "seen.jsonl", self.folder / "validation.jsonl")
        allowed(lambda: seen(self.folder))

    def of_ldm(self) -> None:
        allowed(lambda: load_recipe(str(self.folder / "ldm.yaml")))

    def of_table(self) -> None:
        allowed(lambda: _read(self.folder / "table.npz"))

    def of_map(self) -> None:
        allowed(lambda: MapStore(self.run.path, "a", {"s1": "5" * 24}).load("s1"))

    def of_tensors(self) -> None:
        cache = TensorCache(self.folder / "tensors", {})
        missing = cache.missing(range(3))
        if missing:
            cache.add({number: {"x": torch.ones(2, 3)} for number in missing})
        assert all(cache[number]["x"].shape[0] for number in range(3))

    def of_changes(self) -> None:
        allowed(lambda: load_zoo_recipe(self.folder / "changes.yaml"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("runs/phantom/center-prior/*/manifest.json", Files.of_run),
        ("runs/phantom/center-prior/*/samples.jsonl", Files.of_run),
        ("boards/phantom.csv", Files.of_board),
        ("boards/phantom.by_category.csv", Files.of_board),
        ("zoo/cxrbert-ldm/card.json", Files.of_card),
        ("zoo/cxr-bert/card.json", Files.of_card),
        ("zoo/cxr-bert/config.json", Files.of_card),
        ("zoo/cxrbert-ldm/unet/config.json", Files.of_card),
        ("plan.yaml", Files.of_plan),
        ("seen.jsonl", Files.of_seen),
        ("table.npz", Files.of_table),
        ("runs/phantom/center-prior/*/maps/*.npz", Files.of_map),
        ("tensors/*/part-*.safetensors", Files.of_tensors),
        ("ldm.yaml", Files.of_ldm),
        ("changes.yaml", Files.of_changes),
    ],
)
def test_damage_is_an_error_of_the_package(files: Files, name: str, read: Callable[[Files], None]) -> None:
    (path,) = files.folder.glob(name)
    content, names = path.read_bytes(), {file.name for file in files.folder.parent.rglob("*")}
    read(files)
    for seed in range(MUTATIONS):
        damaged = mutated(content, random.Random(f"{name} {seed}"))
        path.write_bytes(damaged)
        try:
            read(files)
        except Exception as error:
            raise AssertionError(f"mutation {seed} of {name}: {damaged[:500]!r}") from error
        finally:
            path.write_bytes(content)
    new = {file.name for file in files.folder.parent.rglob("*")} - names
    assert not {file for file in new if not file.endswith((".damaged", "validation.jsonl", ".safetensors"))}
