"""Published layouts at tiny size: each is rebuilt file by file, named in YAML, and loaded through the real code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gtg_bench.benchmark.api import METHODS, DataError, load_method
from gtg_bench.methods.catalog import CATALOG
from gtg_bench.methods.text_encoders import TEXT_ENCODERS

pytestmark = pytest.mark.usefixtures("torch")

PLUGIN = Path(__file__).parents[2] / "example_text_encoder.py"
PHRASE = "Small left pleural effusion."
BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
LORA = ["to_k", "to_q", "to_v", "to_out.0"]
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (4, 8),
    "norm_num_groups": 4,
    "sample_size": 16,
}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def pickled(folder: Path, weights: dict[str, Any], name: str = "pytorch_model.bin") -> None:
    """Replace a folder's safetensors with a pickle, the format of older repositories."""
    import torch

    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save(weights, folder / name)


# The published folders


@pytest.fixture(scope="module")
def hub(
    torch: Any,
    make_unet: Callable[..., Any],
    published: Callable[..., Path],
    pieces: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Every download that the paper's methods need, in one folder that no test changes."""
    import transformers
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    root = tmp_path_factory.mktemp("hub")
    stable_diffusion(root / "sd", make_unet())
    make_unet(7).save_pretrained(root / "cxr_bert_ldm" / "unet_ema")
    make_unet(9, cross_attention_dim=48).save_pretrained(root / "wide")
    sizes = {"vocab_size": len(pieces), "max_position_embeddings": 128, **BERT}
    torch.manual_seed(4)
    published(root / "cxr-bert", CXRBertModel(CXRBertConfig(projection_size=16, **sizes)), pieces, remote=True)
    for name, kind in (("radbert", "BertForMaskedLM"), ("med-kebert", "BertModel"), ("clinical-bert", "BertModel")):
        torch.manual_seed(3)
        published(root / name, getattr(transformers, kind)(transformers.BertConfig(**sizes)), pieces)
    cxr_clip(root / "r50_mcc.tar", root / "clinical-bert")
    open_clip(root / "open-clip")
    clip_text(root / "learned" / "text_encoder", seed=5)
    adapted(make_unet()).save_pretrained(root / "peft")
    diffusers_adapter(root / "lora", make_unet())
    return root


def stable_diffusion(folder: Path, unet: Any) -> None:
    """Stable Diffusion 1.5: vae, unet, a scheduler of another kind than DDIM, text_encoder, tokenizer."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler

    torch.manual_seed(1)
    unet.save_pretrained(folder / "unet")
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    PNDMScheduler(**schedule, set_alpha_to_one=False, skip_prk_steps=True).save_pretrained(folder / "scheduler")
    edit(folder / "scheduler" / "scheduler_config.json", clip_sample=False)
    clip_text(folder / "text_encoder", seed=2)
    clip_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def clip_vocabulary() -> list[str]:
    from open_clip.tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    ends = [f"{symbol}</w>" for symbol in symbols]
    return [*symbols, *ends, "le", "lef", "left</w>", "<|startoftext|>", "<|endoftext|>"]


def clip_tokenizer(folder: Path) -> None:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(clip_vocabulary())}))
    (folder / "merges.txt").write_text("#version: 0.2\nl e\nle f\nlef t</w>\n")
    edit(folder / "tokenizer_config.json", tokenizer_class="CLIPTokenizer", model_max_length=77)


def clip_text(folder: Path, seed: int) -> None:
    """A CLIPTextModel with the tensor names of Stable Diffusion's repository, each prefixed with `text_model.`."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    size = len(clip_vocabulary())
    torch.manual_seed(seed)
    ends = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    config = CLIPTextConfig(vocab_size=size, max_position_embeddings=77, **ends, **BERT)
    CLIPTextModel(config).save_pretrained(folder)
    path = folder / "model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in load_file(path).items()}
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, path, {"format": "pt"})


def cxr_clip(path: Path, clinical: Path) -> None:
    """CXR-CLIP's checkpoint: model, optimiser and configuration, with a BERT inside the text encoder."""
    import torch

    own = torch.load(clinical / "pytorch_model.bin", weights_only=True)
    names = {f"text_encoder.text_encoder.{name}": weights * 2 for name, weights in own.items()}
    names["text_encoder.text_encoder.embeddings.position_ids"] = torch.arange(128)[None]
    names |= {"image_encoder.resnet.conv1.weight": torch.ones(4, 1, 3, 3), "logit_scale": torch.tensor(2.0)}
    optimizer = {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 5e-5, "params": [0]}]}
    torch.save({"model": names, "optimizer": optimizer, "config": {"base": {"amp": True}}, "epoch": 15}, path)


