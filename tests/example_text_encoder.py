"""A text encoder from outside and a method around it, as a plug-in file.

gtg-bench run --plugin example_text_encoder.py -m distilbert-ldm --weights weights.yaml

with `text_encoder: {place: FOLDER, family: distilbert}` in weights.yaml.
"""

from transformers import DistilBertModel

from gtg_bench.methods.ldm import register_ldm
from gtg_bench.methods.text_encoders import register_text_encoder
from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder


@register_text_encoder("distilbert")
class DistilBertTextEncoder(HuggingFaceTextEncoder):
    """Last hidden states of DistilBERT (Sanh et al. 2019), with the attention mask."""

    model_class = DistilBertModel
    tokenizer_class = "BertTokenizer"


register_ldm(
    "distilbert-ldm",
    "latent diffusion with a frozen DistilBERT text encoder; cross-attention maps",
    paper="Sanh et al.: DistilBERT, a distilled version of BERT (2019)",
    weights="bring your own in a folder or YAML file",
    licence="DistilBERT: Apache-2.0",
    training_data="Wikipedia and BookCorpus; of the U-Net that you bring, unknown",
)
