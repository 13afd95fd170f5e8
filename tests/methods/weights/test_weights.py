"""Weights: the plan, the files, the version that identifies them, the published table, and `gtg-bench weights`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.cli import app
from gtg_bench.methods.catalog import CATALOG
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights import Weights, WeightsPlan, check, files, find, find_weights, paper
from gtg_bench.methods.weights import plan as plan_module
from gtg_bench.methods.weights.files import choose, damage, gap, sha256_of
from gtg_bench.methods.weights.find import ZOO, plan_of
from gtg_bench.methods.weights.hub import fetch_command
from gtg_bench.methods.weights.paper import published
from gtg_bench.methods.weights.plan import ImagePart, read_plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET: dict[str, Any] = {"cross_attention_dim": 64, "in_channels": 4, "sample_size": 8}
TEXT: dict[str, Any] = {"hidden_size": 64, "max_position_embeddings": 128}
TENSORS, OTHER_TENSORS = (save({"w": np.full(1, value, np.float32)}) for value in (0, 1))


def write(folder: Path, **contents: Any) -> Path:
    """Write files into a folder; `__` in a name becomes a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        text = json.dumps(content) if isinstance(content, dict) else content
        (folder / name.replace("__", ".")).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def write_pipeline(folder: Path) -> Path:
    """Stable Diffusion's folders and that of a text encoder."""
    write(folder / "unet", config__json=UNET, diffusion_pytorch_model__safetensors=TENSORS)
    write(folder / "vae", config__json={"latent_channels": 4}, diffusion_pytorch_model__safetensors=TENSORS)
    write(folder / "scheduler", scheduler_config__json={"num_train_timesteps": 1000})
    write(folder / "text", config__json=TEXT, model__safetensors=TENSORS, vocab__txt="[PAD]\nlung")
    return folder


def write_yaml(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


# The plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unte: x", "unte.* unet"),
        ("unet: {place: x, revison: y}", "unet.revison.* revision"),
        ("unet: {place: x, revision: 1.0}", "unet.revision"),
        ("unet: [x]", "unet"),
        ("unet: ''", "unet.place"),
        ("unet: {place: x, path: ../y}", "unet.path.*../y"),
        ("text_encoder: x", "text_encoder.family"),
        ("text_encoder: {place: x, family: clip, max_length: 0}", "text_encoder.max_length"),
        ("image_encoder: {place: x, crop: 600}", "image_encoder.* 600 .* 512"),
        ("base: {place: x, files: [y]}", "base.* files"),
        ("defaults: {stesp: 5}", "stesp.* steps"),
        ("defaults: {steps: many}", "many"),
        ("defaults: {guidance: true}", "guidance.* True"),
        ("", "mapping"),
        ("unet: [", "YAML"),
        ("\udcff", "YAML"),
    ],
)
def test_a_wrong_yaml_names_file_and_field(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rf"^{path}[\s\S]*{words}"):
        read_plan(path)


def test_base_provides_the_parts_that_are_not_named() -> None:
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
    assert WeightsPlan(defaults={"layers": 8, "steps": 5}).defaults == {"layers": "8", "steps": 5}


def test_the_documented_example_is_a_plan(tmp_path: Path) -> None:
    """The one in the module's docstring and every YAML block of methods/README.md."""
    readme = Path(__file__).parents[3] / "methods" / "README.md"
    shown = readme.read_text(encoding="utf-8") if readme.exists() else ""
    examples = re.findall(r"^```yaml\n(.*?)^```$", shown, flags=re.M | re.S)
    for example in (str(plan_module.__doc__).partition("`--weights`:")[2], *examples):
        (tmp_path / "mine.yaml").write_text(textwrap.dedent(example))
        assert read_plan(tmp_path / "mine.yaml").unnamed() == []


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
def test_the_files_that_a_part_is_loaded_from(names: str, patterns: str, chosen: str) -> None:
    assert choose(names.split(), patterns.split()) == sorted(names.split()[int(place)] for place in chosen)


