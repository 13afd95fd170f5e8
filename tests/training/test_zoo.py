"""The phantom zoo at toy scale: every kind of member through the real code, its card, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets.phantom.world import patient_studies
from gtg_bench.benchmark.report.leaderboard import read
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.methods.biovil.method import load as load_biovil
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.ldm.components import load_components
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.weights import find as find_module
from gtg_bench.methods.weights import find_weights
from gtg_bench.methods.weights.find import ZOO, card_of, known_zoo, plan_of, zoo_name
from gtg_bench.training import evaluation
from gtg_bench.training import zoo as zoo_module
from gtg_bench.training.evaluation import choose_defaults, trials
from gtg_bench.training.ldm.models import locate_parts
from gtg_bench.training.loop.signals import Stopped, StopRequest
from gtg_bench.training.loop.trainer import Trainer
from gtg_bench.training.pretraining.biovil import ImageDraws, Reports
from gtg_bench.training.pretraining.material import Worlds
from gtg_bench.training.pretraining.recipe import GENERIC, ZooRecipe, load_zoo_recipe
from gtg_bench.training.recipe import ChoiceRecipe, LdmRecipe, load_recipe
from gtg_bench.training.variants import variant_of, variants
from gtg_bench.training.zoo import Zoo, fingerprint

pytestmark = pytest.mark.usefixtures("torch")
STUDIES = [study for number in range(30) for study in patient_studies(0, number)]
SLICES = {"train": STUDIES[:24], "validate": STUDIES[24:30], "test": STUDIES[:6]}
CHOICE = {"layer_steps": [1, 1], "steps": [[1, 1], [2, 1], [2, 2]], "test_worlds": [0]}
VALIDATION = {"every": 2, "pairs": 2, "dataset": None}
SECOND = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 0}
"""Schedule of the second part."""


def short(recipe: Any, **changes: Any) -> Any:
    plan = recipe.schedule.model_copy(update={"steps": 2, "batch_size": 4, "warmup_steps": 0, **changes})
    return recipe.model_copy(update={"schedule": plan})


def micro(**changes: Any) -> ZooRecipe:
    """The packaged recipe with two steps a stage."""
    recipe = load_zoo_recipe()
    texts = {name: short(stage) for name, stage in recipe.text_encoders.items()}
    images = {name: short(stage) for name, stage in recipe.image_encoders.items()}
    fields = {"text_encoders": texts, "image_encoders": images, "autoencoder": short(recipe.autoencoder)}
    return recipe.model_copy(update=fields | {"pictures": 16} | changes)


def micro_ldm(**changes: Any) -> LdmRecipe:
    recipe = load_recipe("phantom").model_dump(mode="json") | {"choice": CHOICE, "validation": VALIDATION}
    recipe["separation"] = [part | {"schedule": SECOND} for part in recipe["separation"]]
    return short(LdmRecipe.model_validate(recipe), **changes)


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    """A phantom of a few studies."""
    with pytest.MonkeyPatch.context() as patched:
        for module in ("gtg_bench.training.pretraining.material", "gtg_bench.benchmark.datasets.phantom.dataset"):
            patched.setattr(f"{module}.load_studies", lambda seed, split, pixels=True: SLICES[split])
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, patched: None) -> Path:
    """The folder of a zoo with some members of every kind, named by a relative path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        zoo = Zoo(micro(), micro_ldm(), Path("zoo"))
        for name in ("cxrbert-ldm", "clip-ldm-lora", "openclip-ldm", "cxrbert-ldm@1759", "biovil-l", "medkebert"):
            zoo.member(name)
        return zoo.out


PARTS = ["autoencoder", "cxr-bert", "clip", "openclip", "medkebert"]
MODELS = ["cxrbert-ldm", "clip-ldm-lora", "openclip-ldm", "cxrbert-ldm-seed1759", "generic-ldm"]


