"""Lexical and disease words, and the tokens that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from gtg_bench.methods.ldm import lexicon as lexicons
from gtg_bench.methods.ldm.lexicon import (
    FUNCTION_WORDS,
    Lexicon,
    Span,
    Word,
    installed_lexicon,
    lexical_words,
    load_lexicon,
)
from gtg_bench.methods.ldm.tokens import QUERY_WORDS, choose_tokens, covered, disease_words, word_weights
from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder

TOKENIZERS = ["word_pieces", "byte_pairs"]
RULE = "rule 1 (a test)"


@pytest.fixture(scope="module")
def rule() -> Lexicon:
    """The closed-class list, even if a ScispaCy model is installed."""
    return load_lexicon(RULE)


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def spelled(text: str, spans: list[Span]) -> list[str]:
    return [text[start:end] for start, end in spans]


class Encoder(HuggingFaceTextEncoder):
    """A tokenizer as the text encoders use it, without a model."""

    def __init__(self, tokenizer: Any, length: int = 24) -> None:
        super().__init__(torch.nn.Linear(1, 1), tokenizer, length)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return ids[..., None]


def chosen_pieces(
    tokenizer: Any, text: str, choice: str = "lexical", length: int = 24, category: str = "", name: str = RULE
) -> list[str]:
    """The text of the chosen tokens, without leading spaces."""
    found = Encoder(tokenizer, length).encode([text])
    offsets = found.offsets[0]
    chosen, _ = choose_tokens(text, offsets, found.mask[0], choice, load_lexicon(name), category)
    return [text[start:end].strip() for (start, end), kept in zip(offsets.tolist(), chosen, strict=True) if kept]


# Words by the closed-class list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There IS a small effusion on the left, 3 cm.", ["small", "effusion", "left", "cm"]),
        ("left-sided, mid/lower (tiny)", ["left-sided", "mid/lower", "tiny"]),
        ("new/worsening of the 5-cm mass", ["new/worsening", "5-cm", "mass"]),
        ("the patient's and the heart’s size", ["patient", "heart", "size"]),
        ("3 cm, T10; 1.5 cm", ["cm", "T10", "cm"]),
        ("Ödem -- œdème", ["Ödem", "œdème"]),
        ("changes,left>right", ["changes", "left", "right"]),
        *((text, []) for text in ("and/or", "3-4", "...", "", "it isn't")),
    ],
)
def test_lexical_words_are_not_function_words_numbers_or_punctuation(
    rule: Lexicon, text: str, expected: list[str]
) -> None:
    assert spelled(text, lexical_words(text, rule)) == expected


def test_no_word_for_a_finding_place_or_size_is_a_function_word() -> None:
    words = {"left", "right", "upper", "lower", "mid", "bilateral", "base", "small", "large"}
    assert not FUNCTION_WORDS & {*words, *(query for queries in QUERY_WORDS.values() for query in queries)}


# The installed lexicon


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretends that ScispaCy's models of these versions are installed; returns which of them are loaded."""
    import spacy

    pipeline = spacy.blank("en")
    tags = {"ADJ": "small", "NOUN": "effusion", "VERB": "seen", "PROPN": "Smith", "ADV": "left", "NUM": "3"}
    ruler = pipeline.add_pipe("attribute_ruler")
    for tag, word in tags.items():
        ruler.add([[{"LOWER": word.lower()}]], {"POS": tag})  # type: ignore[attr-defined]
    loaded = []

    def load(name: str) -> Any:
        loaded.append(name)
        return pipeline

    def install(**versions: str) -> list[str]:
        def of(name: str) -> str:
            if name in versions:
                return versions[name]
            raise PackageNotFoundError(name) if name in lexicons.MODELS else AssertionError(name)

        monkeypatch.setattr(lexicons, "version", of)
        monkeypatch.setattr(spacy, "load", load)
        return loaded

    load_lexicon.cache_clear()
    yield install
    load_lexicon.cache_clear()


def test_the_best_installed_lexicon_is_used(models: Callable[..., None]) -> None:
    models(scispacy="7.8.9")
    assert installed_lexicon() == "rule 1 (scispacy 7.8.9)"
    models(scispacy="0.6.2", en_core_sci_sm="0.5.4")
    assert installed_lexicon() == "en_core_sci_sm 0.5.4"
    models(scispacy="0.6.2", en_core_sci_sm="0.5.4", en_core_sci_scibert="0.5.3")
    assert installed_lexicon() == "en_core_sci_scibert 0.5.3"


@pytest.mark.parametrize("name", lexicons.MODELS)
def test_a_models_tags_decide_which_words_are_lexical(models: Callable[..., Any], tokenizer: Any, name: str) -> None:
    loaded = models(**{name: "1.0"})
    text = "Small effusion, seen by Smith, left 3"
    found = load_lexicon(installed_lexicon())
    assert spelled(text, lexical_words(text, found)) == ["Small", "effusion", "seen"]
    assert Word(14, 15, False, True) in found(text)
    assert "".join(chosen_pieces(tokenizer, text, name=installed_lexicon())) == "Smalleffusionseen"
    assert loaded == [name], "loaded once, and that one"


# Disease words