def test_damaged_files_are_detected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.pt", "w") as archive:
        archive.writestr("data.pkl", "x" * 100)
    archived = (tmp_path / "whole.pt").read_bytes()
    lfs, page = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\n<!DOCTYPE html><title>404</title>"
    cases = [
        ("a.safetensors", TENSORS, ""),
        ("b.safetensors", TENSORS[:-1], "truncated or damaged"),
        ("c.safetensors", b"\xff" * 40, "truncated or damaged"),
        ("d.safetensors", (9).to_bytes(8, "little") + b"[1, 2, 3]", "truncated or damaged"),
        ("e.bin", b"", "is empty"),
        ("f.bin", lfs, "Git LFS pointer"),
        ("g.pt", page, "web page"),
        ("h.pt", archived, ""),
        ("i.pt", archived[:-10], "truncated"),
        ("j.bin", b"\x80\x02an old pickle", ""),
    ]
    for name, content, problem in cases:
        (tmp_path / name).write_bytes(content)
        found = damage(tmp_path / name)
        assert (problem in found, bool(found)) == (True, bool(problem)), name


def test_missing_files_are_detected(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config__json=UNET)
    assert gap(folder, ()) == "weights missing"
    assert gap(folder, ("config.json",)) == ""
    assert gap(folder, ("config.json", "model.safetensors")) == "model.safetensors missing"
    assert gap(folder, ("*.json", "*.bin")) == "*.bin missing"
    assert gap(write(tmp_path / "empty"), ()) == "config.json and weights missing"
    assert gap(tmp_path / "empty", ("*.txt", "*.model")) == "*.txt, *.model missing"
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    write(folder, **{"m-1__safetensors": TENSORS, "m__safetensors__index__json": index})
    assert gap(folder, ()) == "m-2.safetensors missing"
    write(folder, **{"m-2__safetensors": TENSORS[:-1]})
    assert gap(folder, ()).startswith("m-2.safetensors is truncated")
    write(folder, **{"m-2__safetensors": TENSORS})
    assert gap(folder, ()) == ""


