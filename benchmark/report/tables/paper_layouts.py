"""The layouts of the paper's Tables 1 to 4: which run fills which cell, and what to know about it.

A label (section, row or column, as printed) maps to the settings of its runs. The tests check what the notes say about
the published values against those values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gtg_bench.benchmark.report.tables.document import Along

Settings = Mapping[str, str]

METRICS = {
    "mIoU": "miou",
    "CNR": "cnr",
    "Top-1": "top1",
    "AUC-ROC": "auroc",
    "FID": "fid",
    "FIDXRV": "fid_xrv",
    "FID-phantom": "fid_phantom",
}
"""Metric as printed -> column of the leaderboard."""

SHOWN = {"CLIPLDM": "CLIP-LDM", "CXR-BERTLDM": "CXR-BERT-LDM", "FIDXRV": "FID-XRV"}
"""Labels that lost their subscript in the paper's text -> as displayed."""


@dataclass(frozen=True)
class Variant:
    """One way to fill the layout."""

    settings: Settings
    """Settings for every cell."""
    heading: str = ""
    """Heading of the table."""
    alike: bool = True
    """Whether these settings match the published table's."""


@dataclass(frozen=True)
class Layout:
    """How one table is filled."""

    title: str
    """What the table compares."""
    published_on: str
    """Data of the published values."""
    wants: Mapping[str, Settings]
    """Label -> settings; a cell has those of its section, row and column together."""
    corner: str
    """Heading of the rows, as printed."""
    notes: tuple[tuple[str, str], ...]
    """(letter, or "" for the whole table; sentences) pairs."""
    variants: tuple[Variant, ...] = (Variant({}),)
    """Ways to fill it; the first alike one is shown beside the published values."""
    along: Along = "row"
    """Where competitors are, see `document.Block`."""
    unpublished: tuple[str, ...] = ()
    """Metrics, as in METRICS, that no published table has: only beside measured values, and only if measured."""
    twins: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    """Printed column -> metric as printed -> (heading, metric) with the same definition."""
    letters: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """(column,), (section, row) or (section, row, column, metric) as printed -> letter of its note."""


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
    "Published: not the mean over samples but the frequency-squared average, in which each category is weighted by its "
    "squared count (`gtg-bench table averages`)."
)

TABLE_1 = Layout(
    title="mIoU and CNR by category",
    corner="Disease",
    published_on="on MS-CXR",
    wants={
        "BioVil": {"method": "biovil"},
        "BioVil-L": {"method": "biovil-l"},
        "CLIPLDM": {"method": "clip-ldm", **_LEXICAL},
        "CXR-BERTLDM": {"method": "cxrbert-ldm", **_LEXICAL},
        "+BBM": {"method": "cxrbert-ldm", **_LEXICAL, "bbm": "mixture"},
    },
    twins={"BioVil": _BIOVIL, "BioVil-L": _BIOVIL},
    letters={("BioVil",): "a", ("BioVil-L",): "a", ("CLIPLDM",): "c", ("", "Weighted Avg."): "b"},
    notes=(
        (
            "a",
            "Other quantities with the same names: Boecking et al. (2022) average the foreground IoU over thresholds "
            "0.1 to 0.5 of the cosine map, and their CNR is absolute. Everywhere else mIoU is (foreground IoU + "
            "background IoU) / 2 of one mask, and CNR is signed (absolute in the paper's text, signed in its released "
            "code). The published BioVil columns are therefore not comparable with the others.",
        ),
        (
            "b",
            "Two averages with one name: published values of the LDM columns are frequency-squared averages (each "
            "category weighted by its squared count), those of BioVil and BioVil-L macro averages (`gtg-bench table "
            "averages`). Measured: frequency-squared.",
        ),
        (
            "c",
            "Its average equals Table 2's CLIP row with GT + CFG. The paper does not say which tokens were averaged; "
            "measured cells use lexical tokens, like CXR-BERT-LDM.",
        ),
        (
            "",
            "Spread: CXR-BERT-LDM and +BBM over three training runs; for BioVil and BioVil-L the paper does not say.",
        ),
        (
            "",
            "The paper's section 4 attributes this comparison to Table 4. Its 'higher results across all diseases "
            "compared to BioViL' has one exception, Pneumothorax (CNR 0.45 vs 0.48). Its 'improvement for mIoU' by BBM "
            "is a decrease here, in seven of the eight categories and on average; only Table 3 shows an increase.",
        ),
    ),
)

