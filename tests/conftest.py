"""Fixtures that several test folders share: tiny seeded models, and runs. Heavy imports are inside the fixtures."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.components import LdmComponents


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file share a worker, but each README has its own; the longest come first (`--dist loadgroup`)."""
    readme = [item for item in items if item.path.name == "test_readme.py"]
    items[:] = [*readme, *(item for item in items if item.path.name != "test_readme.py")]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.name if item in readme else str(item.path)))


GOLDEN = Path(__file__).parent / "golden"
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
    """PyTorch on one thread: the models are too small to gain from more."""
    import torch

    torch.set_num_threads(1)
    return torch


@pytest.fixture
def free_port() -> int:
    """An unused local port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def word_pieces() -> Any:
    """A WordPiece tokenizer that splits most words; 24 tokens per text."""
    from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer

    return word_piece_tokenizer(TEXTS, 90, 24)


@pytest.fixture(scope="session")
def byte_pairs() -> Any:
    """A byte-level BPE tokenizer whose tokens carry their leading space, as RoBERTa's and GPT-2's do; 24 tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw, ends = Tokenizer(models.BPE()), ("<|startoftext|>", "<|endoftext|>")
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(ends), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(TEXTS, trainer)
    numbers = [(end, raw.token_to_id(end)) for end in ends]
    raw.post_processor = processors.TemplateProcessing(single=f"{ends[0]} $A {ends[1]}", special_tokens=numbers)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=24, bos_token=ends[0], eos_token=ends[1], pad_token=ends[1]
    )


@pytest.fixture(scope="session")
def make_unet(torch: Any) -> Callable[..., Any]:
    """Build a tiny seeded U-Net whose attention is far from uniform; keyword arguments override its settings."""
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

    from gtg_bench.methods.ldm.architectures import SD15_SCHEDULE
    from gtg_bench.methods.ldm.components import LdmComponents
    from gtg_bench.methods.text_encoders.cxr_bert import CxrBertTextEncoder

    torch.manual_seed(1)
    vae = AutoencoderKL(**VAE).eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=2.5)
    bert = CXRBertModel(CXRBertConfig(vocab_size=len(word_pieces), pad_token_id=word_pieces.pad_token_id, **BERT))
    encoder = CxrBertTextEncoder(bert, word_pieces, max_length=24)
    return LdmComponents(make_unet(), vae, DDIMScheduler(**SD15_SCHEDULE), encoder, torch.device("cpu"))


@pytest.fixture(scope="session")
def golden(torch: Any) -> Callable[[str], tuple[dict[str, Any], dict[str, Any]]]:
    """Read golden values of the released code by name: facts from JSON, arrays as tensors."""
    import numpy as np

    def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return json.loads((GOLDEN / f"{name}.json").read_text()), {k: torch.from_numpy(arrays[k]) for k in arrays}

    return read


@pytest.fixture(scope="session")
def literal_forward(torch: Any) -> Callable[..., tuple[Any, list[Any]]]:
    """Eq. 1 literally, with plain hooks on the projections and without the package's code.

    (U-Net, x_t [C, H, W], t, states [L, D]) -> the output [C, H, W], and the attention probabilities of every
    cross-attention layer in execution order, float64 [heads, L, H, W], upsampled by index.
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


@pytest.fixture
def folder(components: LdmComponents, tmp_path: Path) -> Path:
    """The tiny components saved in the zoo's layout, as weights of `tiny-ldm`."""
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


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Any]:
    """Create a finished run in `tmp_path / "runs"` and return its RunSpec.

    The run has n samples of n / 2 patients, alternating between categories A and B. Each iou is the same random number
    in every run plus 0 to 4 times `gain`, unless `values` are given. `changes` are fields of RunSpec.
    """
    import numpy as np

    from gtg_bench.benchmark.api.types import SampleRecord
    from gtg_bench.benchmark.runs.records import RunFolder
    from gtg_bench.benchmark.runs.spec import RunSpec

    named = {"dataset": "d", "dataset_version": "1", "dataset_options": "", "samples_sha256": "s", "split": "test"}
    named |= {"images_sha256": "i", "method": "ours"}
    usual: dict[str, Any] = named | {"code": None, "weights": "phantom", "weights_version": "0"}
    usual |= {"sampling": "gt-cfg", "latent": "sample", "tokens": "lexical", "lexicon": "rule 1", "bbm": "none"}
    usual |= {"profile": "paper", "precision": "float32", "steps": 8, "last_steps": None, "guidance": 16.0}
    usual |= {"layers": "all", "limit": None, "seed": 1}

    def make(gain: float = 0.0, n: int = 40, values: Any = None, facts: Any = None, **changes: Any) -> RunSpec:
        spec = RunSpec.from_json(usual | changes)
        folder = RunFolder(tmp_path / "runs", spec)
        folder.open("cpu")
        found = np.random.default_rng(0).random(n) + gain * (np.arange(n) % 5) if values is None else values
        told = facts or [{}] * len(found)
        folder.append(
            SampleRecord(f"s{k}", f"i{k}", f"p{k // 2}", "AB"[k % 2], "ok", {"iou": float(value)}, facts=told[k])
            for k, value in enumerate(found)
        )
        folder.finish()
        return spec

    return make


class ToyRuns:
    """Runs of the method `toy` on the first phantom samples, in `folder / "runs"`.

    Its 16 x 16 maps are a blob and noise from the sample's seed, in multiples of 1/255; they leave out a border of 8
    pixels, and some have a note. `built` counts how often the method is built; if `forbidden`, building it raises.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built = 0
        self.forbidden = False

    def build(self, settings: Any) -> ToyRuns:
        if self.forbidden:
            raise AssertionError("the method was built")
        self.built += 1
        return self

    def ground_batch(self, queries: Any) -> list[Any]:
        import numpy as np

        from gtg_bench.benchmark.api.geometry import Frame
        from gtg_bench.benchmark.api.types import GroundingMap

        found = []
        for query in queries:
            random = np.random.default_rng(query.seed)
            (x0, y0), (y, x) = random.uniform(3, 13, 2), np.mgrid[:16, :16] + 0.5
            values = 200 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 20) + random.uniform(0, 50, (16, 16))
            frame = Frame((128, 128), (128, 128), (8, 8, 112, 112))
            found.append(
                GroundingMap((np.round(values) / 255).astype(np.float32), frame, "odd" if query.seed % 2 else "")
            )
        return found

    def request(self, runs: str = "runs", **options: Any) -> Any:
        from gtg_bench.benchmark.runs.runner import RunRequest

        return RunRequest.of("toy", **{"limit": 12, "runs_dir": self.folder / runs, **options})

    def run(self, runs: str = "runs", **options: Any) -> Any:
        from gtg_bench.benchmark.runs import runner

        request = self.request(runs, **options)
        return runner.run(runner.prepare(request), request)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ToyRuns:
    """See ToyRuns."""
    from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
    from gtg_bench.benchmark.api.types import MethodCard

    runs = ToyRuns(tmp_path)
    entry = MethodEntry("toy", runs.build, MethodCard("a test", "plug-in"))  # type: ignore[arg-type]
    monkeypatch.setattr(METHODS, "_registered", {"toy": entry})
    return runs
