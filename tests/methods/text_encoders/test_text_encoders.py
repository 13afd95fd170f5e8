"""Text encoders: every family against the plain library call, character offsets by brute force, and the registry."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api import METHODS, DataError, UsageError
from gtg_bench.methods import text_encoders
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.text_encoders import TEXT_ENCODERS, load_text_encoder, register_text_encoder
from gtg_bench.methods.text_encoders.med_kebert import entity_text
from gtg_bench.methods.text_encoders.open_clip import CONFIG, VOCABULARY, WEIGHTS
from gtg_bench.methods.text_encoders.registry import PACKAGED, TextEncoderRegistry
from gtg_bench.methods.text_encoders.words_only import WordsOnly

ZOO = Path(text_encoders.__file__).parents[1] / "zoo"

pytestmark = pytest.mark.usefixtures("torch")

PHRASES = [
    "Small left pleural effusion.",
    "Right-sided pneumonia / edema, 2.5 cm; not worsening!",
    "pneumothorax",
    "there is a hazy opacity (new) at the right base",
]
STRANGE = ["Ödem naïve – 5µm €", "Ⅻ İstanbul ΟΔΟΣ ß", "胸水 left 🫁🫁 lung", "é́e\u0301", "it's O'Brien's"]
LONG = " ".join(["left pleural-effusion,", "opacity;"] * 60)


@dataclass
class Family:
    """An encoder of one family, and the states that the plain library computes for texts."""

    encoder: Any
    plain: Callable[[list[str]], Any]


def packaged(name: str, model_class: Any, rewrite: Callable[[str], str] = str, positional: bool = False) -> Family:
    """A packaged encoder, and the model and tokenizer of its folder as transformers loads them."""
    from transformers import AutoTokenizer

    folder = ZOO / name
    card = read_card(folder)
    encoder = load_text_encoder(card["family"], folder / card.get("file", ""), folder, card["max_length"])
    tokenizer, length = AutoTokenizer.from_pretrained(folder), card["max_length"]
    if name == "cxrclip":
        model = cxr_clip_model(folder, model_class)
    else:
        model = model_class.from_pretrained(folder).float().eval()

    def plain(texts: list[str]) -> Any:
        texts = [*map(rewrite, texts)]
        cut = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        found = (cut["input_ids"], cut["attention_mask"])
        return (model(*found, return_dict=True) if positional else model(**cut)).last_hidden_state

    return Family(encoder, plain)


def cxr_clip_model(folder: Path, model_class: Any) -> Any:
    import torch

    prefix = "text_encoder.text_encoder."
    checkpoint = torch.load(folder / read_card(folder)["file"], weights_only=True)["model"]
    model = model_class(model_class.config_class.from_pretrained(folder), add_pooling_layer=False).eval()
    model.load_state_dict({n.removeprefix(prefix): w.float() for n, w in checkpoint.items() if n.startswith(prefix)})
    return model


def bert(folder: Path, pieces: list[str], published: Callable[..., Path]) -> Family:
    """Random weights, a vocabulary and no tokenizer.json."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    model = BertModel(BertConfig(vocab_size=80, max_position_embeddings=80, **sizes)).eval()
    published(folder, model, [*pieces, *"0123456789,-/;!("])
    tokenizer = BertTokenizer.from_pretrained(folder)

    def plain(texts: list[str]) -> Any:
        cut = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        return model(**cut).last_hidden_state

    return Family(load_text_encoder("bert", folder, folder, 77), plain)


def open_clip_family() -> Family:
    """All blocks except the last, called one by one, then the final layer norm."""
    import torch
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import TextTransformer
    from safetensors.torch import load_file

    folder = ZOO / "openclip"
    sizes = json.loads((folder / CONFIG).read_text())["model_cfg"]
    model = TextTransformer(**sizes["text_cfg"], output_dim=sizes["embed_dim"]).eval()
    weights = load_file(folder / WEIGHTS[0])
    model.load_state_dict({name: weights[name].float() for name in model.state_dict() if name != "attn_mask"}, False)
    tokenizer = SimpleTokenizer(str(folder / VOCABULARY))

    def plain(texts: list[str]) -> Any:
        x = model.token_embedding(tokenizer(texts)) + model.positional_embedding
        for block in model.transformer.resblocks[:-1]:
            x = block(x, attn_mask=torch.full((77, 77), float("-inf")).triu(1))
        return model.ln_final(x)

    return Family(load_text_encoder("open-clip", folder, folder, 77), plain)