def open_clip(folder: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(6)
    vision = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    edit(folder / "open_clip_config.json", model_cfg=config, preprocess_cfg={"mean": [0.5]})
    weights = open_clip.CLIP(**config).half().state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "open_clip_model.safetensors")


def adapted(unet: Any) -> Any:
    """A U-Net with a low-rank adapter that is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(unet, LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=LORA))
    torch.manual_seed(8)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def diffusers_adapter(folder: Path, unet: Any) -> None:
    """The format of diffusers' training scripts and of the paper's released code."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    saved = get_peft_model_state_dict(adapted(unet))
    weights = {name.removeprefix("base_model.model."): w for name, w in saved.items()}
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=convert_state_dict_to_diffusers(weights))


# The YAML file of each method


def text(place: str, family: str, **fields: Any) -> dict[str, Any]:
    return {"text_encoder": {"place": place, "family": family, **fields}}


CLIP = text("sd", "clip", path="text_encoder") | {"tokenizer": {"place": "sd", "path": "tokenizer"}}
PLANS: dict[str, dict[str, Any]] = {
    "cxrbert-ldm": text("cxr-bert", "cxr-bert") | {"unet": {"place": "cxr_bert_ldm", "path": "unet_ema"}},
    "clip-ldm": CLIP,
    "openclip-ldm": text("open-clip", "open-clip"),
    "radbert-ldm": text("radbert", "bert"),
    "cxrclip-ldm": text("r50_mcc.tar", "cxr-clip") | {"tokenizer": "clinical-bert"},
    "medkebert-ldm": text("med-kebert", "med-kebert"),
    "clip-ldm-learnable": CLIP | text("learned", "clip", path="text_encoder"),
    "clip-ldm-lora": CLIP | {"adapter": "peft"},
}


def plan(folder: Path, method: str, **changes: Any) -> str:
    """Write the YAML file next to the folders."""
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump({"base": "sd"} | PLANS[method] | changes, sort_keys=False))
    return str(path)


def picture() -> np.ndarray:
    return np.random.default_rng(0).random((20, 31), dtype=np.float32)


def ground(method: str, weights: str) -> np.ndarray:
    return load_method(method, weights=weights, steps=2).ground(picture(), PHRASE).values  # type: ignore[return-value]


@pytest.fixture(scope="module")
def loaded(hub: Path) -> Callable[[str], Any]:
    """Load each method from its published layout once."""
    return cache(lambda method: load_method(method, weights=plan(hub, method), steps=2))


@pytest.fixture(scope="module")
def values(loaded: Callable[[str], Any]) -> Callable[[str], np.ndarray]:
    """Compute each method's map of one picture once."""
    return cache(lambda method: loaded(method).ground(picture(), PHRASE).values)


@pytest.mark.parametrize("method", PLANS)
def test_a_published_layout_loads_and_grounds(torch: Any, loaded: Callable[[str], Any], method: str) -> None:
    parts = loaded(method).components
    assert {parameter.dtype for parameter in (*parts.unet.parameters(), *parts.vae.parameters())} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in parts.unet.parameters())
    assert (parts.image_size, parts.scheduler.config.clip_sample, parts.scheduler.config.steps_offset) == (16, False, 1)
    assert type(parts.scheduler).__name__ == "DDIMScheduler"
    assert parts.text_encoder.max_length == 77


def test_every_diffusion_model_is_covered_and_has_different_maps(values: Callable[[str], np.ndarray]) -> None:
    cards = {entry.name: entry.card for entry in CATALOG if entry.card.kind == "ldm"}
    assert set(PLANS) == set(cards)
    assert all((c.paper, c.weights, c.revision, c.licence, c.training_data) for c in cards.values())
    assert len({values(method).round(5).tobytes() for method in PLANS}) == len(PLANS)
    assert all(values(method).shape == (8, 8) and values(method).std() > 1e-6 for method in PLANS)


