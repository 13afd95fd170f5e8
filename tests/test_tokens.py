"""Words, and the tokens that stand for them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, tensor

from gtg_bench.methods.ldm.tokens import FUNCTION_WORDS, choose_tokens, lexical_words, words

TOKENIZERS = ["word_pieces", "byte_pairs"]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def spelled(text: str, spans: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


def encoded(tokenizer: Any, text: str, length: int = 24) -> tuple[list[int], Tensor]:
    found = tokenizer(
        text, padding="max_length", truncation=True, max_length=length, return_offsets_mapping=True, verbose=False
    )
    return found["input_ids"], tensor(found["offset_mapping"])


def chosen_pieces(tokenizer: Any, text: str, choice: str = "lexical", length: int = 24) -> list[str]:
    """What the chosen tokens cover of the text, leading spaces left out."""
    _, offsets = encoded(tokenizer, text, length)
    chosen = choose_tokens(text, offsets, choice)
    return [text[start:end].strip() for (start, end), kept in zip(offsets.tolist(), chosen, strict=True) if kept]


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left pleural effusion.", ["Small", "left", "pleural", "effusion"]),
        ("left-sided, mid/lower (tiny)", ["left", "sided", "mid", "lower", "tiny"]),
        ("the patient’s and heart's size", ["the", "patient’s", "and", "heart's", "size"]),
        ("'quoted' words_with_lines", ["quoted", "words", "with", "lines"]),
        ("3 cm, T10; 1.5 cm", ["3", "cm", "T10", "1", "5", "cm"]),
        ("Ödem -- œdème", ["Ödem", "œdème"]),
        ("...", []),
        ("", []),
    ],
)
def test_words_part_at_everything_but_letters_and_digits(text: str, expected: list[str]) -> None:
    assert spelled(text, words(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There IS a small effusion on the left.", ["small", "effusion", "left"]),
        ("no effusion at both bases, 3 cm", ["effusion", "bases", "cm"]),
        ("opacity within the right mid-lung", ["opacity", "right", "mid", "lung"]),
        ("of the and", []),
    ],
)
def test_lexical_words_leave_out_function_words_and_numbers(text: str, expected: list[str]) -> None:
    assert spelled(text, lexical_words(text)) == expected


def test_words_that_place_or_size_a_finding_are_no_function_words() -> None:
    assert not FUNCTION_WORDS & {"left", "right", "upper", "lower", "mid", "bilateral", "base", "small", "large"}


# Tokens, by hand: [start] effu ##sion - mild [end] [padding]


def test_every_piece_of_a_word_counts() -> None:
    offsets = tensor([[0, 0], [0, 4], [4, 8], [8, 9], [9, 13], [0, 0], [0, 0]])
    assert choose_tokens("effusion-mild", offsets, "lexical").tolist() == [False, True, True, False, True, False, False]
    assert choose_tokens("effusion-mild", offsets, "all").tolist() == [False, True, True, True, True, False, False]


def test_a_neighbour_that_touches_a_word_is_not_chosen() -> None:
    offsets = tensor([[0, 0], [0, 2], [2, 11], [11, 12], [12, 16], [0, 0]])
    assert choose_tokens("an effusion of it", offsets, "lexical").tolist() == [False, False, True, False, False, False]


# Tokens, with real tokenizers


def test_all_pieces_of_a_rare_word_are_chosen(tokenizer: Any) -> None:
    pieces = chosen_pieces(tokenizer, "the pleural cardiothorax")
    assert len(pieces) > 3
    assert "".join(pieces) == "pleuralcardiothorax"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left-sided effusion, 3 cm.", "Smallleftsidedeffusioncm"),
        ("right/left  opacity (at the base)", "rightleftopacitybase"),
        ("there is a mild edema", "mildedema"),
        ("\tpneumonia\n of the lung ", "pneumonialung"),
    ],
)
def test_punctuation_spaces_and_function_words_are_not_chosen(tokenizer: Any, text: str, expected: str) -> None:
    assert "".join(chosen_pieces(tokenizer, text)) == expected


def test_hyphenated_words_are_chosen_without_their_hyphen(tokenizer: Any) -> None:
    assert "-" not in chosen_pieces(tokenizer, "left-sided")
    assert "-" in chosen_pieces(tokenizer, "left-sided", "all")


@pytest.mark.parametrize("text", ["it is there", "there is a 3", "..."])
def test_without_a_lexical_word_all_tokens_are_chosen(tokenizer: Any, text: str) -> None:
    assert chosen_pieces(tokenizer, text) == chosen_pieces(tokenizer, text, "all")
    assert "".join(chosen_pieces(tokenizer, text)) == text.replace(" ", "")


@pytest.mark.parametrize("choice", ["lexical", "all"])
def test_an_empty_text_has_no_token_to_choose(tokenizer: Any, choice: str) -> None:
    assert chosen_pieces(tokenizer, "", choice) == []


@pytest.mark.parametrize("choice", ["lexical", "all"])
@pytest.mark.parametrize("text", ["small left pleural effusion " * 4, "edema", "is a the"])
def test_start_end_and_padding_are_never_chosen(tokenizer: Any, text: str, choice: str) -> None:
    ids, offsets = encoded(tokenizer, text)
    chosen = choose_tokens(text, offsets, choice)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert chosen.any()
    assert not any(kept and token in special for kept, token in zip(chosen, ids, strict=True))


def test_what_truncation_cuts_off_is_not_missed(tokenizer: Any) -> None:
    text = "left base and right upper opacity"
    full, cut = chosen_pieces(tokenizer, text), chosen_pieces(tokenizer, text, length=8)
    assert cut == full[: len(cut)]
    assert 0 < len(cut) < len(full)


def test_truncation_before_the_first_lexical_word_leaves_all_tokens(tokenizer: Any) -> None:
    text = "there is and there was and there will be an effusion"
    assert "effusion" in "".join(chosen_pieces(tokenizer, text, length=64))
    assert "".join(chosen_pieces(tokenizer, text, length=6)) in text.replace(" ", "")


def test_byte_level_tokens_carry_their_leading_space(byte_pairs: Any) -> None:
    _, offsets = encoded(byte_pairs, "a left base")
    starts = [start for start, end in offsets.tolist() if end > start]
    assert 1 in starts, "the space before 'left' belongs to its token"
    assert chosen_pieces(byte_pairs, "a left base")[0] == "left"


def test_the_bytes_of_one_letter_are_chosen_together(byte_pairs: Any) -> None:
    _, offsets = encoded(byte_pairs, "œ")
    assert int(choose_tokens("œ", offsets, "lexical").sum()) == len("œ".encode())