def test_a_large_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is not cached: its timestamps may not show the next change. A damaged cache is harmless."""
    hashed, whole_hash = [], files._hash
    monkeypatch.setattr(files, "_CACHED_FROM", 1)
    monkeypatch.setattr(files, "_hash", lambda file: hashed.append(file) or whole_hash(file))
    file, other, notes = tmp_path / "a.bin", tmp_path / "b.bin", tmp_path / "cache" / "sha256"
    file.write_bytes(b"one")
    right, stat = hashlib.sha256(b"one").hexdigest(), file.stat()
    assert (sha256_of(file), list(tmp_path.glob("cache/sha256/*"))) == (right, [])
    monkeypatch.setattr(files, "_SETTLED", -1.0)  # every file counts as unchanged for long
    assert {sha256_of(file) for _ in range(3)} == {right}
    assert len(hashed) == 2
    (note,) = notes.iterdir()
    for content in (b"", b"{}", b"0" * 63, b"\xff\xfe"):
        note.write_bytes(content)
        assert sha256_of(file) == right
    time.sleep(0.02)
    for content in (b"two", b"six"):  # of the same size and time; the second is another file
        other.write_bytes(content)
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.replace(file)
        assert sha256_of(file) == hashlib.sha256(content).hexdigest()
    file.write_bytes(b"ten")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert sha256_of(file) == hashlib.sha256(b"ten").hexdigest()
    (tmp_path / "flat").touch()
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "flat"))
    assert sha256_of(file) == hashlib.sha256(b"ten").hexdigest()


# The version


def located_pipeline(folder: Path, **text: Any) -> Weights:
    values: dict[str, Any] = {"base": ".", "text_encoder": {"place": "text", "family": "bert"} | text}
    return find_weights("radbert-ldm", str(write_yaml(folder / "mine.yaml", **values)))


def test_the_version_depends_on_every_file_and_its_name_but_not_on_its_folder(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    write(folder / "text", merges__txt="other")
    version = located_pipeline(folder).version
    loaded = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".yaml"]
    assert len(loaded) == 9
    for file in loaded:
        before = file.read_bytes()
        file.write_bytes(OTHER_TENSORS if file.suffix == ".safetensors" else before + b" ")
        assert located_pipeline(folder).version != version, file
        file.write_bytes(before)
    write(folder / "text", card__json={"family": "bert"}, README__md="#", modeling__py="print()")
    folder = folder.rename(tmp_path / "b")
    assert located_pipeline(folder).version == version
    for name, other in (("vocab.txt", "x"), ("merges.txt", "vocab.txt"), ("x", "merges.txt")):
        (folder / "text" / name).rename(folder / "text" / other)
    assert located_pipeline(folder).version != version, "two files have swapped their names"


def test_the_version_depends_on_preprocessing_and_not_on_notes(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    version = located_pipeline(folder).version
    assert located_pipeline(folder, note="n", licence="MIT", size=3, revision="v1").version == version
    for change in ({"family": "clip"}, {"max_length": 60}):
        assert located_pipeline(folder, **change).version != version
    (tmp_path / "image.pt").write_bytes(b"\x80\x02")
    fields: dict[str, Any] = {"encoder": "resnet18", "resize": 600, "crop": 224, "size_of_projection": 64}
    parts = [ImagePart(place="image.pt", **{k: v for k, v in fields.items() if k == name}) for name in ("", *fields)]
    places = {"image_encoder": tmp_path / "image.pt"}
    versions = [Weights("x", WeightsPlan(image_encoder=part), places).version for part in parts]
    assert len(set(versions)) == 5
    moved = {"image_encoder": (tmp_path / "image.pt").rename(tmp_path / "renamed.pt")}
    assert Weights("x", WeightsPlan(image_encoder=parts[0]), moved).version == versions[0]


def test_the_packaged_parts_named_in_yaml_have_the_packaged_version(tmp_path: Path) -> None:
    parts: dict[str, Any] = {name: str(ZOO / "cxrbert-ldm" / name) for name in ("unet", "scheduler")}
    text = {"place": str(ZOO / "cxr-bert"), "family": "cxr-bert", "max_length": 48, "words_only": True}
    path = write_yaml(tmp_path / "mine.yaml", vae=str(ZOO / "autoencoder"), text_encoder=text, **parts)
    packaged, mine = find_weights("cxrbert-ldm", None), find_weights("cxrbert-ldm", str(path))
    assert (packaged.name, mine.name) == ("phantom-varied", str(path))
    assert packaged.version == mine.version == "836348725f61"


# Choosing weights


def test_a_wrong_choice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "empty")
    write(tmp_path / "sd", model_index__json={})
    write(tmp_path / "text", card__json={"family": "bert", "max_length": "many"})
    write(tmp_path / "vae")
    write(tmp_path / "m", card__json={"components": {"vae": "../vae", "text_encoder": "../text"}})
    cases: list[tuple[str, str, type[Exception], str]] = [
        ("cxrbert-ldm", "nowhere", UsageError, "--weights nowhere"),
        ("cxrbert-ldm", str(tmp_path / "no.yaml"), UsageError, r"no\.yaml"),
        ("biovil-t", "phantom", UsageError, r"biovil-t .*\bclip-ldm, .*cxrbert-ldm"),
        ("mine", "paper", UsageError, "of mine"),
        ("clip-ldm", str(tmp_path / "empty"), DataError, r"card\.json"),
        ("clip-ldm", str(tmp_path / "sd"), DataError, "`base`"),
        ("clip-ldm", str(tmp_path / "m"), DataError, r"text/card\.json .*max_length"),
    ]
    for method, choice, kind, message in cases:
        with pytest.raises(kind, match=message):
            plan_of(method, choice)


# The published table


@pytest.mark.parametrize("method", paper.names())
def test_an_entry_of_the_published_table_is_whole(method: str) -> None:
    plan = paper.known(method)
    parts = plan.parts()
    assert plan.unnamed() == []
    assert not set(parts) & set(plan.unpublished)
    for name, part in parts.items():
        assert part.licence, name
        assert part.revision or part.url or "(unverified)" in part.note, name
        assert part.size or "(unverified)" in part.note, name
        assert part.revision is None or len(part.revision) == 40 or part.revision.startswith("v")
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in part.sha256.values())
        assert set(part.sha256) <= {*part.files, part.path}
    assert plan.text_encoder is None or plan.text_encoder.family in TEXT_ENCODERS.names()
    if plan.unpublished:
        with pytest.raises(UsageError, match=f"not published for {method}"):
            published(method)


def test_the_table_has_every_packaged_model(tmp_path: Path) -> None:
    assert {e.name for e in CATALOG if e.card.kind in ("ldm", "discriminative")} <= set(paper.names())
    assert [n for n in paper.names() if not paper.known(n).unpublished] == ["cxrbert-ldm", "biovil", "biovil-t"]
    text = paper.known("cxrclip-ldm").text_encoder
    assert text is not None
    assert fetch_command(text).startswith(f"curl -L --fail --create-dirs -o {tmp_path}/cache/weights/r50_mcc.tar http")


def test_published_weights_run_from_the_cache(into_cache: Callable[..., Path], torch: Any, tmp_path: Path) -> None:
    """The packaged model under the published names and in the published formats."""
    from safetensors.torch import load_file

    parts = published("cxrbert-ldm").parts()
    sources = {"unet": "cxrbert-ldm/unet", "vae": "autoencoder", "scheduler": "cxrbert-ldm/scheduler"}
    for name, source in sources.items():
        part = parts[name]
        contents = {f"{part.path}/{file.name}": file.read_bytes() for file in (ZOO / source).iterdir()}
        into_cache(part.place, contents, commit=part.revision or COMMIT)
    text = ZOO / "cxr-bert"
    torch.save(load_file(text / "model.safetensors"), tmp_path / "model.bin")
    vocabulary = json.loads((text / "tokenizer.json").read_text())["model"]["vocab"]
    contents = {
        "config.json": (text / "config.json").read_bytes(),
        "pytorch_model.bin": (tmp_path / "model.bin").read_bytes(),
        "vocab.txt": "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)).encode(),
        "special_tokens_map.json": b"{}",
        "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}',
    }
    into_cache(parts["text_encoder"].place, contents, reference="v1.1")
    words = ["run", "-m", "cxrbert-ldm", "--weights", "paper", "--steps", "1", "--limit", "2", "--device", "cpu"]
    words += ["--runs-dir", str(tmp_path / "runs"), "--leaderboards-dir", str(tmp_path / "boards")]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    (records,) = tmp_path.glob("runs/phantom/cxrbert-ldm/*/samples.jsonl")
    assert [json.loads(line)["status"] for line in records.read_text().splitlines()] == ["ok", "ok"]
    assert ",paper," in (tmp_path / "boards" / "phantom.csv").read_text()
    found = report("cxrbert-ldm", "--weights", "paper", code=1)
    assert ["pytorch_model.bin is not the published file" in problem for problem in found["problems"]] == [True]


# The command line


def call(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["weights", *map(str, words)], env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done.output


def report(*words: object, code: int = 0) -> dict[str, Any]:
    return json.loads(call("check", *words, "--json", code=code))


def failed(*words: object) -> list[str]:
    """The names of the checks that failed."""
    return [row["check"] for row in report(*words, code=1)["checks"] if not row["ok"]]


def test_list_has_a_row_for_each_method_and_source(into_cache: Callable[..., Path]) -> None:
    image = published("biovil-t").image_encoder
    assert image is not None
    into_cache(image.place, {image.path: b"\x80\x02"}, commit=str(image.revision))
    rows = {(row["method"], row["weights"]): row for row in json.loads(call("list", "--json"))}
    named = {(method, "phantom" if of_phantom(weights) else weights) for method, weights in rows}
    assert named >= {(method, source) for method in paper.names() for source in ("phantom", "paper")}
    states = {
        ("radbert-ldm", "phantom-quick"): "packaged",
        ("cxrbert-ldm", "phantom-varied"): "packaged",
        ("biovil-t", "phantom"): "not packaged",
        ("biovil-t", "paper"): "partly downloaded",
        ("cxrbert-ldm", "paper"): "not downloaded",
        ("radbert-ldm", "paper"): "not published",
    }
    assert {row: rows[row]["state"] for row in states} == states
    assert rows["cxrbert-ldm", "paper"]["size"] > 4e9
    loaded = [file for name in ("cxrbert-ldm", "autoencoder", "cxr-bert") for file in (ZOO / name).rglob("*")]
    sizes = [file.stat().st_size for file in loaded if file.is_file() and file.name != "card.json"]
    assert rows["cxrbert-ldm", "phantom-varied"]["size"] == sum(sizes)
    table = call("list").partition("not published:")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_list_and_check_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gtg_bench.benchmark.cli import app\n"
        "for words in (['list'], ['list', '--json'], ['check'], ['check', 'biovil', '--weights', 'paper']):\n"
        "    assert CliRunner().invoke(app, ['weights', *words]).exit_code == (1 if 'biovil' in words else 0), words\n"
        "print({'torch', 'transformers', 'diffusers', 'pandas', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_check_of_packaged_weights() -> None:
    text = call("check", "cxrbert-ldm")
    assert find_weights("cxrbert-ldm", None).version in text
    assert "FAILED" not in text
    found = report("cxrbert-ldm")
    assert (found["ready"], [part["state"] for part in found["parts"]]) == (True, ["found"] * 4)
    details = {row["check"]: row["detail"] for row in found["checks"]}
    known = {"text encoder family": "cxr-bert", "tokenizer": "tokenizer.json", "text length": "48"}
    known |= {"cross-attention": "64", "latents": "1.00513", "schedule": "1000 timesteps, epsilon"}
    assert {name: word in details[name] for name, word in known.items()} == dict.fromkeys(known, True)


def test_the_template_for_an_unpublished_method_works(tmp_path: Path) -> None:
    for method in paper.names():
        if template := report(method, "--weights", "paper", code=1)["yaml"]:
            WeightsPlan.model_validate(yaml.safe_load(template))
    found = report("radbert-ldm", "--weights", "paper", code=1)
    fetch = {part["part"]: part["fetch"] for part in found["parts"]}
    assert fetch.pop("unet") == ""
    assert all(command.startswith("hf download ") for command in fetch.values())
    text = call("check", "radbert-ldm", "--weights", "paper", code=1)
    assert all(word in text for word in (fetch["text_encoder"], "unet: FOLDER", "licence: MIT"))
    (tmp_path / "mine.yaml").write_text(found["yaml"])
    write(tmp_path / "FOLDER", config__json=UNET, diffusion_pytorch_model__safetensors=TENSORS)
    mine = report("radbert-ldm", "--weights", tmp_path / "mine.yaml", code=1)
    states = {part["part"]: (part["state"], part["fetch"]) for part in mine["parts"]}
    assert (states["unet"], states["text_encoder"]) == (("found", ""), ("missing", fetch["text_encoder"]))


def test_check_of_a_yaml_file(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    path, text = folder / "mine.yaml", {"place": "text", "family": "bert"}
    words, unet = ("radbert-ldm", "--weights", path), folder / "unet"

    def found(config: Any = UNET, text_encoder: Any = text) -> list[str]:
        """The failed checks, with this U-Net and text encoder."""
        write(unet, config__json=config)
        write_yaml(path, base=".", **({"text_encoder": text_encoder} if text_encoder else {}))
        return failed(*words)

    write_yaml(path, base=".", text_encoder=text)
    whole = report(*words)
    assert whole["version"] == find_weights("radbert-ldm", str(path)).version
    assert "0.18215" in {row["check"]: row["detail"] for row in whole["checks"]}["latents"]
    assert found(UNET | {"cross_attention_dim": 768}) == ["cross-attention"]
    assert found(UNET | {"in_channels": 8}) == ["latents"]
    assert found(text_encoder=text | {"max_length": 129, "family": "brt"}) == ["text encoder family", "text length"]
    write(folder / "text", card__json={"words_only": True})
    assert found() == ["words only"]
    write_yaml(path, base=".", text_encoder=text | {"words_only": True})
    assert report(*words)["ready"]
    (folder / "text" / "card.json").unlink()
    (folder / "text" / "vocab.txt").unlink()
    schedule = folder / "scheduler" / "scheduler_config.json"
    schedule.write_text("{")
    assert found() == ["tokenizer", "schedule"]
    schedule.unlink()
    assert "scheduler_config.json missing" in call("check", *words, code=1)
    found(text_encoder=text | {"place": "txet/x"})
    assert "text_encoder: txet/x\n  not downloaded" in call("check", *words, code=1)
    found(text_encoder=None)
    assert "text_encoder: not named" in call("check", *words, code=1)


def test_check_reads_the_other_layouts_of_text_encoders(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "a")
    path = folder / "mine.yaml"
    tower = {"model_cfg": {"text_cfg": {"width": 64, "context_length": 77}}}
    write(folder / "open", open_clip_config__json=tower, open_clip_model__safetensors=TENSORS)
    write_yaml(path, base=".", text_encoder={"place": "open", "family": "open-clip"})
    assert report("openclip-ldm", "--weights", path)["ready"]
    (folder / "r50.tar").write_bytes(b"\x80\x02")
    write(folder / "bert", config__json=TEXT, vocab__txt="lung")
    write_yaml(path, base=".", text_encoder={"place": "r50.tar", "family": "cxr-clip"}, tokenizer="bert")
    assert report("cxrclip-ldm", "--weights", path)["ready"]
    write(folder / "text", config__json={"text_config": TEXT | {"hidden_size": 32}})
    write_yaml(path, base=".", text_encoder={"place": "text", "family": "clip"})
    assert failed("clip-ldm", "--weights", path) == ["cross-attention"]
    write(folder / "lora", adapter_config__json={}, adapter_model__safetensors=TENSORS)
    write(folder / "text", config__json=TEXT)
    write_yaml(path, base=".", adapter="lora", text_encoder={"place": "text", "family": "clip"})
    assert report("clip-ldm-lora", "--weights", path)["checks"][-1]["detail"] == "adapter_config.json"
    (folder / "image.pt").write_bytes(b"\x80\x02")
    write(folder / "text", config__json=TEXT | {"projection_size": 64})
    text = {"place": "text", "family": "cxr-bert"}
    write_yaml(path, text_encoder=text, image_encoder={"place": "image.pt"})
    assert failed("biovil", "--weights", path) == ["joint space"]
    write_yaml(path, text_encoder=text, image_encoder={"place": "image.pt", "size_of_projection": 64})
    assert report("biovil", "--weights", path)["ready"]
    assert "unet: not named" in call("check", "cxrbert-ldm", "--weights", path, code=1)
    write_yaml(path, text_encoder=text | {"words_only": True}, image_encoder={"place": "image.pt"})
    assert "text_encoder.words_only" in call("check", "biovil", "--weights", path, code=2)


def test_damaged_packaged_weights_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(ZOO, zoo)
    for module in (find, check):
        monkeypatch.setattr(module, "ZOO", zoo)
    assert report()["damaged"] == []
    weights = zoo / "cxrbert-ldm" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert [str(weights) in problem for problem in report(code=1)["damaged"]] == [True]
    assert f"{weights} has changed" in call("check", "cxrbert-ldm", code=1)
    assert report("clip-ldm")["ready"]
    weights.write_bytes(content[:-1])
    assert "truncated" in call("check", "cxrbert-ldm", code=1)
    shutil.copytree(ZOO, zoo, dirs_exist_ok=True)
    write(zoo / "cxr-bert", added_tokens__json={})
    assert "added_tokens.json" in report("cxrbert-ldm", code=1)["problems"][0]
    (zoo / "cxr-bert" / "added_tokens.json").unlink()
    (zoo / "priors" / "phantom.npz").unlink()
    assert "phantom.npz is missing" in call("check", code=1)


def test_a_wrong_argument_is_exit_code_2() -> None:
    for words, message in {
        "cxrbert-lmd": "cxrbert-ldm",
        "clip-ldm-lora": "phantom",
        "cxrbert-ldm --weights nowhere": "nowhere",
        "class-prior --weights paper": "no weights",
        "--weights paper": "method",
    }.items():
        assert message in call("check", *words.split(), code=2)
    assert report("class-prior")["ready"]
