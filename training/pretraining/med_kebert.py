"""Med-KEBERT (Zhang et al. 2023): contrast of medical entities with their definitions; no image is looked at.

Entities go in as they do in evaluation: as entity text, present or absent, where they are findings that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.methods.text_encoders.med_kebert import entity_text
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.contrast import START, group_contrast
from gtg_bench.training.pretraining.pairs import Material, Tokens
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import save_transformers
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer

TABLE = Path(__file__).parent / "definitions.yaml"
_ABSENT_SHARE = 0.25
_OF_ENTITIES = "present absent absence"
"""Words of entity texts and of definitions that the table does not hold."""


@dataclass(frozen=True)
class Concept:
    """A finding or a place: its names, and what is said of it; the last definition is held out."""

    names: tuple[str, ...]
    definitions: tuple[str, ...]


@cache
def concepts() -> tuple[Concept, ...]:
    """The table."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tuple(Concept(tuple(row["names"]), tuple(row["definitions"])) for row in rows)


def entity(name: str, absent: bool) -> str:
    """The text of an entity as the encoder gets it."""
    return entity_text(f"no {name}" if absent else name)


def can_be_absent(name: str) -> bool:
    """Whether an entity is a finding that the encoder's entity texts know, present or absent."""
    return entity_text(name) != name


def definition(text: str, absent: bool) -> str:
    """What is said of an entity that is there, or is not."""
    return f"absence of {text}" if absent else text


class Cuts:
    """Tokens of all entities and definitions, made once."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        both = (False, True)
        made = {entity(name, absent) for concept in concepts() for name in concept.names for absent in both}
        made |= {definition(said, absent) for concept in concepts() for said in concept.definitions for absent in both}
        texts = sorted(made)
        self.rows = {text: row for row, text in enumerate(texts)}
        self.tokens = Tokens.of(tokenizer, texts, max_length)

    def sample(self, prefix: str, text: str) -> dict[str, Tensor]:
        """`ids` and `mask` of a text under names with a prefix."""
        row = self.rows[text]
        return {f"{prefix}_ids": self.tokens.ids[row], f"{prefix}_mask": self.tokens.mask[row]}


@dataclass(frozen=True)
class DefinitionDraws:
    """Samples of an entity, one of its definitions, and `group` int64 []: which entity, and whether it is there."""

    cuts: Cuts
    seed: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = EpochOrder(len(concepts()), self.seed)(position)
        generator = torch.Generator().manual_seed(seed_for(self.seed, "definition", position))
        concept, chance = concepts()[number], float(torch.rand((), generator=generator))
        name = concept.names[_below(len(concept.names), generator)]
        absent = chance < _ABSENT_SHARE and can_be_absent(name)
        said = concept.definitions[_below(len(concept.definitions) - 1, generator)]
        sample = self.cuts.sample("entity", entity(name, absent))
        sample |= self.cuts.sample("definition", definition(said, absent))
        return sample | {"group": torch.tensor(2 * number + absent)}


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


class DefinitionObjective(nn.Module):
    """Contrast of entities and definitions in a space of their own."""

    def __init__(self, text: Any, width: int) -> None:
        super().__init__()
        self.text = text
        self.project = nn.Linear(text.config.hidden_size, width)
        self.scale = nn.Parameter(torch.tensor(START))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        entities, definitions = (self.embed(batch[f"{kind}_ids"], batch[f"{kind}_mask"]) for kind in _KINDS)
        return group_contrast(entities, definitions, batch["group"], self.scale)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [B, D] of texts."""
        longest = int(mask.sum(1).max())
        states = self.text(input_ids=ids[:, :longest], attention_mask=mask[:, :longest]).last_hidden_state
        return self.project(states[:, 0])


_KINDS = ("entity", "definition")


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of a BertModel on the table; of `material` nothing is looked at."""
    torch.manual_seed(seed)
    told = [text for concept in concepts() for text in (*concept.names, *concept.definitions)]
    tokenizer = word_piece_tokenizer([*told, _OF_ENTITIES], recipe.vocab_size, recipe.max_length)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    model = BertModel(config, add_pooling_layer=False)
    objective, cuts = DefinitionObjective(model, config.hidden_size), Cuts(tokenizer, recipe.max_length)

    def save(folder: Path) -> dict[str, Any]:
        return save_transformers(model, tokenizer, recipe, folder)

    return Stage(objective, DefinitionDraws(cuts, seed), save, lambda: held_out_definitions(objective, cuts))


@torch.no_grad()
def held_out_definitions(objective: DefinitionObjective, cuts: Cuts) -> dict[str, float]:
    """Share of the definitions never trained on whose most similar entity is their own, under any of its names."""

    def embedded(texts: list[str]) -> Tensor:
        rows = [cuts.rows[text] for text in texts]
        return F.normalize(objective.embed(cuts.tokens.ids[rows], cuts.tokens.mask[rows]), dim=-1)

    names = [(number, name) for number, concept in enumerate(concepts()) for name in concept.names]
    said = embedded([definition(concept.definitions[-1], False) for concept in concepts()])
    nearest = (said @ embedded([entity(name, False) for _, name in names]).T).argmax(1)
    hits = [names[int(row)][0] == number for number, row in enumerate(nearest)]
    return {
        "definition_to_entity_r1": round(sum(hits) / len(hits), 4),
        "definition_to_entity_chance": round(1 / len(hits), 4),
    }
