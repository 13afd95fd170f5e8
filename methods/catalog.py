"""The packaged methods: name, builder and card, as one table. Imports no torch."""

from __future__ import annotations

from typing import Literal

from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodCard
from gtg_bench.methods.ldm import CARD_OF, ldm_entry

_GTG = "Nützel, Dombrowski, Kainz: Generate to Ground"
_CLIP = "Radford et al.: Learning Transferable Visual Models From Natural Language Supervision (2021)"
_BOECKING = "Boecking et al.: Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing (2022)"
_BANNUR = "Bannur et al.: Learning to Exploit Temporal Structure for Biomedical Vision-Language Processing (2023)"
_PHANTOM = "phantom, training split (weights `phantom`)"
_MIMIC = "MIMIC-CXR training split, 162,651 pairs, on SD 1.5 (LAION)"
_UNPUBLISHED = "the fine-tuned weights are not published: bring your own in a folder or YAML file"


def _ldm(name: str, model: str, paper: str, **card: str) -> MethodEntry:
    """A latent diffusion model. These methods differ only in the text encoder that their weights name."""
    return ldm_entry(name, f"latent diffusion with {model}", paper=f"{_GTG}; {paper}", **card)


def _ablation(
    name: str, model: str, paper: str, *, weights: str, revision: str, licence: str, data: str
) -> MethodEntry:
    """An ablation of the paper, with packaged phantom weights of the quick recipe."""
    return _ldm(
        name,
        model,
        paper,
        weights=f"phantom by the quick recipe, 1,500 steps (packaged); {weights}",
        revision=f"phantom: see its card.json; {revision}",
        licence=f"phantom: MIT; {licence}",
        training_data=f"{_PHANTOM}; {data}",
    )


def _biovil(name: str, summary: str, **card: str) -> MethodEntry:
    """BioViL and its relatives, which differ in their checkpoint and its crop."""
    build = "gtg_bench.methods.biovil.build"
    found = MethodCard(summary, "discriminative", **card)
    return MethodEntry(name, f"{build}:build", found, complete=f"{build}:complete", card_of=CARD_OF)


def _baseline(name: str, kind: Literal["baseline", "prior", "ceiling"], summary: str, table: str = "") -> MethodEntry:
    """A baseline; `table` says what its prior table is fitted on, if it has one."""
    module = "gtg_bench.methods.baselines"
    card = MethodCard(summary, kind, licence="MIT", training_data=table or "none")
    complete = f"{module}:complete_with_table" if table else f"{module}:complete"
    return MethodEntry(name, f"{module}:{name.replace('-', '_')}", card, complete=complete)