@pytest.mark.parametrize(
    ("text", "category", "expected"),
    [
        ("small left pleural effusion.", "Pleural Effusion", ["pleural", "effusion"]),
        ("bilateral effusions", "Effusion", ["effusions"]),
        ("PLEURAL-based opacity", "pleural_effusion", ["PLEURAL-based"]),
        ("hazy opacities, opacification", " Lung Opacity ", ["opacities", "opacification"]),
        ("cardiac silhouette; no cardiomegaly", "Cardiomegaly", ["cardiac", "cardiomegaly"]),
        ("atelectatic/consolidative change", "Atelectasis", ["atelectatic/consolidative"]),
        ("hydropneumothoraces", "Pneumothorax", ["hydropneumothoraces"]),
        ("edema and pneumonia", "Edema", ["edema"]),
        ("edema and pneumonia", "", ["edema", "pneumonia"]),
        ("a nodule in a lung", "Nodule", ["nodule"]),
        ("large heart", "Cardiomegaly", []),
        *((f"a {word}.", category, [word]) for category, words in QUERY_WORDS.items() for word in words),
    ],
)
def test_disease_words_contain_a_query_word_of_the_category(text: str, category: str, expected: list[str]) -> None:
    assert spelled(text, disease_words(text, category)) == expected


# Tokens, by hand: [start] effu ##sion - mild [end] [padding]

BY_HAND = tensor([[0, 0], [0, 4], [4, 8], [8, 9], [10, 14], [0, 0], [0, 0]])
MASK = tensor([1, 1, 1, 1, 1, 1, 0]).bool()


@pytest.mark.parametrize(
    ("choice", "category", "expected"),
    [
        ("lexical", "", [1, 2, 4]),
        ("disease", "Effusion", [1, 2]),
        ("disease", "Edema", [1, 2, 3, 4]),  # with a note
        ("all", "", [1, 2, 3, 4]),
        ("start", "", [0]),
        ("end", "", [5]),
    ],
)
def test_tokens_by_hand(rule: Lexicon, choice: str, category: str, expected: list[int]) -> None:
    chosen, note = choose_tokens("effusion, mild", BY_HAND, MASK, choice, rule, category)
    assert chosen.nonzero()[:, 0].tolist() == expected
    assert chosen.dtype == torch.bool
    assert note == ("no disease word in the phrase: all tokens were averaged" if category == "Edema" else "")


def test_a_neighbour_that_touches_a_span_is_not_covered() -> None:
    offsets = tensor([[0, 0], [0, 2], [2, 11], [11, 12], [12, 16], [0, 0]])
    assert covered([(2, 11)], offsets).tolist() == [False, False, True, False, False, False]
    assert covered([(0, 3)], offsets).tolist() == [False, True, True, False, False, False]
    assert covered([(0, 16)], offsets).tolist() == [False, True, True, True, True, False]
    assert covered([], offsets).tolist() == [False] * 6


# Tokens, with real tokenizers


@pytest.mark.parametrize(
    ("text", "category", "expected"),
    [
        ("the pleural cardiothorax", None, "pleuralcardiothorax"),  # every piece of a rare word
        ("effusion,left", None, "effusionleft"),
        # hyphens and slashes inside a word belong to it
        ("the left-sided mid/lower effusion", None, "left-sidedmid/lowereffusion"),
        # without a lexical word all tokens are chosen, of an empty text none
        ("there is a 3", None, "thereisa3"),
        ("", None, ""),
        ("Right-sided pneumonia/edema, large", "Edema", "pneumonia/edema"),
        ("(pneumothorax) at the base", "Pneumothorax", "pneumothorax"),
        ("hazy opacity", "Edema", "hazyopacity"),
    ],
)
def test_the_tokens_of_words(tokenizer: Any, text: str, category: str | None, expected: str) -> None:
    choice = "lexical" if category is None else "disease"
    assert "".join(chosen_pieces(tokenizer, text, choice, category=category or "")) == expected
    assert "".join(chosen_pieces(tokenizer, text, "all")) == "".join(text.split())


def test_truncated_texts(tokenizer: Any) -> None:
    text = "left base and right upper opacity"
    full, cut = chosen_pieces(tokenizer, text), chosen_pieces(tokenizer, text, length=8)
    assert (cut == full[: len(cut)], 0 < len(cut) < len(full)) == (True, True)
    text = "there is and there was and there will be an effusion"  # no lexical word is left: all tokens are chosen
    assert "".join(chosen_pieces(tokenizer, text, length=6)) in text.replace(" ", "")


def test_spaces_bytes_and_unknown_words(byte_pairs: Any, word_pieces: Any) -> None:
    assert [1, 6] in Encoder(byte_pairs).encode(["a left base"]).offsets[0].tolist(), "a token carries its space"
    assert chosen_pieces(byte_pairs, "œ") == ["œ"] * len("œ".encode()), "all bytes of a letter are chosen"
    assert byte_pairs.pad_token_id == byte_pairs.eos_token_id, "as in CLIP: the end token is found all the same"
    assert word_pieces.unk_token_id in word_pieces("the ☃ base")["input_ids"]
    assert chosen_pieces(word_pieces, "the ☃ base", "all") == ["the", "☃", "base"]


@pytest.mark.parametrize(
    ("text", "offsets", "words"),
    [
        ("a b.", [(0, 0), (0, 1), (2, 3), (3, 4), (0, 0)], ["[start]", "a", "b", ".", "[end]"]),
        ("ground-glass", [(0, 0), (0, 4), (4, 6), (6, 7), (7, 12), (0, 0)], ["[start]", "ground-glass", "[end]"]),
        ("mid lung", [(0, 0), (0, 3), (3, 6), (6, 8), (0, 0)], ["[start]", "mid", "lung", "[end]"]),
    ],
    ids=("punctuation", "sub-tokens and a hyphen", "tokens with their leading space"),
)
def test_words_of_sub_tokens(text: str, offsets: list[tuple[int, int]], words: list[str]) -> None:
    mask = torch.tensor([True] * len(offsets) + [False])
    found, weights = word_weights(text, torch.tensor([*offsets, (0, 0)]), mask)
    assert found == words
    assert weights.sum(1).tolist() == pytest.approx([1] * len(words))
    assert (weights.sum(0) > 0).tolist() == mask.tolist()
