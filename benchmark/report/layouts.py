"""The layouts of the paper's Tables 1 to 4: which run of this benchmark fills which cell, and what to know of it.

A label (section, row or column, as printed) -> the settings of the runs that belong there. What the notes say of the
figures is checked against the figures in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Settings = Mapping[str, str]

METRICS = {
    "mIoU": "miou",
    "CNR": "cnr",
    "Top-1": "top1",
    "AUC-ROC": "auroc",
    "FID": "fid",
    "FIDXRV": "fid_xrv",
}
"""A metric as printed -> the leaderboard's column."""

SHOWN = {"CLIPLDM": "CLIP-LDM", "CXR-BERTLDM": "CXR-BERT-LDM", "FIDXRV": "FID-XRV"}
"""Labels whose subscript stands on the line in the paper's text, as they are shown."""


@dataclass(frozen=True)
class Variant:
    """One way to fill the layout: settings for every cell, a heading, and whether it is like the published one."""

    settings: Settings
    heading: str = ""
    alike: bool = True


@dataclass(frozen=True)
class Layout:
    """How one table is filled.

    Attributes:
        title: what it compares.
        published_on: the data of the published figures.
        wants: label -> settings; a cell's are those of its section, row and column together.
        variants: see there; the first that is alike stands beside the published figures.
        along: where competitors stand, see `model.Block`.
        unranked: printed columns that another definition keeps out of best and second.
        twins: printed column -> metric as printed -> (heading, metric) that is defined alike.
        column_notes: printed column -> letter.
        row_notes: (section, row) as printed -> letter.
        cell_notes: (section, row, column, metric), as printed -> letter.
        notes: letter, or "" for what concerns the whole table -> sentences.
    """

    title: str
    published_on: str
    wants: Mapping[str, Settings]
    notes: tuple[tuple[str, str], ...]
    variants: tuple[Variant, ...] = (Variant({}),)
    along: Literal["row", "column"] = "row"
    unranked: frozenset[str] = frozenset()
    twins: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    column_notes: Mapping[str, str] = field(default_factory=dict)
    row_notes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    cell_notes: Mapping[tuple[str, str, str, str], str] = field(default_factory=dict)


_LEXICAL = {"sampling": "gt-cfg", "tokens": "lexical", "bbm": "none"}
_BIOVIL = {"mIoU": ("mIoU .1-.5", "miou_thresholds"), "CNR": ("CNR abs.", "cnr_abs")}
_LDMS = {
    "CLIP": {"method": "clip-ldm"},
    "OpenCLIP": {"method": "openclip-ldm"},
    "RadBERT": {"method": "radbert-ldm"},
    "Med-KEBERT": {"method": "medkebert-ldm"},
    "CXR-CLIP": {"method": "cxrclip-ldm"},
    "CXR-BERT": {"method": "cxrbert-ldm"},
}
_FREQ2 = (
    "Published: not the mean over samples but frequency-squared, a category weighs its count squared "
    "(`gtg-bench table averages`)."
)

TABLE_1 = Layout(
    title="mIoU and CNR by category",
    published_on="on MS-CXR",
    wants={
        "BioVil": {"method": "biovil"},
        "BioVil-L": {"method": "biovil-l"},
        "CLIPLDM": {"method": "clip-ldm", **_LEXICAL},
        "CXR-BERTLDM": {"method": "cxrbert-ldm", **_LEXICAL},
        "+BBM": {"method": "cxrbert-ldm", **_LEXICAL, "bbm": "mixture"},
    },
    unranked=frozenset({"BioVil", "BioVil-L"}),
    twins={"BioVil": _BIOVIL, "BioVil-L": _BIOVIL},
    column_notes={"BioVil": "a", "BioVil-L": "a", "CLIPLDM": "c"},
    row_notes={("", "Weighted Avg."): "b"},
    notes=(
        (
            "a",
            "Other quantities under the same names: Boecking et al. (2022) average the foreground's IoU over "
            "thresholds 0.1 to 0.5 of the cosine map, and their CNR is absolute. Everywhere else mIoU is (IoU of the "
            "foreground + IoU of the background) / 2 of one mask, and CNR is signed (the paper's text writes an "
            "absolute value, its released code none). So the published BioVil columns are not ranked with the others.",
        ),
        (
            "b",
            "Two averages under one name: published figures of the LDM columns are frequency-squared (a category "
            "weighs its count squared), those of BioVil and BioVil-L macro (`gtg-bench table averages`). Measured: "
            "frequency-squared.",
        ),
        (
            "c",
            "Its average is Table 2's CLIP row under GT + CFG. The paper does not say which of its tokens were "
            "averaged; measured cells take lexical ones, as CXR-BERT-LDM.",
        ),
        (
            "",
            "Spread: of CXR-BERT-LDM and +BBM over three training runs; of BioVil and BioVil-L the paper does not say.",
        ),
        (
            "",
            "The paper's section 4 credits Table 4 with this comparison. Its 'higher results across all diseases "
            "compared to BioViL' has one exception, Pneumothorax (CNR 0.45 and 0.48); its 'improvement for mIoU' by "
            "BBM is a fall here, in seven of the eight categories and on average, and is seen in Table 3 alone.",
        ),
    ),
)