TABLE_2 = Layout(
    title="Sampling modes and text encoders",
    corner="Input Model",
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
    letters={
        ("GT + CFG", "CXR-BERT"): "a",
        ("Text-Conditioning", "CXR-CLIP"): "b",
        ("CFG", "CXR-CLIP"): "b",
        ("GT-1 + CFG", "CXR-BERT", "", "Top-1"): "c",
    },
    notes=(
        (
            "a",
            "This row (0.5242, 1.2288) is Table 3's disease filtering (0.524, 1.23), not lexical filtering (0.537, "
            "1.24): only runs with `--tokens disease` match it. The paper does not say which tokens the other rows "
            "used.",
        ),
        ("b", "CXR-CLIP has the same four values with Text-Conditioning and CFG in the paper."),
        ("c", "Printed with five digits."),
        (
            "",
            "The caption does not name a data set. Published mIoU and CNR of CLIP and CXR-BERT with GT + CFG equal "
            "averages in Tables 1 and 3: MS-CXR, frequency-squared. The same presumably holds for all other rows.",
        ),
        (
            "",
            "The paper's 'CXR-BERT performs by far the best of all tested models' holds for the three modes with "
            "guidance; with Text-Conditioning it has the lowest mIoU and Top-1 of the six.",
        ),
    ),
)

TABLE_3 = Layout(
    title="Token choices and Bimodal Bias Merging of CXR-BERT-LDM",
    corner="Disease",
    published_on="on MS-CXR",
    wants={
        "Disease Filtering": {"tokens": "disease", "bbm": "none"},
        "Lexical Filtering": {"tokens": "lexical", "bbm": "none"},
        "Linear Bézier": {"tokens": "lexical", "bbm": "linear"},
        "Quadratic Bézier": {"tokens": "lexical", "bbm": "quadratic"},
        "Mixture Bézier": {"tokens": "lexical", "bbm": "mixture"},
    },
    variants=(Variant({"method": "cxrbert-ldm", "sampling": "gt-cfg"}),),
    letters={
        ("Disease Filtering",): "a",
        ("Linear Bézier",): "c",
        ("", "Weighted Avg."): "b",
        ("", "Weighted Avg.", "Linear Bézier", "mIoU"): "d",
    },
    notes=(
        ("a", "Its averages equal Table 2's CXR-BERT row with GT + CFG."),
        ("b", _FREQ2 + " Measured: the same."),
        (
            "c",
            "Eq. 3: s P_mult + (1-s) P_comb, so the merged bias has more weight where the two biases agree. Section "
            "2.3 describes the opposite.",
        ),
        (
            "d",
            "No weighting of the column's categories gives 0.526; the frequency-squared average, which fits all other "
            "columns, is 0.5295 (`gtg-bench table averages`).",
        ),
        ("", "The caption does not name a data set; the lexical column agrees with Table 1's CXR-BERT-LDM, on MS-CXR."),
        ("", "Published: one value per cell, without spread; the paper does not say whether it is one training run."),
    ),
)

TABLE_4 = Layout(
    title="Image quality and grounding",
    corner="Model",
    published_on="on data not stated",
    wants={
        "Frozen CXR-BERT": {"method": "cxrbert-ldm"},
        "Frozen CLIP": {"method": "clip-ldm"},
        "Learnable CLIP": {"method": "clip-ldm-learnable"},
    },
    variants=(Variant(_LEXICAL),),
    along="column",
    unpublished=("FID-phantom",),
    letters={("", "Frozen CXR-BERT", "", "CNR"): "a", ("", "Frozen CXR-BERT", "", "FID"): "b"},
    notes=(
        (
            "a",
            "Tables 1 to 3 give CXR-BERT-LDM 1.21 to 1.24 instead (0.84 is RadBERT's rounded value with GT + CFG in "
            "Table 2).",
        ),
        ("b", "The highest of the three, hence the worst images; Appendix D calls it 'lower'."),
        (
            "",
            "The caption's 'negative correlation between CNR and FID' is one between CNR and image quality: in these "
            "values FID rises with CNR.",
        ),
        ("", "The comparison with BioViL that section 4 attributes to this table is in Table 1."),
        (
            "",
            "FID: lower is better. Measured ones are of images that `gtg-bench generate` made with the same weights; a "
            "dash: not measured.",
        ),
    ),
)

LAYOUTS = {1: TABLE_1, 2: TABLE_2, 3: TABLE_3, 4: TABLE_4}
