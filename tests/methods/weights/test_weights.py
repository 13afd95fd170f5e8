"""Weights: the plan, the files, the hub's cache, what identifies them, and what `gtg-bench weights` says.

A hub is played by a server on this machine; nothing here asks the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.cli import app
from gtg_bench.methods.catalog import CATALOG
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights import Part, Weights, WeightsPlan, find_weights, hub, locate, paper, report
from gtg_bench.methods.weights import find as find_module
from gtg_bench.methods.weights.files import choose, damage, gap
from gtg_bench.methods.weights.find import ZOO, plan_of, published
from gtg_bench.methods.weights.locate import cached, fetch_command, look, sha256_of
from gtg_bench.methods.weights.plan import ImagePart, TextPart, read_plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET: dict[str, Any] = {"cross_attention_dim": 64, "in_channels": 4, "sample_size": 8}
TEXT: dict[str, Any] = {"hidden_size": 64, "max_position_embeddings": 128}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for the caches, and no network."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hf"


def tensors(value: bytes = b"\0\0\0\0") -> bytes:
    """A whole safetensors file of one number."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + value


def write(folder: Path, **files: Any) -> Path:
    """Files into a folder; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = json.dumps(content) if isinstance(content, dict) else content
        (folder / name.replace("__", ".")).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def write_model(folder: Path, name: str = "diffusion_pytorch_model", **config: Any) -> Path:
    return write(folder, config__json=config, **{f"{name}__safetensors": tensors()})


def write_pipeline(folder: Path) -> Path:
    """The layout of Stable Diffusion, with a text encoder beside it."""
    write_model(folder / "unet", **UNET)
    write_model(folder / "vae", latent_channels=4)
    write(folder / "scheduler", scheduler_config__json={"num_train_timesteps": 1000})
    write_model(folder / "text", "model", **TEXT)
    write(folder / "text", vocab__txt="[PAD]\nlung")
    return folder


def write_yaml(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def into_cache(home: Path, repo: str, files: dict[str, bytes], reference: str = "main", commit: str = COMMIT) -> Path:
    """A repository as the hub's cache holds it: blobs, links to them, and a reference to the commit."""
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / reference).write_text(commit)
    return folder / "snapshots" / commit


