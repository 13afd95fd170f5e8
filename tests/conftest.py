"""Tiny seeded models that several test files share. Heavy imports wait until a fixture is asked for."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.components import LdmComponents
    from gtg_bench.training.recipe import TextRecipe

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
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


@pytest.fixture(scope="session")
def golden(torch: Any) -> Callable[[str], tuple[dict[str, Any], dict[str, Any]]]:
    """Reads the facts and the arrays, as tensors, of the released code's golden values of a name."""
    import numpy as np

    def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        if not (GOLDEN / f"{name}.npz").is_file():
            pytest.skip("the golden values of the released code are not beside this checkout")
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return json.loads((GOLDEN / f"{name}.json").read_text()), {k: torch.from_numpy(arrays[k]) for k in arrays}

    return read


@pytest.fixture(scope="session")
def golden_unet(golden: Callable[[str], tuple[dict[str, Any], dict[str, Any]]]) -> Any:
    """The U-Net that the golden attention maps are of."""
    facts, _ = golden("attention")
    spec = importlib.util.spec_from_file_location("golden_tiny_unet", GOLDEN / "tiny_unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unet, digest = module.build()
    assert digest == facts["weights_sha256"]["unet"]
    return unet


@pytest.fixture(scope="session")
def literal_forward(torch: Any) -> Callable[..., tuple[Any, list[Any]]]:
    """Eq. 1 word for word, with plain hooks on the projections and nothing of the package.

    (U-Net, x_t [C, H, W], t, states [L, D]) -> its output [C, H, W], and of every layer that projects the states to
    keys, in the order in which that happens, the probabilities, float64 [heads, L, H, W], upsampled by index.
    """

    def forward(unet: Any, x_t: Any, t: int, states: Any) -> tuple[Any, list[Any]]:
        height, width = x_t.shape[-2:]
        maps, queries, small, handles = [], {}, [(0, 0)], []

        def enter(module: Any, inputs: Any) -> None:
            small[0] = tuple(inputs[0].shape[-2:])

        def query(name: str, module: Any, inputs: Any, output: Any) -> None:
            queries[name] = output[0].double()

        def key(name: str, heads: int, module: Any, inputs: Any, output: Any) -> None:
            if inputs[0].shape[1:] != states.shape or not torch.equal(inputs[0][0], states):
                return
            q, k = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (queries[name], output[0].double()))
            found = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
            found = found.transpose(1, 2).unflatten(-1, small[0])
            rows = [y * small[0][0] // height for y in range(height)]
            columns = [x * small[0][1] // width for x in range(width)]
            maps.append(found[:, :, rows][:, :, :, columns])

        for name, module in unet.named_modules():
            if type(module).__name__ == "Transformer2DModel":
                handles.append(module.register_forward_pre_hook(enter))
            elif name.endswith(("attn1", "attn2")):
                handles.append(module.to_q.register_forward_hook(partial(query, name)))
                handles.append(module.to_k.register_forward_hook(partial(key, name, module.heads)))
        try:
            with torch.inference_mode():
                return unet(x_t[None], t, states[None]).sample[0], maps
        finally:
            for handle in handles:
                handle.remove()

    return forward


@pytest.fixture(scope="session")
def golden_bbm(golden: Callable[[str], tuple[dict[str, Any], dict[str, Any]]], torch: Any) -> Callable[[int], Any]:
    """The golden maps of a case through the package's reductions: P_comb, P_mult, image bias, text bias, float64.

    As the golden values have it, the last step is averaged for P_comb and both steps for the biases.
    """
    from gtg_bench.methods.ldm.bias import BiasedMaps, BiasProducts, text_bias
    from gtg_bench.methods.ldm.reduction import MeanMaps, Rows

    facts, arrays = golden("bbm")
    steps, layers, size = facts["T"], range(facts["L"]), (64, 64)

    def parts(case: int) -> list[Any]:
        image, text = arrays[f"c{case}_gt"], arrays[f"c{case}_text"]
        of_text = {str(layer): text[None, :, layer, 1:].mean(2) for layer in layers}
        products = BiasProducts(of_text, torch.tensor([0]), size)
        maps = BiasedMaps(MeanMaps(1, size, steps - facts["rev_diff_steps"]), products)
        maps.rows = Rows(torch.zeros(steps, dtype=torch.int64), torch.arange(steps))
        for layer in layers:
            maps.add(str(layer), torch.stack([image[:, layer, 1:].mean(1), image[:, layer, 0]], 1))
        found = (maps.combined.mean()[0], products.mean(), maps.image.mean()[0], text_bias(of_text, size))
        return [part[0].double().numpy() for part in found]

    return parts


@pytest.fixture
def folder(components: LdmComponents, tmp_path: Path) -> Path:
    """The tiny components in the zoo's layout, as weights of `tiny-ldm`."""
    from gtg_bench.training.cards import write_card

    ldm, encoder = tmp_path / "tiny-ldm", components.text_encoder
    components.unet.save_pretrained(ldm / "unet")
    components.scheduler.save_pretrained(ldm / "scheduler")
    components.vae.save_pretrained(tmp_path / "autoencoder")
    encoder.model.save_pretrained(tmp_path / "cxr-bert")  # type: ignore[attr-defined]
    encoder.tokenizer.save_pretrained(tmp_path / "cxr-bert")  # type: ignore[attr-defined]
    write_card(tmp_path / "autoencoder")
    write_card(tmp_path / "cxr-bert", family="cxr-bert", max_length=24)
    write_card(ldm, components={"vae": "../autoencoder", "text_encoder": "../cxr-bert"}, defaults={"steps": 6})
    return ldm
