"""Med-KEBERT (Zhang et al. 2023): contrast of medical entities with their definitions, without images.

Entities are written as in evaluation: findings that the encoder knows get an entity text, present or absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.methods.text_encoders.med_kebert import entity_text
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.losses import INITIAL_LOG_SCALE, contrast
from gtg_bench.training.pretraining.material import Material
from gtg_bench.training.pretraining.recipe import DEFINITIONS, TextRecipe
from gtg_bench.training.pretraining.samples import Tokens
from gtg_bench.training.pretraining.stage import Stage, save_transformers
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer

_ABSENT_SHARE = 0.25
_EXTRA_WORDS = "present absent absence"
"""Words of entity texts and definitions that the table does not contain."""


@dataclass(frozen=True)
class Concept:
    """A finding or an anatomical location: its names and definitions; the last definition is held out."""

    names: tuple[str, ...]
    definitions: tuple[str, ...]


@cache
def concepts() -> tuple[Concept, ...]:
    """The concepts of definitions.yaml."""
    rows = yaml.safe_load(DEFINITIONS.read_text(encoding="utf-8"))
    return tuple(Concept(tuple(row["names"]), tuple(row["definitions"])) for row in rows)


def entity(name: str, absent: bool) -> str:
    """The text of an entity as the encoder receives it."""
    return entity_text(f"no {name}" if absent else name)


def definition(text: str, absent: bool) -> str:
    """The definition of an entity that is present or absent."""
    return f"absence of {text}" if absent else text


class TokenTable:
    """Tokens of all entities and definitions.

    Attributes:
        rows: text -> row of `tokens`.
        tokens: the tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        found: set[str] = set()
        for concept, absent in product(concepts(), (False, True)):
            found |= {entity(name, absent) for name in concept.names}
            found |= {definition(text, absent) for text in concept.definitions}
        texts = sorted(found)
        self.rows = {text: row for row, text in enumerate(texts)}
        self.tokens = Tokens.of(tokenizer, texts, max_length)

    def sample(self, prefix: str, text: str) -> dict[str, Tensor]:
        """`PREFIX_ids` and `PREFIX_mask` of a text."""
        row = self.rows[text]
        return {f"{prefix}_ids": self.tokens.ids[row], f"{prefix}_mask": self.tokens.mask[row]}


@dataclass(frozen=True)
class DefinitionDraws:
    """Samples of an entity and one of its definitions; `group` int64 [] numbers the pairs of concept and presence."""

    table: TokenTable
    seed: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = EpochOrder(len(concepts()), self.seed)(position)
        generator = torch.Generator().manual_seed(seed_for(self.seed, "definition", position))
        concept, chance = concepts()[number], float(torch.rand((), generator=generator))
        name = concept.names[int(torch.randint(len(concept.names), (), generator=generator))]
        text = concept.definitions[int(torch.randint(len(concept.definitions) - 1, (), generator=generator))]
        absent = chance < _ABSENT_SHARE and entity_text(name) != name  # only known findings can be absent
        sample = self.table.sample("entity", entity(name, absent))
        sample |= self.table.sample("definition", definition(text, absent))
        return sample | {"group": torch.tensor(2 * number + absent)}


class DefinitionObjective(nn.Module):
    """Contrast of entities and definitions in a joint space."""

    def __init__(self, text: Any, width: int) -> None:
        super().__init__()
        self.text = text
        self.project = nn.Linear(text.config.hidden_size, width)
        self.scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        entities = self.embed(batch["entity_ids"], batch["entity_mask"])
        definitions = self.embed(batch["definition_ids"], batch["definition_mask"])
        return contrast(entities, definitions, self.scale, batch["group"])

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [B, D] of texts."""
        longest = int(mask.sum(1).max())
        states = self.text(input_ids=ids[:, :longest], attention_mask=mask[:, :longest]).last_hidden_state
        return self.project(states[:, 0])


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """Prepare the pretraining of a BertModel on the table of definitions; `material` is not used."""
    torch.manual_seed(seed)
    texts = [text for concept in concepts() for text in (*concept.names, *concept.definitions)]
    tokenizer = word_piece_tokenizer([*texts, _EXTRA_WORDS], recipe.vocab_size, recipe.max_length)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    model = BertModel(config, add_pooling_layer=False)
    objective, table = DefinitionObjective(model, config.hidden_size), TokenTable(tokenizer, recipe.max_length)
    return Stage(
        objective,
        DefinitionDraws(table, seed),
        lambda folder: save_transformers(model, tokenizer, recipe, folder),
        lambda: held_out_definitions(objective, table),
    )


@torch.no_grad()
def held_out_definitions(objective: DefinitionObjective, table: TokenTable) -> dict[str, float]:
    """Share of held-out definitions whose most similar entity, under any of its names, is the right one."""

    def embedded(texts: list[str]) -> Tensor:
        rows = [table.rows[text] for text in texts]
        return F.normalize(objective.embed(table.tokens.ids[rows], table.tokens.mask[rows]), dim=-1)

    names = [(number, name) for number, concept in enumerate(concepts()) for name in concept.names]
    definitions = embedded([definition(concept.definitions[-1], False) for concept in concepts()])
    nearest = (definitions @ embedded([entity(name, False) for _, name in names]).T).argmax(1)
    hits = [names[int(row)][0] == number for number, row in enumerate(nearest)]
    return {
        "definition_to_entity_r1": round(sum(hits) / len(hits), 4),
        "definition_to_entity_chance": round(1 / len(hits), 4),
    }