def test_a_published_layout_generates_what_diffusers_pipeline_does(
    torch: Any, hub: Path, loaded: Callable[[str], Any]
) -> None:
    """Stable Diffusion 1.5 with DDIM; as in the paper's code, its text encoder gets the mask."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from gtg_bench.training.generation.images import ImageGenerator

    kinds = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "scheduler": DDIMScheduler}
    kinds |= {"text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer}
    parts = {name: kind.from_pretrained(hub / "sd" / name) for name, kind in kinds.items()}
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    texts = parts["tokenizer"]([PHRASE, ""], padding="max_length", max_length=77, return_tensors="pt")
    states = parts["text_encoder"](**texts)[0]
    image = StableDiffusionPipeline(**parts, **absent)(
        prompt_embeds=states[:1],
        negative_prompt_embeds=states[1:],
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7)),
        num_inference_steps=3,
        guidance_scale=4.0,
        output_type="np",
    ).images[0]
    assert image.shape == (16, 16, 3)
    found = ImageGenerator(loaded("clip-ldm").components, 3, 4.0)([PHRASE], [7])[0]
    np.testing.assert_allclose(found, 255 * image.mean(-1), atol=0.51)
    assert found.std() > 1


# Parts


@pytest.fixture
def copy(hub: Path, tmp_path: Path) -> Path:
    """A copy of the downloads that a test may break."""
    return Path(shutil.copytree(hub, tmp_path / "hub"))


def test_an_adapter_is_merged(
    torch: Any, hub: Path, loaded: Callable[[str], Any], make_unet: Callable[..., Any]
) -> None:
    """In both layouts, the merged U-Net computes what PEFT computes with a separate adapter."""
    noise = torch.Generator().manual_seed(0)
    latents, states = (torch.randn(shape, generator=noise).double() for shape in ((1, 4, 8, 8), (1, 7, 32)))

    def output(unet: Any) -> Any:
        return deepcopy(unet).double()(latents, torch.tensor([5]), states).sample  # free of float32's rounding

    expected = output(adapted(make_unet()))
    assert not torch.allclose(expected, output(make_unet()), atol=1e-3)
    other: Any = load_method("clip-ldm-lora", weights=plan(hub, "clip-ldm-lora", adapter="lora"), steps=2)
    for method in (loaded("clip-ldm-lora"), other):
        unet = method.components.unet
        torch.testing.assert_close(output(unet), expected, atol=1e-5, rtol=0)
        assert not any("lora" in name for name, _ in unet.named_parameters())


def test_other_formats_load_the_same(
    torch: Any, copy: Path, values: Callable[[str], np.ndarray], make_unet: Callable[..., Any]
) -> None:
    """Older checkpoints; Stable Diffusion 1.5's VAE file, whose attention has old names; a U-Net in half precision."""
    from safetensors.torch import load_file

    weights = load_file(copy / "open-clip" / "open_clip_model.safetensors")
    pickled(copy / "open-clip", {f"text.{name}": w for name, w in weights.items()}, "open_clip_pytorch_model.bin")
    weights = torch.load(copy / "r50_mcc.tar", weights_only=True)["model"]
    weights = {name.replace("text_encoder.text_encoder.", "module.text_encoder."): w for name, w in weights.items()}
    torch.save({"state_dict": weights}, copy / "r50_mcc.tar", _use_new_zipfile_serialization=False)
    weights = load_file(copy / "sd" / "vae" / "diffusion_pytorch_model.safetensors")
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): w for name, w in weights.items()}
    assert any(".query." in name for name in weights)
    pickled(copy / "sd" / "vae", weights, "diffusion_pytorch_model.bin")
    for method in ("openclip-ldm", "cxrclip-ldm", "clip-ldm"):
        assert np.array_equal(ground(method, plan(copy, method)), values(method))
    shutil.rmtree(copy / "sd" / "unet")
    make_unet().half().save_pretrained(copy / "sd" / "unet", variant="fp16")
    half: Any = load_method("clip-ldm", weights=plan(copy, "clip-ldm"), steps=2)
    assert {parameter.dtype for parameter in half.components.unet.parameters()} == {torch.float32}
    np.testing.assert_allclose(half.ground(picture(), PHRASE).values, values("clip-ldm"), atol=1e-3)


# Wrong files