TABLE_2 = Layout(
    title="Sampling modes and text encoders",
    published_on="on MS-CXR",
    wants={
        "Text-Conditioning": {"sampling": "text"},
        "CFG": {"sampling": "cfg"},
        "GT-1 + CFG": {"sampling": "gt1-cfg"},
        "GT + CFG": {"sampling": "gt-cfg"},
        **_LDMS,
    },
    variants=(
        Variant({"tokens": "disease", "bbm": "none"}, "disease tokens: like the published CXR-BERT row"),
        Variant(
            {"tokens": "lexical", "bbm": "none"}, "lexical tokens: NOT like the published CXR-BERT row", alike=False
        ),
    ),
    along="column",
    row_notes={
        ("GT + CFG", "CXR-BERT"): "a",
        ("Text-Conditioning", "CXR-CLIP"): "b",
        ("CFG", "CXR-CLIP"): "b",
    },
    cell_notes={("GT-1 + CFG", "CXR-BERT", "", "Top-1"): "c"},
    notes=(
        (
            "a",
            "This row (0.5242, 1.2288) is Table 3's disease filtering (0.524, 1.23), not lexical filtering (0.537, "
            "1.24): only runs with `--tokens disease` are like it. Which tokens the other rows used is not said.",
        ),
        ("b", "CXR-CLIP's rows under Text-Conditioning and CFG are the same four figures in the paper."),
        ("c", "Printed with five digits."),
        (
            "",
            "The caption names no data set. Published mIoU and CNR of CLIP and CXR-BERT under GT + CFG are averages of "
            "Tables 1 and 3: on MS-CXR, frequency-squared; presumably all others too.",
        ),
        (
            "",
            "The paper's 'CXR-BERT performs by far the best of all tested models' holds for the three modes with "
            "guidance: under Text-Conditioning it has the lowest mIoU and Top-1 of the six.",
        ),
    ),
)

TABLE_3 = Layout(
    title="Token choices and Bimodal Bias Merging of CXR-BERT-LDM",
    published_on="on MS-CXR",
    wants={
        "Disease Filtering": {"tokens": "disease", "bbm": "none"},
        "Lexical Filtering": {"tokens": "lexical", "bbm": "none"},
        "Linear Bézier": {"tokens": "lexical", "bbm": "linear"},
        "Quadratic Bézier": {"tokens": "lexical", "bbm": "quadratic"},
        "Mixture Bézier": {"tokens": "lexical", "bbm": "mixture"},
    },
    variants=(Variant({"method": "cxrbert-ldm", "sampling": "gt-cfg"}),),
    column_notes={"Disease Filtering": "a", "Linear Bézier": "c"},
    row_notes={("", "Weighted Avg."): "b"},
    cell_notes={("", "Weighted Avg.", "Linear Bézier", "mIoU"): "d"},
    notes=(
        ("a", "Its averages are Table 2's CXR-BERT row under GT + CFG."),
        ("b", _FREQ2 + " Measured: the same."),
        (
            "c",
            "Eq. 3: s P_mult + (1-s) P_comb, so the merged bias weighs more where the two biases agree. Section 2.3 "
            "writes it the other way round.",
        ),
        (
            "d",
            "No weighting of the column's categories gives 0.526; frequency-squared, which fits all others, gives "
            "0.5295 (`gtg-bench table averages`).",
        ),
        ("", "The caption names no data set; the lexical column agrees with Table 1's CXR-BERT-LDM, on MS-CXR."),
        ("", "Published: one value a cell, without spread; whether it is one training run, the paper does not say."),
    ),
)

TABLE_4 = Layout(
    title="Image quality and grounding",
    published_on="on data not stated",
    wants={
        "Frozen CXR-BERT": {"method": "cxrbert-ldm"},
        "Frozen CLIP": {"method": "clip-ldm"},
        "Learnable CLIP": {"method": "clip-ldm-learnable"},
    },
    variants=(Variant(_LEXICAL),),
    along="column",
    cell_notes={("", "Frozen CXR-BERT", "", "CNR"): "a", ("", "Frozen CXR-BERT", "", "FID"): "b"},
    notes=(
        (
            "a",
            "Unlike Tables 1 to 3, which give CXR-BERT-LDM 1.21 to 1.24 (0.84 is what RadBERT has in Table 2 under "
            "GT + CFG, rounded).",
        ),
        ("b", "The highest of the three, and so the worst images; Appendix D calls it 'lower'."),
        (
            "",
            "The caption's 'negative correlation between CNR and FID' is one with image quality: in these figures FID "
            "rises with CNR.",
        ),
        ("", "The comparison to BioViL with which section 4 credits this table is Table 1's."),
        ("", "FID and FID-XRV: lower is better. A leaderboard without such columns has none."),
    ),
)

LAYOUTS = {1: TABLE_1, 2: TABLE_2, 3: TABLE_3, 4: TABLE_4}
