"""CLIP's text tower (Radford et al. 2021) as Stable Diffusion 1.5 uses it, with the final layer norm."""

from __future__ import annotations

from transformers import CLIPTextModel

from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder


class ClipTextEncoder(HuggingFaceTextEncoder):
    """Last hidden states of CLIP's text transformer."""

    model_class = CLIPTextModel
    tokenizer_class = "CLIPTokenizer"