def test_a_member_brings_its_parts_and_nothing_else(out: Path) -> None:
    assert {path.name for path in out.iterdir()} - {"work"} == {*PARTS, *MODELS, "biovil-l"}
    assert read_card(out / "cxr-bert")["data"]["images"] == 24
    assert read_card(out / "clip")["data"]["images"] == 16
    generic = read_card(out / "generic-ldm")["data"]
    assert (generic["pairs"], generic["dataset"]) == (16, "generic pictures")
    assert read_card(out / "cxrbert-ldm")["data"]["dataset"] == "phantom"


@pytest.mark.parametrize("part", [*PARTS, *MODELS, "biovil-l"])
def test_every_member_has_a_card(out: Path, part: str) -> None:
    card = read_card(out / part)
    files = {path.relative_to(out / part).as_posix() for path in (out / part).rglob("*") if path.is_file()}
    assert card["sha256"] == {
        name: hashlib.sha256((out / part / name).read_bytes()).hexdigest()
        for name in files
        if name != "card.json" and name.split("/")[0] not in ("work", "best")
    }
    assert any(name.endswith(".safetensors") for name in card["sha256"])
    steps = 6 if part in MODELS and part != "generic-ldm" else 2  # generic pictures have no second part
    assert (card["steps"], card["seed"]) == (steps, 1759 if "1759" in part else 4200)
    assert card["loss_curve"][-1][0] == steps
    assert "git_revision" in card
    if part in PARTS:
        assert card["results"]
        assert card["data"]["dataset"]


@pytest.mark.parametrize("member", ["cxrbert-ldm", "clip-ldm-lora", "openclip-ldm", "cxrbert-ldm-seed1759"])
def test_a_trained_variant_grounds_a_phrase(out: Path, member: str) -> None:
    variant = member.removesuffix("-seed1759")
    components = load_components(find_weights(variant, str(out / member)), torch.device("cpu"))
    assert components.image_size == 128
    assert components.unet.config.cross_attention_dim == (96 if variant == "openclip-ldm" else 64)
    image = STUDIES[0].pixels.astype(np.float32) / 255
    found = LdmMethod(components, MethodSettings(variant, sampling="gt-cfg", steps=1)).ground(image, "Left effusion.")
    assert found.values.shape == (16, 16)
    assert found.values.min() > 0
    assert read_card(out / member)["defaults"]["steps"] in (1, 2)


def test_a_trained_biovil_grounds_a_phrase_as_it_was_trained(out: Path, patched: None) -> None:
    method = load_biovil(find_weights("biovil-l", str(out / "biovil-l")), torch.device("cpu"))
    recipe = micro().image_encoders["biovil-l"]
    image = STUDIES[25].pixels.astype(np.float32) / 255
    found = method.ground(image, "Left effusion.")
    assert found.values.shape == (16, 16)
    assert (found.frame.resized, found.frame.window) == ((136, 136), (4, 4, 128, 128))
    pairs = Worlds(0, 4200, 16).material("reports").held_out
    reports = Reports.of(method.text_encoder, pairs.texts)
    draws = ImageDraws(pairs, reports, recipe, lambda position: position)
    sample = draws[1]
    with torch.no_grad():
        patches = method.image_model.get_patchwise_projected_embeddings(sample["image"][None], normalize=True)[0]
    torch.testing.assert_close(patches, method._encode_image(image), atol=1e-5, rtol=0)
    phrase, _ = method._encode_text(pairs.texts[1])
    torch.testing.assert_close(torch.nn.functional.normalize(sample["words"][0], dim=0), phrase, atol=1e-5, rtol=0)


def test_a_packaged_biovil_is_found_by_its_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "ZOO", out)
    assert find_module.packaged() == ["biovil-l", "clip-ldm-lora", "cxrbert-ldm", "openclip-ldm"]
    weights = find_weights("biovil-l", "phantom")
    assert weights.name == "phantom"
    assert weights.places["image_encoder"].resolve() == (out / "biovil-l" / "image_encoder.safetensors").resolve()
    assert weights.plan.unnamed(kind="discriminative") == []
    with pytest.raises(UsageError, match="biovil has no phantom weights"):
        find_weights("biovil", "phantom")