class Code:
    """Creates a file when it is unpickled without weights_only."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize(
    ("method", "file"),
    [
        ("radbert-ldm", "radbert/pytorch_model.bin"),
        ("cxrbert-ldm", "cxr-bert/pytorch_model.bin"),
        ("cxrclip-ldm", "r50_mcc.tar"),
        ("openclip-ldm", "open-clip/open_clip_pytorch_model.bin"),
        ("clip-ldm", "sd/unet/diffusion_pytorch_model.bin"),
        ("clip-ldm", "sd/vae/diffusion_pytorch_model.bin"),
        ("clip-ldm-lora", "peft/adapter_model.bin"),
    ],
)
def test_a_pickle_with_code_is_refused(torch: Any, copy: Path, tmp_path: Path, method: str, file: str) -> None:
    for weights in (copy / file).parent.glob("*.safetensors"):
        weights.unlink()
    torch.save({"model": Code(tmp_path / "harm")}, copy / file)
    with pytest.raises(DataError, match="could run code"):
        load_method(method, weights=plan(copy, method), steps=2)
    assert not (tmp_path / "harm").exists()


# What breaks a folder; each returns a function of the hub's copy


def drop(name: str, word: str) -> Callable[[Path], Any]:
    """Remove the tensors whose name contains a word from a safetensors file."""
    return lambda hub: rename(hub / name, lambda key: None if word in key else key)


def tear(name: str) -> Callable[[Path], Any]:
    return lambda hub: (hub / name).write_bytes((hub / name).read_bytes()[:100])


def remove(name: str) -> Callable[[Path], Any]:
    return lambda hub: (hub / name).unlink()


def configure(name: str, **changes: Any) -> Callable[[Path], Any]:
    return lambda hub: edit(hub / name, **changes)


def rename(path: Path, new_name: Callable[[str], str | None]) -> None:
    """Rename the tensors of a safetensors file; None drops one."""
    from safetensors.torch import load_file, save_file

    weights = {new: w for name, w in load_file(path).items() if (new := new_name(name)) is not None}
    save_file(weights, path, {"format": "pt"})


def big_tokenizer(hub: Path) -> None:
    """A tokenizer that knows 900 words, in hub/big."""
    vocabulary = shutil.copytree(hub / "radbert", hub / "big") / "vocab.txt"
    special = vocabulary.read_text().split()[:5]
    vocabulary.write_text("\n".join([*special, *(f"word{k}" for k in range(895))]) + "\n")


UNET, OPEN_CLIP = "sd/unet/diffusion_pytorch_model.safetensors", "open-clip/open_clip_model.safetensors"
PEFT, DIFFUSERS = "peft/adapter_config.json", "lora/pytorch_lora_weights.safetensors"
HALF_PAIR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora.up"


def for_text(hub: Path) -> None:
    rename(hub / DIFFUSERS, lambda name: name.replace("unet.", "text_encoder."))


BROKEN: list[tuple[str, Callable[[Path], Any] | None, dict[str, Any], str]] = [
    ("clip-ldm", None, {"unet": "wide"}, r"text_encoder: .* 32 wide, .*wide takes 48"),
    ("clip-ldm", configure("sd/vae/config.json", latent_channels=3), {}, "sd/vae: "),
    ("clip-ldm", tear(UNET), {}, "sd/unet: "),
    ("clip-ldm", drop(UNET, "mid_block"), {}, r"sd/unet: .* mid_block\S+, .* \.\.\. \(\d+\)"),
    ("clip-ldm", tear("sd/scheduler/scheduler_config.json"), {}, "scheduler"),
    ("clip-ldm", None, {"text_encoder": None}, "text_encoder"),
    ("clip-ldm", None, {"tokenizer": None}, "text_encoder.*`tokenizer:`"),
    ("clip-ldm", big_tokenizer, {"tokenizer": "big"}, "big: .*merges.txt, vocab.json"),
    ("radbert-ldm", big_tokenizer, {"tokenizer": "big"}, "900 tokens, .* 58"),
    ("clip-ldm", None, text("radbert", "clip"), "radbert: .*CLIPTextModel"),
    ("clip-ldm", None, text("cxr-bert", "distil") | {"tokenizer": None}, "family 'distil'"),
    ("radbert-ldm", None, text("radbert", "bert", max_length=129), "max_length 129 .* 128 tokens"),
    ("openclip-ldm", None, text("open-clip", "open-clip", max_length=78), "max_length 78 .* 77 tokens"),
    ("openclip-ldm", remove("open-clip/open_clip_config.json"), {}, "open-clip.*open_clip_config.json"),
    ("openclip-ldm", drop(OPEN_CLIP, "resblocks.1"), {}, r"\b1 blocks .*open_clip_config.json .*2"),
    ("openclip-ldm", tear(OPEN_CLIP), {}, "open_clip_model"),
    ("cxrclip-ldm", None, {"tokenizer": None}, "Bio_Clin"),
    ("cxrclip-ldm", None, text("radbert", "cxr-clip"), "r50_mcc.tar"),
    ("cxrclip-ldm", lambda hub: (hub / "r50_mcc.tar").write_text("no"), {}, "r50_mcc.tar: "),
    ("clip-ldm-lora", None, {"adapter": "radbert"}, "radbert.*adapter_config"),
    ("clip-ldm-lora", configure(PEFT, target_modules=["nowhere"]), {}, "peft: .*adapter"),
    ("clip-ldm-lora", drop("peft/adapter_model.safetensors", "mid_block"), {}, "peft: .*adapter.*mid_block"),
    ("clip-ldm-lora", configure(PEFT, r=5), {}, "peft: .*U-Net"),
    ("clip-ldm-lora", configure(PEFT, peft_type="LOHA"), {}, "LORA"),
    ("clip-ldm-lora", for_text, {"adapter": "lora"}, "lora/.*text_encoder"),
    ("clip-ldm-lora", drop(DIFFUSERS, HALF_PAIR), {"adapter": "lora"}, "lora"),
]
"""Method, what is broken, what the YAML file names instead, and what the error must say."""


@pytest.mark.parametrize(("method", "harm", "changes", "message"), BROKEN)
def test_the_error_names_the_wrong_file(
    copy: Path, method: str, harm: Callable[[Path], Any] | None, changes: dict[str, Any], message: str
) -> None:
    if harm is not None:
        harm(copy)
    with pytest.raises(DataError, match=message) as error:
        load_method(method, weights=plan(copy, method, **changes), steps=2)
    assert len(str(error.value)) < 700


def test_code_of_a_repository_is_never_run(hub: Path) -> None:
    """The repository's code would end the test; a tokenizer that needs such code is refused."""
    from gtg_bench.methods.text_encoders.base import load_tokenizer

    with pytest.raises(DataError, match=r"cxr-bert: .*tokenizer.*custom code"):
        load_tokenizer(hub / "cxr-bert", "AutoTokenizer")