@pytest.fixture(scope="module")
def made(
    torch: Any, pieces: list[str], published: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Family]:
    """Makes each family once."""
    from health_multimodal.text.model import CXRBertModel
    from transformers import BertModel, CLIPTextModel

    makers: dict[str, Callable[[], Family]] = {
        "bert": lambda: bert(tmp_path_factory.mktemp("bert"), pieces, published),
        "med-kebert": partial(packaged, "medkebert", BertModel, entity_text),
        "cxr-clip": partial(packaged, "cxrclip", BertModel),
        "cxr-bert": partial(packaged, "cxr-bert", CXRBertModel, positional=True),
        "clip": partial(packaged, "clip", CLIPTextModel),
        "open-clip": open_clip_family,
    }
    return cache(lambda name: makers[name]())


@pytest.fixture(params=PACKAGED)
def family(request: pytest.FixtureRequest, made: Callable[[str], Family]) -> Family:
    return made(request.param)


# States


def test_states_equal_the_librarys(torch: Any, family: Family) -> None:
    for texts in (PHRASES, STRANGE, [LONG], [""]):
        found = family.encoder.encode(texts)
        with torch.no_grad():
            expected = family.plain(texts)
        assert found.states.dtype == torch.float32
        assert found.states.shape == expected.shape == (len(texts), family.encoder.max_length, expected.shape[-1])
        torch.testing.assert_close(found.states, expected, atol=2e-6, rtol=0)


def test_a_batch_equals_single_calls_of_a_frozen_encoder(torch: Any, family: Family) -> None:
    texts = [*PHRASES, *STRANGE, LONG, ""]
    batch = family.encoder.encode(texts)
    for row, text in enumerate(texts):
        single = family.encoder.encode([text])
        torch.testing.assert_close(single.states[0], batch.states[row], atol=2e-6, rtol=0)
        assert torch.equal(single.mask[0], batch.mask[row])
        assert torch.equal(single.offsets[0], batch.offsets[row])
        assert single.texts[0] == batch.texts[row]
    assert not any(part.training for part in family.encoder.module.modules())
    assert {(p.requires_grad, p.dtype) for p in family.encoder.module.parameters()} == {(False, torch.float32)}


def test_of_words_only_the_rest_is_as_in_an_empty_text(torch: Any, family: Family) -> None:
    texts = [*PHRASES, "edema!.", LONG, ""]  # OpenCLIP's "!" has the number of its padding
    whole, empty = family.encoder.encode(texts), family.encoder.encode([""]).states[0]
    found = WordsOnly(family.encoder).encode(texts)
    assert torch.equal(found.mask, whole.mask)
    assert torch.equal(found.offsets, whole.offsets)
    for row, offsets in enumerate(whole.offsets.tolist()):
        end = int(whole.mask[row].sum()) - 1
        for place, (first, after) in enumerate(offsets):
            expected = whole.states[row, place] if after > first else empty[1 if place == end else place]
            torch.testing.assert_close(found.states[row, place], expected, atol=4e-6, rtol=0)
    told = (whole.states - found.states).abs().amax(-1)[: len(PHRASES)]
    assert told[whole.mask[: len(PHRASES)] & (whole.offsets[: len(PHRASES), :, 1] == 0)].max() > 0.1


# Offsets


def spans(encoding: Any, row: int) -> list[tuple[int, int]]:
    """Character ranges of a row's tokens, without special tokens."""
    return [(start, end) for start, end in encoding.offsets[row].tolist() if end > start]


def test_offsets_are_ordered_and_cover_every_visible_character(family: Family) -> None:
    encoding = family.encoder.encode([*PHRASES, *STRANGE])
    for row, text in enumerate(encoding.texts):
        found = spans(encoding, row)
        assert all(0 <= start < end <= len(text) for start, end in found)
        assert found == sorted(found)
        covered = {place for start, end in found for place in range(start, end)}
        hidden = {place for match in re.finditer(r"\[SEP\]", text) for place in range(*match.span())}
        seen = {place for place, character in enumerate(text) if not character.isspace()} - hidden
        assert {place for place in seen - covered if not unicodedata.combining(text[place])} == set()