def test_the_vocabulary_of_openclip_is_part_of_its_version(out: Path, tmp_path: Path) -> None:
    for name in ("openclip-ldm", "openclip", "autoencoder"):
        shutil.copytree(out / name, tmp_path / name)
    before = find_weights("openclip-ldm", str(tmp_path / "openclip-ldm")).version
    assert before == find_weights("openclip-ldm", str(out / "openclip-ldm")).version
    file = tmp_path / "openclip" / "bpe_simple_vocab_16e6.txt.gz"
    file.write_bytes(file.read_bytes() + b"\0")
    assert find_weights("openclip-ldm", str(tmp_path / "openclip-ldm")).version != before


# Finished members, and what is refused


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything is trained."""
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail(f"{self.name} was trained again"))


def test_a_finished_zoo_is_left_alone(out: Path, forbidden: None) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    shown = {"log_every": 7, "checkpoint_every": 9}
    again = Zoo(micro(), micro_ldm(**shown), out)
    for name in ("clip-ldm-lora", "openclip-ldm", "cxrbert-ldm@1759", "biovil-l", "medkebert"):
        assert again.member(name) == again.folder(name)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def other_clip() -> ZooRecipe:
    texts = micro().text_encoders
    return micro(text_encoders=texts | {"clip": short(texts["clip"], learning_rate=0.5)})


@pytest.mark.parametrize(
    ("recipe", "ldm", "member", "fact"),
    [
        (other_clip(), {}, "clip", "recipe"),
        (micro(), {"learning_rate": 0.5}, "cxrbert-ldm", "recipe"),
        (micro(), {"learning_rate": 0.5}, "generic-ldm", "recipe"),
        (micro(pictures=17), {}, "clip", "data"),
        (micro(world=1), {}, "autoencoder", "data"),
        (micro(seed=1), {}, "medkebert", "seed"),
    ],
)
def test_members_of_another_recipe_are_refused(
    out: Path, recipe: ZooRecipe, ldm: dict[str, float], member: str, fact: str, forbidden: None
) -> None:
    with pytest.raises(UsageError, match=rf"{member} .*another {fact}.*--out"):
        Zoo(recipe, micro_ldm(**ldm), out).member(member)


@pytest.mark.parametrize("member", ["cxrbert-ldm", "biovil-l"])
def test_a_member_that_stands_on_another_part_is_refused(
    out: Path, tmp_path: Path, member: str, forbidden: None
) -> None:
    for name in (member, "autoencoder", "cxr-bert"):
        shutil.copytree(out / name, tmp_path / name)
    Zoo(micro(), micro_ldm(), tmp_path).member(member)
    file, card = tmp_path / "cxr-bert" / "config.json", tmp_path / "cxr-bert" / "card.json"
    file.write_text(file.read_text() + " ")
    facts = json.loads(card.read_text())
    facts["sha256"]["config.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    card.write_text(json.dumps(facts))
    with pytest.raises(UsageError, match=rf"{member} was trained with another (started_from|stands_on)"):
        Zoo(micro(), micro_ldm(), tmp_path).member(member)


def test_packaged_members_are_adopted_where_that_is_wished_and_they_are_the_same(
    out: Path, tmp_path: Path, forbidden: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_module, "ZOO", out)
    adopting = Zoo(micro(), micro_ldm(), tmp_path / "zoo", adopt=True)
    for name in ("openclip-ldm", "biovil-l"):
        adopting.member(name)
    assert {path.name for path in (tmp_path / "zoo").iterdir()} - {"work"} == {
        *("openclip-ldm", "openclip", "autoencoder", "biovil-l", "cxr-bert")
    }
    assert find_weights("openclip-ldm", str(tmp_path / "zoo" / "openclip-ldm")).version == (
        find_weights("openclip-ldm", str(out / "openclip-ldm")).version
    )
    for zoo in (Zoo(micro(), micro_ldm(), tmp_path / "a"), Zoo(micro(pictures=17), micro_ldm(), tmp_path / "b")):
        zoo.adopt = zoo.recipe.pictures == 17
        with pytest.raises(pytest.fail.Exception, match="openclip was trained again"):
            zoo.member("openclip")


def test_a_stop_is_heard_and_the_same_call_goes_on(patched: None, tmp_path: Path) -> None:
    stop = StopRequest()
    stop.asked = True
    with pytest.raises(Stopped):
        Zoo(micro(), micro_ldm(), tmp_path, stop).member("medkebert")
    assert not (tmp_path / "medkebert").exists()
    zoo = Zoo(micro(), micro_ldm(), tmp_path)
    assert (zoo.member("medkebert") / "card.json").exists()


@pytest.mark.parametrize("recipe", [micro_ldm().model_copy(update={"name": "smoke"}), load_recipe("paper")])
def test_a_recipe_that_is_not_for_the_phantom_zoo_is_refused(tmp_path: Path, recipe: LdmRecipe) -> None:
    with pytest.raises(UsageError, match=recipe.name):
        Zoo(micro(), recipe, tmp_path)
    Zoo(micro(), micro_ldm().model_copy(update={"name": "phantom-smoke"}), tmp_path)


# The recipe


def test_the_packaged_recipe_covers_every_variant() -> None:
    recipe = load_zoo_recipe()
    assert set(recipe.variants) == set(variants())
    assert {variant.text_encoder for variant in variants().values()} == set(recipe.text_encoders)
    assert recipe.again.keys() <= set(recipe.variants)
    assert {image.text_encoder for image in recipe.image_encoders.values()} <= set(recipe.text_encoders)
    assert {variant.phantom_start for variant in variants().values()} - {None} == {GENERIC}
    assert variants()[recipe.generic_like].text_encoder == variants()["clip-ldm-lora"].text_encoder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"autoencoder": {"kl_wait": 1}}, "autoencoder.kl_wait"),
        ({"text_encoders": {"clip": {"schedule": {"steps": 0}}}}, "text_encoders.clip.schedule.steps"),
        ({"steps": 3}, "steps"),
    ],
)
def test_a_wrong_change_names_file_and_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    with pytest.raises(UsageError, match=rf"mine\.yaml: {message}"):
        load_zoo_recipe(tmp_path / "mine.yaml")


# The command


def test_the_command_trains_lists_and_names_near_members(patched: None, tmp_path: Path) -> None:
    changes = {"text_encoders": {"medkebert": {"schedule": {"steps": 2, "batch_size": 4, "warmup_steps": 0}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    line = ["zoo", "--out", str(tmp_path / "zoo"), "--config", str(tmp_path / "mine.yaml"), "--threads", "1"]
    done = CliRunner().invoke(app, [*line, "medkebert"])
    assert done.exit_code == 0, done.output
    assert read_card(tmp_path / "zoo" / "medkebert")["steps"] == 2
    listed = CliRunner().invoke(app, [*line, "--list"])
    assert "medkebert: finished" in listed.output
    assert "cxrbert-ldm@6357: not trained" in listed.output
    for words in (["--leaderboards-dir", str(tmp_path)], ["--evaluate", "--recipe", "paper"]):
        assert CliRunner().invoke(app, [*line, *words, "medkebert"]).exit_code == 2
    wrong = CliRunner().invoke(app, [*line, "medkebrt"])
    assert wrong.exit_code == 2
    assert "did you mean medkebert" in wrong.output


def test_only_methods_are_scored(out: Path, monkeypatch: pytest.MonkeyPatch, forbidden: None, tmp_path: Path) -> None:
    scored: list[tuple[Any, ...]] = []
    monkeypatch.setattr(zoo_module, "score_test_splits", lambda *facts: scored.append(facts))
    zoo = Zoo(micro(), micro_ldm(), out)
    for name in ("medkebert", "generic-ldm", "cxrbert-ldm@1759", "biovil-l"):
        zoo.evaluate(name, tmp_path)
    runs = out / "work" / "runs"
    assert scored == [
        (out / "cxrbert-ldm-seed1759", "cxrbert-ldm", (0,), runs, tmp_path, zoo.stop),
        (out / "biovil-l", "biovil-l", (0,), runs, tmp_path, zoo.stop),
    ]


def test_layers_that_the_recipe_names_are_not_chosen(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "zoo")
    folder, named = tmp_path / "zoo" / "cxrbert-ldm", ChoiceRecipe.model_validate(CHOICE | {"layers": "3,4"})
    choose_defaults(folder, "cxrbert-ldm", named, 0, tmp_path / "runs")
    card = read_card(folder)
    assert card["layer_choice"] == []
    assert [row["layers"] for row in card["validation"]] == ["all", "3,4", "3,4", "3,4"]
    best = max(row["cnr"] for row in card["validation"][1:])
    near = [row for row in card["validation"][1:] if row["cnr"] >= best - named.tolerance]
    defaults = card["defaults"]
    assert defaults["layers"] == "3,4"
    assert defaults["last_steps"] == min(row["last_steps"] for row in near)
    assert (defaults["steps"], defaults["last_steps"]) in {(row["steps"], row["last_steps"]) for row in near}


@pytest.mark.slow
def test_a_member_is_scored_in_every_way_and_its_rows_bear_its_name(out: Path, forbidden: None, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "zoo")
    zoo = Zoo(micro(), micro_ldm(), tmp_path / "zoo")
    for name in ("cxrbert-ldm", "cxrbert-ldm@1759", "biovil-l"):
        zoo.evaluate(name, tmp_path / "boards")
    before = (tmp_path / "boards" / "phantom.csv").read_bytes()
    zoo.evaluate("cxrbert-ldm", tmp_path / "boards")
    assert (tmp_path / "boards" / "phantom.csv").read_bytes() == before
    rows = read(tmp_path / "boards" / "phantom.csv")
    assert {(row["method"], row["weights"]) for row in rows} == {
        *(("cxrbert-ldm", "phantom"), ("cxrbert-ldm", "phantom@1759"), ("biovil-l", "phantom"))
    }
    for weights in ("phantom", "phantom@1759"):
        mine = [row for row in rows if (row["method"], row["weights"]) == ("cxrbert-ldm", weights)]
        plain = [row for row in mine if row["control"] == "none"]
        folder = tmp_path / "zoo" / ("cxrbert-ldm" if weights == "phantom" else "cxrbert-ldm-seed1759")
        card = read_card(folder)
        layers = card["defaults"]["layers"]
        wanted = {(mode, "lexical", layers) for mode in SAMPLINGS}
        if weights == "phantom":
            wanted |= {("gt-cfg", "disease", layers), ("gt-cfg", "lexical", "all")}
        assert {(row["sampling"], row["tokens"], row["layers"]) for row in plain} == wanted
        assert {row["control"] for row in mine} == set(CONTROLS)
        assert len(mine) == len(card["test"]) == len(plain) + len(CONTROLS) - 1
        assert {row["n_ok"] for row in card["test"] if row.get("sampling")} == {int(plain[0]["n_total"])}
    other = [row for row in rows if row["method"] == "biovil-l"]
    assert sorted(row["control"] for row in other) == sorted(CONTROLS)


def test_scoring_hears_a_stop_between_two_runs(out: Path, forbidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, made = Zoo(micro(), micro_ldm(), out), list[str]()

    def one_run(prepared: Any, request: Any) -> Any:
        made.append(request.control)
        zoo.stop.asked = True
        return SimpleNamespace(spec=SimpleNamespace(protocol="gtg", settings=SimpleNamespace(steps=1)), records=[])

    monkeypatch.setattr(evaluation, "run", one_run)
    with pytest.raises(Stopped):
        zoo.evaluate("biovil-l")
    assert made == ["none"]


def test_trials_of_what_does_not_sample_are_controls_and_worlds() -> None:
    found = trials({}, (), (0, 1))
    assert found == [*({"world": 0, "control": control} for control in CONTROLS), {"world": 1}]


# Names


def named(folder: Path, **facts: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize(
    ("folder", "recipe", "name"),
    [
        ("cxrbert-ldm", "phantom", "phantom"),
        ("cxrbert-ldm", "phantom-quick", "phantom-quick"),
        ("cxrbert-ldm-seed1759", "phantom-quick", "phantom-quick@1759"),
        ("biovil", "zoo", "phantom"),
        ("mine", None, "phantom"),
    ],
)
def test_a_member_is_called_by_its_recipe_and_seed(tmp_path: Path, folder: str, recipe: str, name: str) -> None:
    assert zoo_name(named(tmp_path / folder, recipe_name=recipe)) == name


def test_members_of_another_zoo_are_found_by_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no phantom@1759 weights .* \(`gtg-bench zoo --list --out DIR`"):
        find_weights("cxrbert-ldm", "phantom@1759")
    packaged = find_weights("cxrbert-ldm", None)
    with known_zoo(out):
        found = find_weights("cxrbert-ldm", "phantom@1759")
        assert found.name == "phantom@1759"
        assert found.version == find_weights("cxrbert-ldm", str(out / "cxrbert-ldm-seed1759")).version
        assert find_weights("cxrbert-ldm", None).version != packaged.version
        assert card_of("cxrbert-ldm", "phantom@1759") == read_card(out / "cxrbert-ldm-seed1759")
        with pytest.raises(UsageError, match="cxrbert-ldm has no phantom-quick weights"):
            find_weights("cxrbert-ldm", "phantom-quick")
    assert find_weights("cxrbert-ldm", None).version == packaged.version
    assert card_of("cxrbert-ldm", "phantom@1759") is None
    assert card_of("cxrbert-ldm", None) is None


def test_a_packaged_member_of_another_recipe_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "ZOO", tmp_path)
    vae = str(ZOO / "autoencoder")
    parts = {"vae": vae, "unet": {"place": "."}, "text_encoder": str(ZOO / "radbert")}
    named(tmp_path / "radbert-ldm", recipe_name="phantom-quick", variant="radbert-ldm", components=parts)
    assert plan_of("radbert-ldm", "phantom")[::2] == ("phantom-quick", tmp_path / "radbert-ldm")
    assert plan_of("radbert-ldm", "phantom-quick")[::2] == ("phantom-quick", tmp_path / "radbert-ldm")
    with pytest.raises(UsageError, match=r"no phantom-quick@7 weights .* GTG_BENCH_ZOO=DIR"):
        plan_of("radbert-ldm", "phantom-quick@7")


def test_names_are_checked_and_listed_without_torch(tmp_path: Path) -> None:
    lines = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gtg_bench.benchmark.cli import app\n"
        f"line = ['zoo', '--out', {str(tmp_path)!r}]\n"
        "assert CliRunner().invoke(app, [*line, '--list']).exit_code == 0\n"
        "assert CliRunner().invoke(app, [*line, 'biovill']).exit_code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", sorted(path.parent for path in ZOO.glob("*/card.json")), ids=lambda path: path.name)
def test_what_is_packaged_is_as_its_card_says_and_stands_on_what_is_packaged(folder: Path) -> None:
    card = read_card(folder)
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    for part, wanted in card.get("stands_on", {}).items():
        assert fingerprint(folder / card["components"][part]) == wanted
    if "started_from" in card:
        variant = variant_of(card["variant"])
        recipe = LdmRecipe.model_validate(card["recipe"])
        assert locate_parts(card["variant"], variant, recipe, parts=ZOO).version == card["started_from"]["version"]