def test_another_checkpoint_is_refused(torch: Any, copy: Path) -> None:
    names = torch.load(copy / "r50_mcc.tar", weights_only=True)["model"]
    changed: list[tuple[Any, str]] = [
        ({n.replace("text_encoder.", "tower."): w for n, w in names.items()}, "`text_encoder.`"),
        ({n: w for n, w in names.items() if "layer.0.output" not in n}, "encoder.layer.0.output"),
        (names | {"text_encoder.text_encoder.extra": names["logit_scale"]}, "extra"),
        (names | {f"b.{n}": w for n, w in names.items() if "text_enc" in n}, "2 text encoders"),
        ({n: w[:1] if "LayerNorm" in n else w for n, w in names.items()}, r"\(1,\).* \(32,\)"),
        ([1, 2], "text_encoder"),
    ]
    for weights, message in changed:
        torch.save({"model": weights}, copy / "r50_mcc.tar")
        with pytest.raises(DataError, match=f"r50_mcc.tar: .*{message}"):
            load_method("cxrclip-ldm", weights=plan(copy, "cxrclip-ldm"), steps=2)


def test_another_text_tower_is_refused(copy: Path) -> None:
    path = copy / "open-clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    plain = config["model_cfg"]["text_cfg"]
    for key, value in (("no_causal_mask", True), ("hf_model_name", "x"), ("layers", "x"), ("layers", 1), ("width", "")):
        config["model_cfg"]["text_cfg"] = plain | {key: value}
        path.write_text(json.dumps(config))
        with pytest.raises(DataError, match=r"open_clip_config\.json"):
            load_method("openclip-ldm", weights=plan(copy, "openclip-ldm"), steps=2)
    edit(path, model_cfg=config["model_cfg"] | {"text_cfg": plain | {"vocab_size": 9}})
    with pytest.raises(DataError, match=r"open_clip_config\.json: vocab_size 9"):
        load_method("openclip-ldm", weights=plan(copy, "openclip-ldm"), steps=2)


# U-Nets