# The plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unte: x", "unte: unknown field 'unte'; did you mean unet"),
        ("unet: {place: x, revison: y}", "unet.revison: unknown field 'revison'; did you mean revision"),
        ("text_encoder: {place: x, family: clip, crop: 3}", "text_encoder.crop: unknown field 'crop'"),
        ("unet: {place: x, revision: 1.0}", "unet.revision: Input should be a valid string"),
        ("unet: [x]", "unet: Input should be a valid dictionary"),
        ("unet: ''", "unet.place: String should have at least 1 character"),
        ("unet: {place: x, path: ../y}", "unet.path: Value error, '../y' does not lie inside the place"),
        ("text_encoder: {place: x}", "text_encoder.family: Field required"),
        ("text_encoder: x", "text_encoder.family: Field required"),
        ("text_encoder: {place: x, family: clip, max_length: 0}", "text_encoder.max_length: Input should be greater"),
        ("image_encoder: {place: x, crop: 600}", "image_encoder: Value error, crop 600 is larger than resize 512"),
        ("base: {place: x, files: [y]}", "base: Value error, files and sha256 belong to the parts"),
        ("defaults: {stesp: 5}", "defaults: Value error, unknown setting 'stesp'; did you mean steps"),
        (
            "defaults: {sampling: cfg}",
            "defaults: Value error, unknown setting 'sampling'; known: steps, guidance, layers",
        ),
        ("defaults: {steps: many}", "defaults: Value error, steps cannot be 'many'"),
        ("defaults: {guidance: true}", "defaults: Value error, guidance cannot be True"),
        ("- unet", "the file must name parts"),
        ("", "the file must name parts"),
        ("unet: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_yaml_names_file_and_field(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_yaml_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"mine\.yaml cannot be read"):
        read_plan(tmp_path / "mine.yaml")


def test_base_gives_what_is_not_named() -> None:
    plan = WeightsPlan.model_validate({"base": {"place": "a/b", "path": "sd", "revision": "v1"}, "unet": "mine"})
    parts = plan.parts()
    assert {name: (part.place, part.path) for name, part in parts.items()} == {
        "unet": ("mine", ""),
        "vae": ("a/b", "sd/vae"),
        "scheduler": ("a/b", "sd/scheduler"),
    }
    assert (parts["vae"].revision, parts["scheduler"].files) == ("v1", ("scheduler_config.json",))
    assert plan.unnamed() == ["text_encoder"]
    assert WeightsPlan(image_encoder=ImagePart(place="x.pt")).unnamed() == ["text_encoder"]


def test_defaults_are_of_the_type_that_is_computed_with() -> None:
    assert WeightsPlan(defaults={"layers": 8, "steps": 5}).defaults == {"layers": "8", "steps": 5}


# Files


@pytest.mark.parametrize(
    ("names", "patterns", "chosen"),
    [
        ("config.json model.safetensors pytorch_model.bin flax_model.msgpack tf_model.h5 README.md", "", "01"),
        ("config.json pytorch_model.bin biovil.pt card.json modeling.py", "", "01"),
        ("config.json d.safetensors d.fp16.safetensors d.non_ema.safetensors d.bin", "", "01"),
        ("config.json d.fp16.safetensors", "", "01"),
        ("a-00001-of-2.safetensors a-00002-of-2.safetensors a.safetensors.index.json", "", "012"),
        ("pytorch_lora_weights.safetensors optimizer.bin scheduler.bin random_states_0.pkl", "", "0"),
        ("config.json vocab.txt pytorch_model.bin", "config.json vocab.txt", "01"),
        ("config.json merges.txt card.json sub/other.json", "*.json *.txt", "01"),
    ],
)
def test_what_a_part_is_loaded_from(names: str, patterns: str, chosen: str) -> None:
    assert choose(names.split(), patterns.split()) == sorted(names.split()[int(place)] for place in chosen)


def test_weights_that_are_not_whole_are_seen(tmp_path: Path) -> None:
    def of(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return damage(tmp_path / name)

    assert of("a.safetensors", tensors()) == ""
    short = of("b.safetensors", tensors()[:-1])
    assert short == f"is cut short or damaged: {len(tensors()) - 1} of {len(tensors())} bytes"
    assert "cut short or damaged" in of("c.safetensors", b"\xff" * 40)
    assert "cut short or damaged" in of("d.safetensors", (9).to_bytes(8, "little") + b"[1, 2, 3]")
    assert of("e.bin", b"") == "is empty"
    assert "Git LFS pointer" in of("f.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "web page" in of("g.pt", b"\n<!DOCTYPE html><title>404</title>")
    with zipfile.ZipFile(tmp_path / "h.pt", "w") as archive:
        archive.writestr("data.pkl", "x" * 100)
    whole = (tmp_path / "h.pt").read_bytes()
    assert damage(tmp_path / "h.pt") == ""
    assert "cut short" in of("i.pt", whole[:-10])
    assert of("j.bin", b"\x80\x02an old pickle") == ""


def test_a_folder_needs_its_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config__json=UNET)
    assert gap(folder, ()) == "no weights, only config.json"
    assert gap(folder, ("config.json",)) == ""
    assert gap(folder, ("config.json", "model.safetensors")) == "model.safetensors missing"
    assert gap(folder, ("*.json", "*.bin")) == "*.bin missing"
    assert gap(write(tmp_path / "empty"), ()) == "no config.json and weights"
    assert gap(write(tmp_path / "bare"), ("*.txt", "*.model")) == "no *.txt, *.model"
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    write(folder, **{"m-1__safetensors": tensors(), "m__safetensors__index__json": index})
    assert gap(folder, ()) == "m-2.safetensors missing"
    write(folder, **{"m-2__safetensors": tensors()[:-1]})
    assert gap(folder, ()).startswith("m-2.safetensors is cut short")
    write(folder, **{"m-2__safetensors": tensors()})
    assert gap(folder, ()) == ""


# The hub's cache


def test_a_repository_in_the_cache_is_found(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"unet/config.json": b"{}", "unet/m.safetensors": tensors(), "m.pt": b"\x80\x02"}
    folder = into_cache(home, "o/n", files)
    into_cache(home, "o/n", {}, reference="v1.1")
    part = Part(place="o/n", path="unet")
    for revision in (None, "v1.1", COMMIT):
        assert cached(part.model_copy(update={"revision": revision}), tmp_path) == folder / "unet"
    assert cached(Part(place="o/n", path="m.pt"), tmp_path) == folder / "m.pt"
    assert cached(Part(place="o/n", path="unet", revision="v2"), tmp_path) is None
    assert cached(Part(place="o/other", path="unet"), tmp_path) is None
    (home / "hub").rename(tmp_path / "elsewhere")
    assert cached(part, tmp_path) is None
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert cached(part, tmp_path) is not None


def test_a_partial_download_is_not_taken(home: Path, tmp_path: Path) -> None:
    folder = into_cache(home, "o/n", {"config.json": b"{}"})
    (folder.parents[1] / "blobs" / "0.incomplete").write_bytes(b"half")
    part = Part(place="o/n")
    assert cached(part, tmp_path) is None
    assert look(part, tmp_path) == locate.Found(folder, "no weights, only config.json")
    into_cache(home, "o/n", {"model.safetensors": tensors()})
    assert cached(part, tmp_path) == folder
    (folder / "model.safetensors").resolve().unlink()
    assert cached(part, tmp_path) is None
    with pytest.raises(DataError, match=r"o/n: no weights, only config.json .* switched off .* hf download o/n"):
        locate.locate(part, tmp_path)


def test_a_folder_beside_the_yaml_comes_first(home: Path, tmp_path: Path) -> None:
    into_cache(home, "o/n", {"config.json": b"{}", "m.safetensors": tensors()})
    mine = write_model(tmp_path / "o" / "n")
    assert locate.locate(Part(place="o/n"), tmp_path) == mine
    assert locate.locate(Part(place=str(mine)), Path("nowhere")) == mine


def test_what_is_missing_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(**fields: Any) -> str:
        with pytest.raises(DataError) as caught:
            locate.locate(Part(**fields), tmp_path)
        return str(caught.value)

    assert (
        error(place="./unet")
        == f"{tmp_path}/unet: there is no such folder or file (and './unet' is no hub id owner/name)"
    )
    assert error(place=str(tmp_path / "x" / "y")).startswith(f"{tmp_path}/x/y: there is no such folder or file")
    write(tmp_path / "m", config__json={})
    assert error(place="m", path="vae").startswith(f"{tmp_path}/m: vae missing")
    assert error(place="m").startswith(f"{tmp_path}/m: no weights, only config.json")
    address = "https://example.org/r50.tar"
    byhand = error(place="r50.tar", url=address)
    assert "It is on no hub; download it: curl -L --fail --create-dirs -o r50.tar https://example.org/r50.tar" in byhand
    text = error(place="o/n", revision="v1", path="unet", files=("a.json", "b.bin"))
    assert text == (
        "o/n, unet: not on this machine (looked for a folder, and in the hub's cache); it cannot be fetched: "
        "the hub is switched off (HF_HUB_OFFLINE). "
        "Where there is a network: hf download o/n unet/a.json unet/b.bin --revision v1"
    )
    monkeypatch.setattr(hub, "fetch", lambda part: pytest.fail("nothing may be fetched"))
    assert cached(Part(place="o/n"), tmp_path) is None


# A hub on this machine


FILES = {
    "README.md": b"#",
    "unet/config.json": b"{}",
    "unet/d.safetensors": tensors(),
    "unet/d.fp16.safetensors": tensors(b"half"),
    "unet/d.bin": b"\x80\x02 unet",
    "text/config.json": b"{ }",
    "text/pytorch_model.bin": b"\x80\x02 text",
    "m.pt": b"\x80\x02 image",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs; `asked` holds the files that were sent."""

    asked: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/slow/"):
            time.sleep(60)
        if path.startswith("/api/models/gated/"):
            return self.reply(403, b"", X_Error_Code="GatedRepo")
        if path.startswith("/api/models/o/n/revision/v9"):
            return self.reply(404, b"", X_Error_Code="RevisionNotFound")
        if "/tree/" in path:
            return self.json([{"type": "file", "path": n, "size": len(b), "oid": oid(b)} for n, b in FILES.items()])
        if path == "/api/models/o/n" or path.startswith("/api/models/o/n/revision/"):
            return self.json({"id": "o/n", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]})
        if path.startswith(f"/o/n/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/o/n/resolve/{COMMIT}/")
            if self.command == "GET":
                self.asked.append(name)
            return self.reply(200, FILES[name], ETag=f'"{oid(FILES[name])}"', X_Repo_Commit=COMMIT)
        return self.reply(404, b"", X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def reply(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """The hub for processes that are started now."""
    handler = type("Handler", (Hub,), {"asked": []})
    found = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield handler
    found.shutdown()
    found.server_close()


LOCATE = """
import json, sys
from pathlib import Path
from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.weights import hub
from gtg_bench.methods.weights.locate import locate
from gtg_bench.methods.weights.plan import Part
hub.PATIENCE = float(sys.argv[2])
for fields in json.loads(sys.argv[1]):
    try:
        print(locate(Part(**fields), Path(".")))
    except DataError as error:
        print(error)
"""


def located(cwd: Path, *parts: dict[str, Any], patience: float = 10) -> list[str]:
    """What `locate` says in a new process, a line each."""
    words = [sys.executable, "-c", LOCATE, json.dumps(parts), str(patience)]
    return subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True, timeout=50).stdout.splitlines()


def test_parts_are_fetched_and_nothing_needless(server: type[Hub], home: Path, tmp_path: Path) -> None:
    folder = home / "hub" / "models--o--n" / "snapshots" / COMMIT
    fields: list[dict[str, Any]] = [
        {"place": "o/n", "path": "unet"},
        {"place": "o/n", "path": "text", "revision": "v1.1"},
        {"place": "o/n", "path": "m.pt", "revision": COMMIT},
    ]
    assert located(tmp_path, *fields) == [str(folder / "unet"), str(folder / "text"), str(folder / "m.pt")]
    wanted = ["m.pt", "text/config.json", "text/pytorch_model.bin", "unet/config.json", "unet/d.safetensors"]
    assert sorted(server.asked) == wanted
    assert cached(Part(**fields[1]), tmp_path) == folder / "text"


def test_the_hubs_refusals_are_said_plainly(server: type[Hub], tmp_path: Path) -> None:
    gated, gone, revision, folder = located(
        tmp_path,
        {"place": "gated/x"},
        {"place": "no/x"},
        {"place": "o/n", "revision": "v9"},
        {"place": "o/n", "path": "vae"},
    )
    assert "it is gated: accept its terms at https://huggingface.co/gated/x, then `hf auth login`" in gated
    assert "there is no such repository, or it is private" in gone
    assert "it has no revision v9" in revision
    assert "the repository has no vae" in folder


def test_a_hub_that_does_not_answer_is_soon_given_up(server: type[Hub], tmp_path: Path) -> None:
    (text,) = located(tmp_path, {"place": "slow/x"}, patience=1)
    assert "it cannot be fetched: no answer from the hub (ReadTimeout" in text


COMMANDS: list[tuple[dict[str, Any], str]] = [
    (
        {"path": "unet", "files": ("config.json", "d.safetensors")},
        "hf download o/n unet/config.json unet/d.safetensors",
    ),
    ({"path": "m.pt", "revision": COMMIT}, f"hf download o/n m.pt --revision {COMMIT}"),
    ({"path": "text", "files": ("*.json", "*.bin")}, "hf download o/n --include 'text/*.json' --include 'text/*.bin'"),
    (
        {"path": "unet"},
        "hf download o/n --include 'unet/*' --exclude '*.fp16.*' --exclude '*non_ema*' --exclude '*.msgpack' "
        "--exclude '*.h5'",
    ),
]


@pytest.mark.parametrize(("fields", "command"), COMMANDS, ids=lambda value: str(value)[:30])
def test_the_command_fetches_what_is_looked_for(
    fields: dict[str, Any], command: str, server: type[Hub], tmp_path: Path
) -> None:
    part = Part(place="o/n", **fields)
    assert fetch_command(part) == command
    words = [sys.executable, "-m", "huggingface_hub.cli.hf", *shlex.split(command)[1:]]
    subprocess.run(words, check=True, capture_output=True)
    assert cached(part, tmp_path) is not None
    assert "unet/d.fp16.safetensors" not in server.asked


# Hashes


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(locate, "_NOTED_FROM", 1)
    monkeypatch.setattr(
        locate, "_read", lambda file: read.append(file) or hashlib.sha256(file.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(locate, "_SETTLED", -1.0)
    file = tmp_path / "a.bin"
    file.write_bytes(b"one")
    stat = file.stat()
    assert [sha256_of(file) for _ in range(3)] == [hashlib.sha256(b"one").hexdigest()] * 3
    assert len(read) == 1
    time.sleep(0.02)
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert sha256_of(file) == hashlib.sha256(b"two").hexdigest()
    other = tmp_path / "b.bin"
    other.write_bytes(b"six")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert sha256_of(file) == hashlib.sha256(b"six").hexdigest()


def test_a_bad_note_or_no_place_for_notes_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "_NOTED_FROM", 1)
    monkeypatch.setattr(locate, "_SETTLED", -1.0)
    file = tmp_path / "a.bin"
    file.write_bytes(b"one")
    right = sha256_of(file)
    (note,) = (tmp_path / "cache" / "sha256").iterdir()
    for text in ("", "[]", "{}", json.dumps({"state": "another", "sha256": "0" * 64}), '{"sha256": 3}'):
        note.write_text(text)
        assert sha256_of(file) == right
    (tmp_path / "flat").write_text("")
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "flat"))
    assert sha256_of(file) == right


def test_a_file_that_has_just_changed_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "_NOTED_FROM", 1)
    (tmp_path / "a.bin").write_bytes(b"one")
    sha256_of(tmp_path / "a.bin")
    assert not (tmp_path / "cache" / "sha256").exists()


# The version


def located_pipeline(folder: Path, **text: Any) -> Weights:
    values: dict[str, Any] = {"base": ".", "text_encoder": {"place": "text", "family": "bert"} | text}
    return find_weights("radbert-ldm", str(write_yaml(folder / "mine.yaml", **values)))


def test_every_file_that_is_loaded_changes_the_version_and_moving_does_not(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    version = located_pipeline(folder).version
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".yaml"]
    assert len(files) == 8
    for file in files:
        before = file.read_bytes()
        file.write_bytes(tensors(b"\1\1\1\1") if file.suffix == ".safetensors" else before + b" ")
        assert located_pipeline(folder).version != version, file
        file.write_bytes(before)
    assert located_pipeline(folder).version == version
    write(folder / "text", card__json={"family": "bert"}, README__md="#", modeling__py="print()")
    assert located_pipeline(folder.rename(tmp_path / "b")).version == version


def test_a_files_name_is_part_of_the_version(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    write(folder / "text", merges__txt="other")
    version = located_pipeline(folder).version
    for name, other in (("vocab.txt", "x"), ("merges.txt", "vocab.txt"), ("x", "merges.txt")):
        (folder / "text" / name).rename(folder / "text" / other)
    assert located_pipeline(folder).version != version


@pytest.mark.parametrize("change", [{"family": "clip"}, {"max_length": 60}])
def test_how_texts_are_cut_changes_the_version(change: dict[str, Any], tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    assert located_pipeline(folder, **change).version != located_pipeline(folder).version


def test_how_images_are_cut_changes_the_version(tmp_path: Path) -> None:
    (tmp_path / "image.pt").write_bytes(b"\x80\x02")
    fields: dict[str, Any] = {"encoder": "resnet18", "resize": 600, "crop": 224, "size_of_projection": 64}
    versions = set()
    for name in ("place", *fields):
        part = ImagePart(place="image.pt", **{key: fields[key] for key in fields if key == name})
        versions.add(Weights("x", WeightsPlan(image_encoder=part), {"image_encoder": tmp_path / "image.pt"}).version)
    assert len(versions) == 5
    plan = WeightsPlan(image_encoder=ImagePart(place="image.pt"))
    moved = (tmp_path / "image.pt").rename(tmp_path / "renamed.pt")
    assert Weights("x", plan, {"image_encoder": moved}).version in versions


def test_words_about_a_part_do_not_change_the_version(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    version = located_pipeline(folder).version
    assert located_pipeline(folder, note="n", licence="MIT", size=3, revision="v1").version == version


def test_the_same_parts_by_yaml_are_the_packaged_ones(tmp_path: Path) -> None:
    path = write_yaml(
        tmp_path / "mine.yaml",
        unet=str(ZOO / "cxrbert-ldm" / "unet"),
        scheduler=str(ZOO / "cxrbert-ldm" / "scheduler"),
        vae=str(ZOO / "autoencoder"),
        text_encoder={"place": str(ZOO / "cxr-bert"), "family": "cxr-bert", "max_length": 48},
    )
    packaged, mine = find_weights("cxrbert-ldm", None), find_weights("cxrbert-ldm", str(path))
    assert (packaged.name, mine.name) == ("phantom", str(path))
    assert packaged.version == mine.version


# Choosing weights


def test_a_choice_that_is_none_is_refused(tmp_path: Path) -> None:
    for choice in ("nowhere", str(tmp_path / "no.yaml")):
        with pytest.raises(UsageError, match="neither 'phantom', 'paper', a folder, nor a YAML file"):
            find_weights("cxrbert-ldm", choice)
    with pytest.raises(
        UsageError, match=r"no phantom weights of biovil-t are packaged \(there are: .*\bclip-ldm, .*cxrbert-ldm"
    ):
        find_weights("biovil-t", "phantom")
    with pytest.raises(UsageError, match="nothing is known of published weights of mine"):
        find_weights("mine", "paper")
    with pytest.raises(DataError, match=r"card\.json is missing"):
        find_weights("clip-ldm", str(write(tmp_path / "empty")))
    write(tmp_path / "sd", model_index__json={})
    with pytest.raises(DataError, match="name it as `base` in a YAML file"):
        find_weights("clip-ldm", str(tmp_path / "sd"))


def test_a_cards_wrong_defaults_name_the_card(tmp_path: Path) -> None:
    write(tmp_path / "text", card__json={"family": "bert", "max_length": "many"})
    write(tmp_path / "vae")
    components = {"vae": "../vae", "text_encoder": "../text"}
    write(tmp_path / "m", card__json={"components": components})
    with pytest.raises(DataError, match=r"m/card\.json: text_encoder\.max_length"):
        plan_of("clip-ldm", str(tmp_path / "m"))


# The published table


@pytest.mark.parametrize("method", paper.names())
def test_the_published_table_is_whole(method: str) -> None:
    known = paper.known(method)
    parts = known.plan.parts()
    assert known.plan.unnamed(known.unpublished) == []
    assert not set(parts) & set(known.unpublished)
    for name, part in parts.items():
        assert part.licence, name
        assert part.revision or part.url or "(unverified)" in part.note, name
        assert part.size or "(unverified)" in part.note, name
        assert part.revision is None or len(part.revision) == 40 or part.revision.startswith("v")
        assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in part.sha256.values())
        assert set(part.sha256) <= {*part.files, part.path}
    text = known.plan.text_encoder
    assert text is None or text.family in TEXT_ENCODERS.names()
    if known.unpublished:
        with pytest.raises(UsageError, match=f"of {method}, the .* not published; train one, or name yours"):
            published(method)
    else:
        assert published(method) == known.plan


def test_the_table_speaks_of_every_packaged_model() -> None:
    models = {entry.name for entry in CATALOG if entry.card.kind in ("ldm", "discriminative")}
    assert models <= set(paper.names())
    assert {name for name in paper.names() if not paper.known(name).unpublished} == {
        "cxrbert-ldm",
        "biovil",
        "biovil-t",
    }


def test_published_weights_are_read_from_the_cache(home: Path) -> None:
    plan = published("biovil")
    image, text = plan.image_encoder, plan.text_encoder
    assert image is not None
    assert text is not None
    into_cache(home, image.place, {image.path: b"\x80\x02"}, reference="v1.1")
    with pytest.raises(DataError, match=r"BiomedVLP-CXR-BERT-specialized: config\.json, .* --revision v1\.1"):
        find_weights("biovil", "paper")
    into_cache(home, text.place, dict.fromkeys(text.files, b"\x80\x02"), reference="v1.1")
    found = find_weights("biovil", "paper")
    assert found.places["image_encoder"].name == "biovil_image_resnet50_proj_size_128.pt"
    assert found.name == "paper"


def test_published_weights_run_from_the_cache(home: Path, tmp_path: Path) -> None:
    """The packaged model under the published names and in the published formats."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    parts = published("cxrbert-ldm").parts()
    sources = {"unet": "cxrbert-ldm/unet", "vae": "autoencoder", "scheduler": "cxrbert-ldm/scheduler"}
    for name, source in sources.items():
        part = parts[name]
        files = {f"{part.path}/{file.name}": file.read_bytes() for file in (ZOO / source).iterdir()}
        into_cache(home, part.place, files, commit=part.revision or COMMIT)
    text = ZOO / "cxr-bert"
    torch.save(load_file(text / "model.safetensors"), tmp_path / "model.bin")
    vocabulary = json.loads((text / "tokenizer.json").read_text())["model"]["vocab"]
    files = {
        "config.json": (text / "config.json").read_bytes(),
        "pytorch_model.bin": (tmp_path / "model.bin").read_bytes(),
        "vocab.txt": "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)).encode(),
        "special_tokens_map.json": b"{}",
        "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}',
    }
    into_cache(home, parts["text_encoder"].place, files, reference="v1.1")
    words = ["run", "-m", "cxrbert-ldm", "--weights", "paper", "--steps", "1", "--limit", "2", "--device", "cpu"]
    words += ["--runs-dir", str(tmp_path / "runs"), "--leaderboards-dir", str(tmp_path / "boards")]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "not a diagnostic tool" not in done.output
    (records,) = tmp_path.glob("runs/phantom/cxrbert-ldm/*/samples.jsonl")
    assert [json.loads(line)["status"] for line in records.read_text().splitlines()] == ["ok", "ok"]
    assert ",paper," in (tmp_path / "boards" / "phantom.csv").read_text()
    text_part = json.loads(call("check", "cxrbert-ldm", "--weights", "paper", "--json", code=1))
    assert ["pytorch_model.bin is not the published file" in problem for problem in text_part["problems"]] == [True]


def test_a_checkpoint_on_no_hub_has_its_place(tmp_path: Path) -> None:
    text = paper.known("cxrclip-ldm").plan.text_encoder
    assert isinstance(text, TextPart)
    assert text.place == str(tmp_path / "cache" / "weights" / "r50_mcc.tar")
    assert fetch_command(text).startswith(f"curl -L --fail --create-dirs -o {text.place} https://")


# The command line


def call(*words: object, code: int = 0) -> str:
    done: Result = CliRunner().invoke(app, ["weights", *map(str, words)], env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done.output


def test_list_has_a_row_for_each_method_and_source() -> None:
    rows = {(row["method"], row["weights"]): row for row in json.loads(call("list", "--json"))}
    named = {(method, "phantom" if of_phantom(weights) else weights) for method, weights in rows}
    assert named >= {(method, source) for method in paper.names() for source in ("phantom", "paper")}
    assert rows["radbert-ldm", "phantom-quick"]["state"] == "packaged"
    assert rows["cxrbert-ldm", "phantom"]["state"] == "packaged"
    assert rows["biovil-t", "phantom"]["state"] == "not packaged"
    assert rows["cxrbert-ldm", "paper"]["state"] == "missing"
    assert rows["cxrbert-ldm", "paper"]["size"] > 4e9
    assert rows["radbert-ldm", "paper"]["state"] == "not published"
    assert rows["radbert-ldm", "paper"]["note"] == "the U-Net is not published"
    files = [file for name in ("cxrbert-ldm", "autoencoder", "cxr-bert") for file in (ZOO / name).rglob("*")]
    sizes = [file.stat().st_size for file in files if file.is_file() and file.name != "card.json"]
    assert rows["cxrbert-ldm", "phantom"]["size"] == sum(sizes)


def test_list_sees_what_is_here(home: Path) -> None:
    image = published("biovil-t").image_encoder
    assert image is not None
    into_cache(home, image.place, {image.path: b"\x80\x02"}, commit=str(image.revision))
    rows = {(row["method"], row["weights"]): row for row in json.loads(call("list", "--json"))}
    assert rows["biovil-t", "paper"]["state"] == "partly here"


def test_the_table_fits_80_columns() -> None:
    text = call("list")
    assert max(map(len, text.splitlines())) <= 80
    assert "clip-ldm-learnable" in text


def test_list_and_check_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gtg_bench.benchmark.cli import app\n"
        "for words in (['list'], ['list', '--json'], ['check'], ['check', 'biovil', '--weights', 'paper']):\n"
        "    assert CliRunner().invoke(app, ['weights', *words]).exit_code == (1 if 'biovil' in words else 0), words\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'pandas', 'scipy', 'huggingface_hub'} & set(sys.modules)\n"
        "print(heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_check_of_packaged_weights() -> None:
    text = call("check", "cxrbert-ldm")
    assert f"ready, version {find_weights('cxrbert-ldm', None).version}" in text
    assert "ok: cross-attention: the U-Net takes 64, the text encoder gives 64" in text
    assert "ok: latents: 4 channels, scaled by 0.34085; the U-Net takes 4" in text
    assert "ok: schedule: 1000 timesteps, predicts epsilon" in text
    assert "NOT OK" not in text
    found = json.loads(call("check", "cxrbert-ldm", "--json"))
    assert (found["ready"], [part["state"] for part in found["parts"]]) == (True, ["here"] * 4)
    assert "packaged weights are whole" in call("check")
    assert json.loads(call("check", "--json"))["damaged"] == []


def test_check_of_published_weights_says_how_to_fetch_them() -> None:
    text = call("check", "cxrbert-ldm", "--weights", "paper", code=1)
    assert "not ready" in text
    assert "hf download microsoft/BiomedVLP-CXR-BERT-specialized config.json pytorch_model.bin" in text
    found = json.loads(call("check", "cxrbert-ldm", "--weights", "paper", "--json", code=1))
    assert [part["fetch"].split()[:2] for part in found["parts"]] == [["hf", "download"]] * 4
    assert "licence: MIT" in text


def test_check_of_an_unpublished_method_prints_a_yaml_that_works(tmp_path: Path) -> None:
    found = json.loads(call("check", "radbert-ldm", "--weights", "paper", "--json", code=1))
    assert [part["part"] for part in found["parts"] if part["state"] == "not published"] == ["unet"]
    assert "To use your own" in call("check", "radbert-ldm", "--weights", "paper", code=1)
    (tmp_path / "mine.yaml").write_text(found["yaml"])
    write_model(tmp_path / "FOLDER", **UNET)
    mine = json.loads(call("check", "radbert-ldm", "--weights", tmp_path / "mine.yaml", "--json", code=1))
    states = {part["part"]: (part["state"], part["fetch"]) for part in mine["parts"]}
    assert states["unet"] == ("here", "")
    published = {part["part"]: part["fetch"] for part in found["parts"]}
    assert states["text_encoder"] == ("missing", published["text_encoder"])


@pytest.mark.parametrize("method", paper.names())
def test_every_published_method_can_be_checked(method: str) -> None:
    found = json.loads(call("check", method, "--weights", "paper", "--json", code=1))
    if found["yaml"]:
        WeightsPlan.model_validate(yaml.safe_load(found["yaml"]))


def test_check_of_a_yaml(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    text_encoder: dict[str, Any] = {"place": "text", "family": "bert"}
    path = write_yaml(folder / "mine.yaml", base=".", text_encoder=text_encoder)
    text = call("check", "radbert-ldm", "--weights", path)
    assert "ok: latents: 4 channels, scaled by 0.18215; the U-Net takes 4" in text
    assert f"ready, version {find_weights('radbert-ldm', str(path)).version}" in text
    write(folder / "unet", config__json=UNET | {"cross_attention_dim": 768})
    assert "NOT OK: cross-attention: the U-Net takes 768, the text encoder gives 64" in call(
        "check", "radbert-ldm", "--weights", path, code=1
    )
    write(folder / "unet", config__json=UNET | {"in_channels": 8})
    assert "NOT OK: latents" in call("check", "radbert-ldm", "--weights", path, code=1)
    write(folder / "unet", config__json=UNET)
    write_yaml(path, base=".", text_encoder=text_encoder | {"max_length": 129, "family": "brt"})
    text = call("check", "radbert-ldm", "--weights", path, code=1)
    assert "NOT OK: text length: texts of 129 tokens, the text encoder takes up to 128" in text
    assert "NOT OK: text encoder family: 'brt' is none of" in text
    write_yaml(path, base=".", text_encoder=text_encoder)
    (folder / "text" / "vocab.txt").unlink()
    assert "NOT OK: tokenizer" in call("check", "radbert-ldm", "--weights", path, code=1)
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    assert "NOT OK: schedule: cannot be read" in call("check", "radbert-ldm", "--weights", path, code=1)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "scheduler_config.json missing" in call("check", "radbert-ldm", "--weights", path, code=1)
    write_yaml(path, base=".", text_encoder=text_encoder | {"place": "txet/x"})
    assert f"neither a folder {folder}/txet/x, nor in the hub's cache" in call(
        "check", "radbert-ldm", "--weights", path, code=1
    )
    write_yaml(path, base=".")
    assert "text_encoder: not named" in call("check", "radbert-ldm", "--weights", path, code=1)


def test_check_reads_the_other_layouts_of_text_encoders(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    path = folder / "mine.yaml"
    tower = {"model_cfg": {"text_cfg": {"width": 64, "context_length": 77}}}
    write(folder / "open", open_clip_config__json=tower, open_clip_model__safetensors=tensors())
    write_yaml(path, base=".", text_encoder={"place": "open", "family": "open-clip"})
    assert "the text encoder gives 64" in call("check", "openclip-ldm", "--weights", path)
    (folder / "r50.tar").write_bytes(b"\x80\x02")
    write(folder / "bert", config__json=TEXT, vocab__txt="lung")
    write_yaml(path, base=".", text_encoder={"place": "r50.tar", "family": "cxr-clip"}, tokenizer="bert")
    assert "the text encoder gives 64" in call("check", "cxrclip-ldm", "--weights", path)
    write(folder / "text", config__json={"text_config": TEXT | {"hidden_size": 32}})
    write_yaml(path, base=".", text_encoder={"place": "text", "family": "clip"})
    assert "the text encoder gives 32" in call("check", "clip-ldm", "--weights", path, code=1)
    write(folder / "lora", adapter_config__json={}, adapter_model__safetensors=tensors())
    write(folder / "text", config__json=TEXT)
    write_yaml(path, base=".", adapter="lora", text_encoder={"place": "text", "family": "clip"})
    assert "ok: adapter: adapter_config.json" in call("check", "clip-ldm-lora", "--weights", path)
    (folder / "image.pt").write_bytes(b"\x80\x02")
    write(folder / "text", config__json=TEXT | {"projection_size": 64})
    text_encoder = {"place": "text", "family": "cxr-bert"}
    write_yaml(path, text_encoder=text_encoder, image_encoder={"place": "image.pt"})
    assert "NOT OK: joint space" in call("check", "biovil", "--weights", path, code=1)
    write_yaml(path, text_encoder=text_encoder, image_encoder={"place": "image.pt", "size_of_projection": 64})
    assert "ready, version" in call("check", "biovil", "--weights", path)
    assert "unet: not named" in call("check", "cxrbert-ldm", "--weights", path, code=1)


def test_a_file_that_is_not_the_published_one_is_seen(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    right = hashlib.sha256(tensors()).hexdigest()
    for digest, code in ((right, 0), ("0" * 64, 1)):
        unet = {"place": "unet", "sha256": {"diffusion_pytorch_model.safetensors": digest}}
        path = write_yaml(folder / "m.yaml", base=".", unet=unet, text_encoder={"place": "text", "family": "bert"})
        text = call("check", "radbert-ldm", "--weights", path, code=code)
        assert ("is not the published file" in text) is bool(code)


def test_damaged_packaged_weights_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(ZOO, zoo)
    for module in (find_module, report):
        monkeypatch.setattr(module, "ZOO", zoo)
    assert "packaged weights are whole" in call("check")
    weights = zoo / "cxrbert-ldm" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "is not the file that its card names" in call("check", code=1)
    assert "is not the file that its card names" in call("check", "cxrbert-ldm", code=1)
    assert "NOT OK" not in call("check", "clip-ldm")
    weights.write_bytes(content[:-1])
    assert "cut short" in call("check", "cxrbert-ldm", code=1)
    shutil.copytree(ZOO, zoo, dirs_exist_ok=True)
    write(zoo / "cxr-bert", added_tokens__json={})
    assert "added_tokens.json is not on its card" in call("check", "cxrbert-ldm", code=1)
    (zoo / "cxr-bert" / "added_tokens.json").unlink()
    (zoo / "priors" / "phantom.npz").unlink()
    assert "phantom.npz is missing, but its card names it" in call("check", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cxrbert-lmd"], "unknown method 'cxrbert-lmd'; did you mean cxrbert-ldm"),
        (["clip-ldm-lora"], "no phantom weights of clip-ldm-lora are packaged"),
        (["cxrbert-ldm", "--weights", "nowhere"], "neither 'phantom', 'paper', a folder, nor a YAML file"),
        (["class-prior", "--weights", "paper"], "class-prior has no weights to choose"),
        (["--weights", "paper"], "--weights belongs to one method"),
    ],
)
def test_a_wrong_word_is_code_2(words: list[str], message: str) -> None:
    assert message in " ".join(call("check", *words, code=2).split())


def test_a_method_without_a_model_needs_nothing() -> None:
    assert "class-prior: it has no weights to choose" in call("check", "class-prior")
