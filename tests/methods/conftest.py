"""Text encoders as older repositories ship them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyz"
REMOTE = {"AutoModel": "modeling_cxrbert.CXRBertModel", "AutoConfig": "configuration_cxrbert.CXRBertConfig"}
TOKENIZER = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}


@pytest.fixture(scope="session")
def pieces() -> list[str]:
    """A vocabulary of word pieces: special tokens, letters and the full stop."""
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "."]


@pytest.fixture(scope="session")
def published(torch: Any) -> Callable[..., Path]:
    """(folder, model, words, remote) -> the folder with config.json, vocab.txt and a pickle, without tokenizer.json.

    With `remote`, the configurations ask for the repository's own code, as CXR-BERT's do; it would end the test.
    """

    def write(folder: Path, model: Any, words: list[str], remote: bool = False) -> Path:
        model.config.save_pretrained(folder)
        positions = {"bert.embeddings.position_ids": torch.arange(model.config.max_position_embeddings)[None]}
        torch.save(model.state_dict() | (positions if remote else {}), folder / "pytorch_model.bin")
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        if remote:
            config = json.loads((folder / "config.json").read_text()) | {"auto_map": REMOTE}
            (folder / "config.json").write_text(json.dumps(config))
            tokenizer = {"tokenizer_class": "CXRBertTokenizer", "auto_map": TOKENIZER, "do_lower_case": True}
            (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
            for name in ("modeling_cxrbert.py", "configuration_cxrbert.py"):
                (folder / name).write_text("raise SystemExit('code of a repository was run')\n")
        return folder

    return write
