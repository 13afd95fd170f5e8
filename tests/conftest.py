"""Tiny seeded models that several test files share. Heavy imports wait until a fixture is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.components import LdmComponents
    from gtg_bench.training.recipe import TextRecipe

TEXTS = [
    "Small left pleural effusion.",
    "Right-sided pneumonia / edema",
    "mild cardiomegaly, large in degree",
    "there is a hazy opacity at the right base",
    "pneumothorax",
]
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
VAE = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (4, 8),
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 16,
    "mid_block_add_attention": False,
}
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "projection_size": 16,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="session")
def torch() -> Any:
    """torch on one thread: the models are too small to gain from more."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def text_recipe() -> TextRecipe:
    """What the tiny tokenizers are trained with; 24 tokens a text."""
    from gtg_bench.training.recipe import Schedule, TextRecipe

    schedule = Schedule(steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=0)
    return TextRecipe(schedule=schedule, family="cxr-bert", config=BERT, vocab_size=90, max_length=24)


@pytest.fixture(scope="session")
def word_pieces(text_recipe: TextRecipe) -> Any:
    """A WordPiece tokenizer that splits most words."""
    from gtg_bench.training.text_encoders import word_piece_tokenizer

    return word_piece_tokenizer(TEXTS, text_recipe)


@pytest.fixture(scope="session")
def byte_pairs(text_recipe: TextRecipe) -> Any:
    """A byte-level BPE tokenizer whose tokens carry their leading space."""
    from gtg_bench.training.text_encoders import byte_pair_tokenizer

    return byte_pair_tokenizer(TEXTS, text_recipe.model_copy(update={"vocab_size": 330}))


@pytest.fixture(scope="session")
def make_unet(torch: Any) -> Callable[..., Any]:
    """Builds a tiny U-Net of a seed; keyword arguments replace settings. Its attention is far from even."""
    from diffusers import UNet2DConditionModel

    def make(seed: int = 0, **changes: Any) -> Any:
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**(UNET | changes)).eval().requires_grad_(False)
        for name, parameter in unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                parameter.mul_(3)
        return unet

    return make


@pytest.fixture(scope="session")
def components(torch: Any, make_unet: Callable[..., Any], word_pieces: Any) -> LdmComponents:
    """A tiny latent diffusion model: 16 x 16 grey images, 8 x 8 latents, CXR-BERT of width 32."""
    from diffusers import AutoencoderKL, DDIMScheduler
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    from gtg_bench.methods.ldm.components import LdmComponents
    from gtg_bench.methods.text_encoders.cxr_bert import CxrBertTextEncoder
    from gtg_bench.training.diffusion import SCHEDULER

    torch.manual_seed(1)
    vae = AutoencoderKL(**VAE).eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=2.5)
    bert = CXRBertModel(CXRBertConfig(vocab_size=len(word_pieces), pad_token_id=word_pieces.pad_token_id, **BERT))
    encoder = CxrBertTextEncoder(bert, word_pieces, max_length=24)
    return LdmComponents(make_unet(), vae, DDIMScheduler(**SCHEDULER), encoder, torch.device("cpu"))
