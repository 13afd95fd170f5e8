"""Parts in the Hugging Face cache, and downloads from a hub that a local server plays."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.weights import Part, hub
from gtg_bench.methods.weights.hub import fetch_command, locate, look

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENSORS = save({"w": np.zeros(1, np.float32)})


def found(part: Part) -> Path | None:
    """The place of a part that is complete on this machine."""
    place, gap = look(part, Path("nowhere"))
    return None if gap else place


def test_a_cached_repository_is_found_by_branch_tag_and_commit(
    home: Path, into_cache: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = into_cache("o/n", {"unet/config.json": b"{}", "unet/m.safetensors": TENSORS, "m.pt": b"\x80\x02"})
    into_cache("o/n", {}, reference="v1.1")
    for revision in (None, "v1.1", COMMIT):
        assert found(Part(place="o/n", path="unet", revision=revision)) == folder / "unet"
    assert found(Part(place="o/n", path="m.pt")) == folder / "m.pt"
    for place, revision in (("o/n", "v2"), ("o/other", None)):
        assert look(Part(place=place, path="unet", revision=revision), tmp_path) == (None, "not downloaded")
    (home / "hub").rename(tmp_path / "elsewhere")
    assert found(Part(place="o/n", path="unet")) is None
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert found(Part(place="o/n", path="unet")) is not None


def test_a_partial_download_is_rejected(into_cache: Callable[..., Path]) -> None:
    folder = into_cache("o/n", {"config.json": b"{}"})
    (folder.parents[1] / "blobs").joinpath("0.incomplete").write_bytes(b"half")
    assert look(Part(place="o/n"), Path("nowhere")) == (folder, "weights missing")
    into_cache("o/n", {"model.safetensors": TENSORS})
    assert found(Part(place="o/n")) == folder
    (folder / "model.safetensors").resolve().unlink()
    assert found(Part(place="o/n")) is None


def test_a_local_folder_takes_precedence(into_cache: Callable[..., Path], tmp_path: Path) -> None:
    into_cache("o/n", {"config.json": b"{}", "m.safetensors": TENSORS})
    mine = tmp_path / "o" / "n"
    mine.mkdir(parents=True)
    (mine / "m.safetensors").write_bytes(TENSORS)
    assert locate(Part(place="o/n"), tmp_path) == locate(Part(place=str(mine)), Path("nowhere")) == mine


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"place": "./unet"}, "unet:"),
        ({"place": "m", "path": "vae"}, "vae missing"),
        ({"place": "m"}, "weights missing"),
        ({"place": "r50.tar", "url": "https://example.org/r50.tar"}, "curl -L .* https://example.org/r50.tar"),
        (
            {"place": "o/n", "revision": "v1", "path": "unet", "files": ("a.json", "b.bin")},
            "o/n, unet: .*HF_HUB_OFFLINE.* hf download o/n unet/a.json unet/b.bin --revision v1",
        ),
    ],
)
def test_a_missing_part_names_file_and_command(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(DataError, match=words):
        locate(Part(**fields), tmp_path)


# A hub on this machine


FILES = {
    "README.md": b"#",
    "unet/config.json": b"{}",
    "unet/d.safetensors": TENSORS,
    "unet/d.fp16.safetensors": save({"w": np.zeros(1, np.float16)}),
    "unet/d.bin": b"\x80\x02 unet",
    "text/config.json": b"{ }",
    "text/pytorch_model.bin": b"\x80\x02 text",
    "m.pt": b"\x80\x02 image",
}


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download needs; `sent` lists the files that were downloaded."""

    sent: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/slow/"):
            return time.sleep(60)  # longer than any client's timeout
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
                self.sent.append(name)
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
        """Print nothing."""


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub for this process and for those that it starts."""
    handler = type("Handler", (Hub,), {"sent": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield handler
    http.shutdown()
    http.server_close()


def test_a_download_fetches_only_the_files_it_needs(server: type[Hub], home: Path) -> None:
    folder = home / "hub" / "models--o--n" / "snapshots" / COMMIT
    for path, revision in (("unet", None), ("text", "v1.1"), ("m.pt", COMMIT)):
        part = Part(place="o/n", path=path, revision=revision)
        assert locate(part, Path("nowhere")) == found(part) == folder / path
    wanted = ["m.pt", "text/config.json", "text/pytorch_model.bin", "unet/config.json", "unet/d.safetensors"]
    assert sorted(server.sent) == wanted


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"place": "gated/x"}, "https://huggingface.co/gated/x"),
        ({"place": "no/x"}, "repository does not exist"),
        ({"place": "o/n", "revision": "v9"}, "no revision v9"),
        ({"place": "o/n", "path": "vae"}, "repository has no vae"),
        ({"place": "slow/x"}, "ReadTimeout"),
    ],
)
def test_the_reason_for_a_failed_download_is_given(
    fields: dict[str, Any], words: str, server: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 1)
    with pytest.raises(DataError, match=words):
        locate(Part(**fields), Path("nowhere"))


@pytest.mark.parametrize(
    ("fields", "selection"),
    [
        ({"path": "unet", "files": ("config.json", "d.safetensors")}, "unet/config.json unet/d.safetensors"),
        ({"path": "m.pt", "revision": COMMIT}, f"m.pt --revision {COMMIT}"),
        ({"path": "text", "files": ("*.json", "*.bin")}, "--include 'text/*.json' --include 'text/*.bin'"),
        ({"path": "unet"}, "--include 'unet/*' --exclude '*.fp16.*'"),
    ],
)
def test_the_printed_command_downloads_the_part(fields: dict[str, Any], selection: str, server: type[Hub]) -> None:
    part = Part(place="o/n", **fields)
    command = fetch_command(part)
    assert command.startswith(f"hf download o/n {selection}")
    words = [sys.executable, "-m", "huggingface_hub.cli.hf", *shlex.split(command)[1:]]
    subprocess.run(words, check=True, capture_output=True)
    assert found(part) is not None
    assert "unet/d.fp16.safetensors" not in server.sent