def test_start_end_and_padding_have_no_offsets(family: Family) -> None:
    """A text that is too long keeps its end token."""
    encoder = family.encoder
    encoding = encoder.encode([*PHRASES, LONG, ""])
    for row in range(len(encoding.texts)):
        last = int(encoding.mask[row].sum()) - 1
        assert encoding.mask[row].tolist() == [True] * (last + 1) + [False] * (encoder.max_length - 1 - last)
        assert not encoding.offsets[row, [0, *range(last, encoder.max_length)]].any()
    assert spans(encoding, len(PHRASES) + 1) == []
    ids, ends = encoder.tokens([LONG, "left"]).ids, ("sep_token_id", "eot_token_id", "eos_token_id")
    assert int(ids[0, encoding.mask[-2].sum() - 1]) in [getattr(encoder.tokenizer, end, None) for end in ends]


def by_counting_bytes(text: str, pieces: list[bytes]) -> list[tuple[int, int]]:
    """Ranges of byte pieces in a text whose lower-cased visible characters are their concatenation."""
    owners = [k for k, c in enumerate(text) if not c.isspace() for low in c.lower() for _ in low.encode()]
    assert sum(map(len, pieces)) <= len(owners)
    ends = np.cumsum([len(piece) for piece in pieces])
    return [(owners[end - len(piece)], owners[end - 1] + 1) for end, piece in zip(ends, pieces, strict=True)]


def test_open_clips_offsets_by_counting_bytes(made: Callable[[str], Family]) -> None:
    encoder = made("open-clip").encoder
    for text in (*PHRASES, *STRANGE, LONG):
        encoding, ids = encoder.encode([text]), encoder.tokenizer([text])[0]
        assert encoding.mask[0].sum() == (ids != 0).sum()
        inner = ids[1 : int((ids != 0).sum()) - 1].tolist()
        pieces = [encoder.tokenizer.decoder[number].removesuffix("</w>") for number in inner]
        bytes_of = [bytes(encoder.tokenizer.byte_decoder[character] for character in piece) for piece in pieces]
        assert spans(encoding, 0) == by_counting_bytes(encoding.texts[0], bytes_of)


def test_open_clip_returns_the_cleaned_text(made: Callable[[str], Family]) -> None:
    for phrase, text in {
        "left  lung\n base ": "left lung base",
        "eﬀusion &lt; 2&nbsp;cm": "effusion < 2 cm",
        "â€œhazyâ€\x9d": '"hazy"',
    }.items():
        encoding = made("open-clip").encoder.encode([phrase])
        assert encoding.texts == (text,)
        assert "".join(text[start:end] for start, end in spans(encoding, 0)) == "".join(text.split())


@pytest.mark.parametrize(
    ("name", "mark"), [("bert", "[SEP]"), ("clip", "<|endoftext|>"), ("open-clip", "<end_of_text>")]
)
def test_a_special_token_in_the_phrase_has_no_offsets(made: Callable[[str], Family], name: str, mark: str) -> None:
    text = f"Left {mark} base"
    encoding = made(name).encoder.encode([text])
    assert "".join(text[start:end].strip() for start, end in spans(encoding, 0)) == "Leftbase"


# Entity text


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("Small left pleural effusion.", "pleural effusion present [SEP]"),
        ("There is no pneumothorax", "pneumothorax absent [SEP]"),
        ("The heart is normal in size.", "cardiomegaly absent [SEP]"),
        ("Right-sided pneumonia / edema", "pneumonia present edema present [SEP]"),
        ("effusion and left effusion", "pleural effusion present [SEP]"),
        (
            "Small effusion with atelectasis. No edema or pneumonia.",
            "pleural effusion present atelectasis present [SEP] edema absent pneumonia absent [SEP]",
        ),
        ("frontal chest radiograph", "frontal chest radiograph"),
        ("", ""),
    ],
)
def test_entity_text(made: Callable[[str], Family], phrase: str, text: str) -> None:
    """Offsets refer to it."""
    assert entity_text(phrase) == text
    encoding = made("med-kebert").encoder.encode([phrase])
    assert encoding.texts == (text,)
    kept = {place for start, end in spans(encoding, 0) for place in range(start, end)}
    visible = "".join(text[place] for place in sorted(kept))
    assert visible.replace(" ", "") == text.replace("[SEP]", "").replace(" ", "")


# Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> TextEncoderRegistry:
    """The registry that weights are loaded with; what a test adds is removed afterwards."""
    monkeypatch.setattr(TEXT_ENCODERS, "_registered", {})
    return TEXT_ENCODERS


class Toy:
    """An encoder of another package."""

    @classmethod
    def load(cls, *arguments: Any) -> tuple[Any, ...]:
        return arguments


def test_registered_and_refused_families(registry: TextEncoderRegistry) -> None:
    assert register_text_encoder("toy")(Toy) is Toy
    assert registry.names() == [*PACKAGED, "toy"]
    place = Path("a")
    assert load_text_encoder("toy", place, place, 9, "cpu") == (place, place, 9, "cpu")  # type: ignore[comparison-overlap]
    with pytest.raises(DataError, match=r"^a: words_only"):
        load_text_encoder("toy", place, place, 9, words_only=True)
    for name in ("toy", "clip"):
        with pytest.raises(UsageError, match=f"'{name}' is registered already"):
            register_text_encoder(name)(Toy)
    with pytest.raises(UsageError, match=r"'mute' .*load"):
        registry.register("mute", int)
    with pytest.raises(DataError, match=r"somewhere: .*'cxrbert'.* cxr-bert"):
        load_text_encoder("cxrbert", Path("somewhere"), Path("somewhere"), 77)
    with pytest.raises(DataError, match="max_length 2"):
        load_text_encoder("clip", Path("somewhere"), Path("somewhere"), 2)


def test_a_plugin_file_may_run_again(registry: TextEncoderRegistry, tmp_path: Path) -> None:
    """After it failed, or was edited; the same name twice in one file is refused."""
    text = "from gtg_bench.methods.text_encoders import register_text_encoder\n"
    text += "@register_text_encoder('again')\nclass Again:\n    load = print\n"
    plugin = tmp_path / "again.py"
    for extra in ("1 / 0", "1 / 0", "1 / 0 # edited"):
        plugin.write_text(text + extra)
        with pytest.raises(UsageError, match="ZeroDivisionError"):
            METHODS.load_plugin(plugin)
    assert registry.code("again") == hashlib.sha256(plugin.read_bytes()).hexdigest()
    plugin.write_text(text + text)
    with pytest.raises(UsageError, match="'again' is registered already"):
        METHODS.load_plugin(plugin)


def test_the_code_of_a_family_is_its_files_hash(registry: TextEncoderRegistry) -> None:
    scope: dict[str, Any] = {"__name__": "typed_by_hand"}
    exec("class Typed:\n load = print", scope)
    registry.register("toy", Toy)
    registry.register("typed", scope["Typed"])
    ours = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    expected = {"toy": ours, "typed": "typed_by_hand.Typed", "clip": None, "unknown": None}
    assert {name: registry.code(name) for name in expected} == expected


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another installed package, with a working and a broken family, and one with a packaged name."""
    info = tmp_path / "third_encoders-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-encoders\nVersion: 2.0\n")
    points = "third = gtg_third_encoders:Third\nbroken = gtg_absent:Third\nclip = gtg_third_encoders:Third\n"
    (info / "entry_points.txt").write_text(f"[gtg_bench.text_encoders]\n{points}")
    (tmp_path / "gtg_third_encoders.py").write_text("class Third:\n    load = print\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("gtg_third_encoders", None)


@pytest.mark.usefixtures("third_party")
def test_entry_points_are_families(registry: TextEncoderRegistry) -> None:
    assert registry.names() == [*PACKAGED, "broken", "third"]
    assert "gtg_third_encoders" not in sys.modules
    assert registry.get("third").__name__ == "Third"
    assert registry.code("third") == "third-encoders 2.0"
    assert registry.get("clip").__name__ == "ClipTextEncoder"
    assert registry.code("clip") is None
    with pytest.raises(UsageError, match=r"'broken' of package third-encoders .*ModuleNotFoundError"):
        registry.get("broken")
    with pytest.raises(UsageError, match="registered already"):
        registry.register("third", Toy)