def test_a_unet_with_other_attention_or_conditions_is_refused(make_unet: Callable[..., Any]) -> None:
    from gtg_bench.methods.ldm.attention import cross_attention_layers
    from gtg_bench.methods.ldm.components import check_attention

    for feature, value in {"norm_cross": "x", "residual_connection": True, "rescale_output_factor": 2.0}.items():
        unet = make_unet()
        name = cross_attention_layers(unet)[2]
        unet.get_submodule(name).__dict__[feature] = value
        with pytest.raises(DataError, match=f"unet: .*{name} .*{feature}"):
            check_attention(unet, Path("unet"))
    plain = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "mid_block_type": None}
    refused = {
        "cross-att": plain,
        "class_embed": {"class_embed_type": "timestep"},
        "add": {"addition_embed_type": "text"},
    }
    for message, changes in refused.items():
        with pytest.raises(DataError, match=f"unet.*{message}"):
            check_attention(make_unet(**changes), Path("unet"))


def test_an_autoencoder_of_another_model_is_refused(make_unet: Callable[..., Any]) -> None:
    from diffusers import AutoencoderKL

    from gtg_bench.methods.ldm.components import check_latents

    for changes, message in (({"latent_channels": 8}, "8 channels, .*4"), ({"shift_factor": 0.1}, "shift_factor")):
        with pytest.raises(DataError, match=f"vae: .*{message}"):
            check_latents(make_unet(), AutoencoderKL(**VAE | changes), {"vae": Path("vae"), "unet": Path("unet")})


def test_stable_diffusion_1_5_has_its_16_layers(torch: Any) -> None:
    """The real architecture on the meta device: 5 layers each at 64, 32 and 16 cells a side and one at 8, in order."""
    from diffusers import UNet2DConditionModel

    from gtg_bench.methods.ldm.architectures import SD15_UNET
    from gtg_bench.methods.ldm.attention import AttentionCapture, layer_sizes
    from gtg_bench.methods.ldm.components import check_attention

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
        inputs = torch.empty(1, 4, 64, 64), torch.zeros(1).long(), torch.empty(1, 77, 768), torch.empty(1, 1, 77)
    check_attention(unet, Path("unet"))
    sides = [64, 64, 32, 32, 16, 16, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    names = list(layer_sizes(unet, (64, 64)))
    assert list(layer_sizes(unet, (64, 64)).values()) == [(side, side) for side in sides]
    seen: list[tuple[str, tuple[int, ...]]] = []
    with torch.no_grad(), AttentionCapture(unet).open() as capture:
        capture.forward(*inputs, lambda name, maps: seen.append((name, tuple(maps.shape))))
    assert seen == [(name, (1, 1, side, side)) for name, side in zip(names, sides, strict=True)]


# A text encoder from a plug-in


@pytest.fixture
def outside(copy: Path, pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The downloads plus a DistilBERT and its YAML file; restores the registries afterwards."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(11)
    config = DistilBertConfig(vocab_size=len(pieces), dim=32, hidden_dim=48, n_layers=1, n_heads=2)
    DistilBertModel(config).save_pretrained(copy / "distil")
    shutil.copy(copy / "radbert" / "vocab.txt", copy / "distil")
    (copy / "plan.yaml").write_text(yaml.safe_dump({"base": "sd"} | text("distil", "distilbert")))
    registered = dict(METHODS._registered)
    monkeypatch.setattr(TEXT_ENCODERS, "_registered", {})
    yield copy
    METHODS._registered.clear()
    METHODS._registered.update(registered)


def test_a_text_encoder_from_a_plugin(outside: Path) -> None:
    """It grounds; editing its file changes the run key, of its own method and of a packaged one that names it."""
    from gtg_bench.benchmark.runs.runner import RunRequest, prepare
    from gtg_bench.methods.weights import find_weights

    keys, versions, weights = set(), set(), str(outside / "plan.yaml")
    for text in (PLUGIN.read_text(), PLUGIN.read_text() + "# edited\n"):
        (outside / "plugin.py").write_text(text)
        METHODS._registered.pop("distilbert-ldm", None)
        TEXT_ENCODERS._registered.clear()
        assert METHODS.load_plugin(outside / "plugin.py") == ["distilbert-ldm"]
        keys.add(prepare(RunRequest.of("distilbert-ldm", weights=weights, limit=2)).spec.key)
        versions.add(find_weights("clip-ldm", weights).version)
    assert (len(keys), len(versions)) == (2, 2)
    assert ground("distilbert-ldm", weights).std() > 1e-6