CATALOG: tuple[MethodEntry, ...] = (
    _ldm(
        "cxrbert-ldm",
        "a frozen CXR-BERT text encoder",
        _BOECKING,
        weights="phantom (packaged); published: U-Net FelixNuetzel/cxr_bert_ldm (unet_ema) on SD 1.5, text encoder "
        "microsoft/BiomedVLP-CXR-BERT-specialized",
        revision="phantom: see its card.json; CXR-BERT: v1.1; SD 1.5: 451f4fe; U-Net: none known",
        licence="phantom: MIT; CXR-BERT: MIT; SD 1.5: CreativeML OpenRAIL-M; U-Net: unknown",
        training_data=f"{_PHANTOM}; published: {_MIMIC}; CXR-BERT: PubMed, MIMIC-III, MIMIC-CXR (model card)",
    ),
    _ldm(
        "clip-ldm",
        "a frozen CLIP text encoder",
        _CLIP,
        weights=f"phantom (packaged); text encoder: that of SD 1.5; {_UNPUBLISHED}",
        revision="phantom: see its card.json; SD 1.5: 451f4fe",
        licence="phantom: MIT; SD 1.5: CreativeML OpenRAIL-M",
        training_data=f"{_PHANTOM}; the paper's: {_MIMIC}; CLIP: image-text pairs from the web",
    ),
    _ablation(
        "openclip-ldm",
        "a frozen OpenCLIP text encoder (penultimate layer)",
        "Ilharco et al.: OpenCLIP (2021)",
        weights=f"text encoder: laion/CLIP-ViT-H-14-laion2B-s32B-b79K; {_UNPUBLISHED}",
        revision="text encoder: 1c2b849",
        licence="text encoder: MIT (model card)",
        data="the paper's: MIMIC-CXR training split, 162,651 pairs, on an unknown Stable Diffusion (version 2 has "
        "OpenCLIP's width of 1024); OpenCLIP: LAION-2B, image-text pairs from the web",
    ),
    _ablation(
        "radbert-ldm",
        "a frozen RadBERT text encoder",
        "Chambon et al.: RadBERT (2022)",
        weights=f"text encoder: StanfordAIMI/RadBERT; {_UNPUBLISHED}",
        revision="text encoder: c8f9754",
        licence="text encoder: MIT (model card)",
        data=f"the paper's: {_MIMIC}; RadBERT: unspecified radiology reports, from BioBERT (model card)",
    ),
    _ablation(
        "cxrclip-ldm",
        "a frozen CXR-CLIP text encoder",
        "You et al.: CXR-CLIP: Toward Large Scale Chest X-ray Language-Image Pre-training (2023)",
        weights=f"text encoder: r50_mcc.tar or swint_mcc.tar over emilyalsentzer/Bio_ClinicalBERT; {_UNPUBLISHED}",
        revision="Bio_ClinicalBERT: d5892b3; CXR-CLIP: unknown",
        licence="text encoder: CC BY-NC 4.0",
        data=f"the paper's: {_MIMIC}; CXR-CLIP (mcc): MIMIC-CXR, CheXpert, ChestX-ray14",
    ),
    _ablation(
        "medkebert-ldm",
        "a frozen Med-KEBERT text encoder, which reads entities instead of sentences",
        "Zhang et al.: Knowledge-enhanced visual-language pre-training on chest radiology images (2023)",
        weights=f"text encoder: xmcmic/Med-KEBERT; {_UNPUBLISHED}",
        revision="text encoder: 3e877eb",
        licence="text encoder: OpenRAIL (model card)",
        data=f"the paper's: {_MIMIC}; Med-KEBERT: UMLS, from PubMedBERT",
    ),
    _ldm(
        "clip-ldm-learnable",
        "a CLIP text encoder fine-tuned together with the U-Net (ablation)",
        "Dombrowski et al. (2024), whose result the paper's Table 4 repeats",
        weights=f"its own U-Net and text encoder; {_UNPUBLISHED}",
        revision="SD 1.5: 451f4fe",
        licence="SD 1.5: CreativeML OpenRAIL-M",
        training_data="that of Dombrowski et al.; unknown here",
    ),
    _ldm(
        "clip-ldm-lora",
        "a frozen CLIP text encoder and a low-rank adapter on the U-Net (ablation)",
        "Hu et al.: LoRA (2022); the paper's Fig. 6, ranks 4 to 256",
        weights=f"SD 1.5 and an adapter as saved by peft or diffusers; {_UNPUBLISHED}",
        revision="SD 1.5: 451f4fe",
        licence="SD 1.5: CreativeML OpenRAIL-M",
        training_data=f"the paper's: {_MIMIC}; CLIP: image-text pairs from the web",
    ),
    _baseline("uniform", "baseline", "the same value everywhere"),
    _baseline("oracle-lesion", "ceiling", "the drawn lesion in 32 x 32 cells (phantom only): a perfect localiser"),
    _baseline("center-prior", "prior", "a Gaussian in the centre of the image"),
    _baseline("class-prior", "prior", "mean training box of the phrase's category", "boxes of a training split"),
    _baseline(
        "phrase-prior", "prior", "mean training box of category, side, zone and size", "boxes of a training split"
    ),
    _baseline(
        "difference", "baseline", "absolute difference from the mean training image", "images of a training split"
    ),
    _biovil(
        "biovil",
        "cosine of BioViL's patch embeddings with CXR-BERT's phrase embedding; centre 480 of 512 pixels",
        paper=_BOECKING,
        weights="phantom: a small image encoder (packaged); published: biovil_image_resnet50_proj_size_128.pt of "
        "microsoft/BiomedVLP-CXR-BERT-specialized",
        revision="phantom: see its card.json; published: v1.1",
        licence="phantom: MIT; published: MIT (model card)",
        training_data=f"{_PHANTOM}; published: images of MIMIC-CXR, texts of PubMed, MIMIC-III and MIMIC-CXR (model "
        "card); split unknown",
    ),
    _biovil(
        "biovil-l",
        "BioViL trained with an additional local contrastive loss; the same kind of map",
        paper=_BOECKING,
        weights="phantom: a small image encoder (packaged); no published checkpoint is known: bring one in BioViL's "
        "layout in a YAML file",
        revision="phantom: see its card.json; published: unknown",
        licence="phantom: MIT; published: unknown",
        training_data=f"{_PHANTOM}; as BioViL's (paper); for your own checkpoint, unknown",
    ),
    _biovil(
        "biovil-t",
        "cosine maps of BioViL-T from a single image; centre 448 of 512 pixels",
        paper=_BANNUR,
        weights="biovil_t_image_model_proj_size_128.pt of microsoft/BiomedVLP-BioViL-T, not packaged",
        revision="692f09e",
        licence="MIT (model card)",
        training_data="as BioViL's (model card); split unknown",
    ),
)
