"""What pretraining is made of: vocabularies, masking, contrasts, measures, generic pictures, definitions."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.datasets.phantom.findings import CATEGORY_WEIGHTS
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining import med_kebert
from gtg_bench.training.pretraining.losses import contrast, language_loss, local_contrast
from gtg_bench.training.pretraining.material import GenericPictures, Pairs, Worlds
from gtg_bench.training.pretraining.samples import MaskedDraws, PairDraws, Tokens, mask_tokens, pictures, trimmed
from gtg_bench.training.pretraining.stage import masked_accuracy, retrieval
from gtg_bench.training.pretraining.tokenizers import (
    byte_pair_file,
    byte_pair_tokenizer,
    simple_tokenizer,
    word_piece_tokenizer,
)

pytestmark = pytest.mark.usefixtures("torch")
ODD = [
    "There is a Small  left-sided pneumothorax, 3.5 cm; isn't it?",
    "No focal consolidation / ILL-DEFINED opacity (R>L).",
    "a photo of a naïve café, 100% µm",
    "",
]


# Vocabularies


@pytest.mark.parametrize("size", [514, 700, 2514])
def test_clips_tokenizer_is_open_clips_with_the_same_merges(size: int) -> None:
    ours, theirs = byte_pair_tokenizer(size, 77), simple_tokenizer(size)
    assert len(ours) == theirs.vocab_size == size
    for text in ODD:
        assert ours(text).input_ids == [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id]
    packed = byte_pair_file(size)
    assert packed == byte_pair_file(size)
    assert gzip.decompress(packed).decode().split("\n")[:1] == ["#version: 0.2"]


def test_a_word_piece_vocabulary_holds_the_most_frequent_words() -> None:
    texts = ["left lung", "left base", "left lung base", "right"]
    tokenizer = word_piece_tokenizer(texts, 5 + 2 * 13 + 2, 16)
    vocabulary = tokenizer.get_vocab()
    assert {"left", "base"} <= vocabulary.keys()  # three times; twice, and before "lung" in the alphabet
    assert "lung" not in vocabulary
    assert tokenizer("Left right").input_ids[1] == vocabulary["left"]
    assert all(word_piece_tokenizer(texts, 33, 16).get_vocab() == vocabulary for _ in range(4))


# Masking


def test_masking_follows_bert_and_spares_special_tokens(word_pieces: Any) -> None:
    special, size = set(word_pieces.all_special_ids), len(word_pieces)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(size, (400, 200), generator=generator)
    mask = (torch.arange(200) < 180).expand(400, -1).long()
    masked, targets = mask_tokens(ids, mask, word_pieces, generator)
    chosen = targets != -100
    ordinary = ~torch.isin(ids, torch.tensor(sorted(special))) & mask.bool()
    assert not (chosen & ~ordinary).any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert torch.equal(targets[chosen], ids[chosen])
    shares = chosen.sum() / ordinary.sum(), (masked == word_pieces.mask_token_id)[chosen].float().mean()
    assert [float(share) for share in shares] == pytest.approx([0.15, 0.8], abs=0.01)
    assert float((masked == ids)[chosen].float().mean()) == pytest.approx(0.1 * (1 + 1 / size), abs=0.01)


def test_masks_change_with_the_epoch_and_come_again_with_the_position(word_pieces: Any) -> None:
    tokens = Tokens.of(word_pieces, ["left pleural effusion at the right base"] * 3, 24)
    draws = MaskedDraws(PairDraws(tokens, EpochOrder(3, 0)), word_pieces, seed=5)
    made = [draws[position]["masked"] for position in range(12)]
    assert len({tuple(row.tolist()) for row in made}) > 6
    assert all(torch.equal(draws[position]["masked"], row) for position, row in enumerate(made))


def test_the_language_loss_is_the_mean_over_targets_and_nothing_without_any() -> None:
    logits, targets = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), torch.full((2, 3), -100)
    assert float(language_loss(logits, targets)) == 0
    targets[0, 1], targets[1, 2] = 4, 0
    by_hand = -(logits[0, 1].log_softmax(0)[4] + logits[1, 2].log_softmax(0)[0]) / 2
    assert float(language_loss(logits, targets)) == pytest.approx(float(by_hand), abs=1e-6)


# Contrasts


def test_contrast_by_hand() -> None:
    # Cosines [[1, 0.6], [0, 0.8]] times 2; cross entropy is log(1 + exp(other - own)) by rows, then by columns.
    text, image = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.6, 0.8]])
    rows = np.log1p(np.exp(1.2 - 2)) + np.log1p(np.exp(0 - 1.6))
    columns = np.log1p(np.exp(0 - 2)) + np.log1p(np.exp(1.2 - 1.6))
    found = contrast(text, image, torch.tensor(2.0).log())
    assert float(found) == pytest.approx((rows + columns) / 4, abs=1e-6)


def test_a_group_shares_its_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn((2, 3, 4), generator=generator)
    scale, apart = torch.tensor(1.0), torch.arange(3)
    torch.testing.assert_close(contrast(one, other, scale, apart), contrast(one, other, scale))
    similarity = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T * scale.exp()
    wanted = 0.0
    for logits in (similarity, similarity.T):
        logs = logits.log_softmax(1)
        wanted -= float((logs[0, 0] + logs[0, 2]) / 2 + logs[1, 1] + (logs[2, 0] + logs[2, 2]) / 2) / 3 / 2
    assert float(contrast(one, other, scale, torch.tensor([7, 1, 7]))) == pytest.approx(wanted, abs=1e-6)


def test_local_contrast_written_out() -> None:
    generator, lengths, logits = torch.Generator().manual_seed(3), [5, 3, 4], torch.zeros(3, 3)
    tokens, patches = torch.randn((3, 5, 6), generator=generator), torch.randn((3, 4, 6), generator=generator)
    mask = (torch.arange(5)[None] < torch.tensor(lengths)[:, None]).long()
    for text, image in np.ndindex(3, 3):
        regions, fits = F.normalize(patches[image], dim=1), []
        for place in range(1, lengths[text] - 1):
            word = F.normalize(tokens[text, place], dim=0)
            context = (5 * (regions @ word)).softmax(0) @ regions
            fits.append(F.cosine_similarity(word, context, dim=0))
        logits[text, image] = 10 * sum(fits) / len(fits)
    own = torch.arange(3)
    wanted = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(local_contrast(tokens, mask, patches, torch.tensor(10.0).log()), wanted)
    mask[0, 2:] = 0  # no word between [CLS] and [SEP]
    assert torch.isfinite(local_contrast(tokens, mask, patches, torch.tensor(1.0)))


# Measures


class Rows:
    """Draws whose sample at a position is a row of a tensor."""

    def __init__(self, **tensors: Tensor) -> None:
        self.tensors = tensors

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return {name: tensor[position] for name, tensor in self.tensors.items()}


def test_retrieval_counts_the_same_text_as_the_own_one() -> None:
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    image = torch.tensor([[5.0, 0.1], [2.0, 0.2], [-1.0, 0.2], [0.1, 3.0]])
    found = retrieval(lambda batch: (batch["text"], batch["image"]), Rows(text=text, image=image), ["a", "a", "b", "c"])
    # images 0 and 1 find "a"; 2 finds "c", 3 finds "b". Texts "a" find image 0; "b" finds image 3, "c" image 2.
    assert found == {"image_to_text_r1": 0.5, "text_to_image_r1": 0.5, "retrieval_chance": round(1 / 3, 4)}


def test_masked_accuracy_by_hand() -> None:
    class Echo(torch.nn.Module):
        def forward(self, ids: Tensor, attention_mask: Tensor) -> Any:
            return type("Out", (), {"logits": F.one_hot(ids, 6).float()})

    targets = torch.tensor([[-100, 3, 3], [2, -100, 3]])
    draws = Rows(masked=torch.tensor([[1, 3, 1], [2, 5, 4]]), mask=torch.ones(2, 3), targets=targets)
    assert masked_accuracy(Echo(), draws, 2) == {"masked_token_accuracy": 0.5, "masked_token_chance": 0.75}


def test_padding_that_no_text_needs_is_cut() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    batch = trimmed({"ids": torch.arange(8).view(2, 4), "mask": mask, "pixels": torch.zeros(2, 9, 9)})
    assert batch["ids"].tolist() == [[0, 1, 2], [4, 5, 6]]
    assert batch["pixels"].shape == (2, 9, 9)
    assert pictures(torch.full((2, 128, 128), 255, dtype=torch.uint8)).unique().tolist() == [1.0]


# Pictures


@pytest.mark.parametrize("name", ["shapes", "scenes"])
def test_pictures_are_a_function_of_their_seed(name: str) -> None:
    one, same, other = (Pairs.generic(name, 6, seed) for seed in (3, 3, 4))
    assert one.texts == same.texts != other.texts
    assert torch.equal(one.pixels, same.pixels)
    assert one.pixels.shape == (6, 64, 64)
    assert one.pixels.dtype == torch.uint8
    assert not any(read_phrase(text).category for text in Pairs.generic(name, 200, 0).texts)


def test_pictures_show_what_their_captions_say() -> None:
    pairs, seen = Pairs.generic("shapes", 300, 0), 0
    for pixels, caption in zip(pairs.pixels.numpy(), pairs.texts, strict=True):
        if " and " in caption or "bright" not in caption:
            continue
        y, x = ((np.argwhere(pixels > 205).mean(0) + 0.5) / 32 - 1).tolist()
        places = {"upper": y < -0.2, "lower": y > 0.2, "left": x < -0.2, "right": x > 0.2}
        assert all(holds for word, holds in places.items() if f" {word}" in caption), caption
        seen += any(word in caption for word in places)
    assert seen > 10
    pairs, seen = Pairs.generic("scenes", 300, 0), 0
    for pixels, caption in zip(pairs.pixels.numpy(), pairs.texts, strict=True):
        if not caption.startswith("drawing") or " black " not in caption or "night" in caption:
            continue
        x = (np.argwhere(pixels < 45).mean(0)[1] + 0.5) / 32 - 1
        wanted = {"far left": -0.7, "left": -0.35, "center": 0.0, "right": 0.35, "far right": 0.7}
        assert abs(x - wanted[caption.split(", ")[1]]) < 0.25, caption
        seen += 1
    assert seen > 5


def test_generic_pictures_are_a_training_set() -> None:
    worlds = Worlds(world=0, seed=3, pictures=5)
    train, again, held_out = (worlds.generic(split) for split in ("train", "train", "validate"))
    made = Pairs.generic("shapes", 5, 3)
    assert (len(train), train.options) == (5, {"seed": "3", "pictures": "5"})
    assert [pair.text for pair in train] == made.texts
    assert np.array_equal(train[2].pixels() * 255, made.pixels[2])
    assert train.fingerprint == again.fingerprint != held_out.fingerprint
    with pytest.raises(UsageError, match=r"'test'.*train, validate"):
        worlds.generic("test")
    darker = Pairs(made.pixels // 2, made.texts)
    assert GenericPictures(darker, "train", {}).fingerprint != train.fingerprint


# Definitions


def test_every_finding_of_the_phantom_is_defined_once() -> None:
    named = [name for concept in med_kebert.concepts() for name in concept.names]
    assert {category.lower() for category in CATEGORY_WEIGHTS} <= set(named)
    entities = [{med_kebert.entity(name, False) for name in concept.names} for concept in med_kebert.concepts()]
    assert len(set(named)) == len(named)
    assert sum(map(len, entities)) == len(set().union(*entities))
    assert all(len(concept.definitions) >= 3 for concept in med_kebert.concepts())


def test_definitions_are_drawn_by_position_and_the_last_is_held_out(word_pieces: Any) -> None:
    table, concepts = med_kebert.TokenTable(word_pieces, 64), med_kebert.concepts()
    draws, texts = med_kebert.DefinitionDraws(table, seed=1), {row: text for text, row in table.rows.items()}
    rows = {tuple(ids.tolist()): texts[row] for row, ids in enumerate(table.tokens.ids)}
    groups = []
    for position in range(4 * len(concepts)):
        sample = draws[position]
        entity, said = (rows.get(tuple(sample[f"{kind}_ids"].tolist()), "") for kind in ("entity", "definition"))
        number, absent = divmod(int(sample["group"]), 2)
        if absent:
            assert entity.endswith("absent [SEP]")
            said = said.removeprefix("absence of ")
        assert said in concepts[number].definitions[:-1]
        groups.append((number, absent))
    epochs = np.array(groups).reshape(4, len(concepts), 2)
    assert (np.sort(epochs[..., 0]) == np.arange(len(concepts))).all()
    assert 0 < epochs[..., 1].sum() < len(concepts)
