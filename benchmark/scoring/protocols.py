"""Protocols: named, versioned selections of frame, smoothing, mask, metrics and average.

A number is meaningful only together with its definition, so each leaderboard file holds a single definition and is
named after it; see `definition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.metrics.named_masks import BEST, MIXTURE, NONE, OTSU, mask_name, rule_of
from gtg_bench.benchmark.scoring.smoothing import UNSMOOTHED, smooth_name

PROTOCOL = "gtg"
"""The default protocol: the paper's."""

FRAMES = ("crop512", "original", "pad518")
"""Where maps and regions are compared: in the paper's 512 x 512 crop, in the image's original pixels, or in the central
453 x 453 pixels of the image padded to a square of 518 x 518."""

UNCOVERED = ("lowest", "exclude")
"""How pixels outside the method's field of view are scored: with the map's minimum, or not at all."""

MASK = MIXTURE
"""The default rule that turns a map into a mask; see `metrics.named_masks`."""

RULES = ("frame", "uncovered", "mask", "smooth")
"""The parts of a protocol that a run can override."""

CROP, ORIGINAL, PADDED = FRAMES
LOWEST, EXCLUDE = UNCOVERED


_TIES = "top1: values within 1e-6 of the map's range of its maximum tie (before this version: equal values only)."


@dataclass(frozen=True)
class Protocol:
    """How maps are scored.

    Attributes:
        name: what `--protocol` takes.
        version: increases whenever the protocol's numbers change.
        summary: one line.
        frame: where maps and regions are compared, one of FRAMES.
        uncovered: how uncovered pixels are scored, one of UNCOVERED.
        mask: how a map becomes a mask, see `metrics.named_masks`; "none" if no metric needs one.
        metrics: names in `metrics.METRICS`, in the order of a table's columns.
        average: the headline average, one of `statistics.AVERAGES`; tables show the others beside it.
        primary: the metric that methods are ranked by.
        notes: what a reader must know to interpret the numbers, one or two sentences each.
        smooth: how maps are smoothed before they are scored, see `scoring.smoothing`.
    """

    name: str
    version: int
    summary: str
    frame: str
    uncovered: str
    mask: str
    metrics: tuple[str, ...]
    average: str
    primary: str
    notes: tuple[str, ...] = ()
    smooth: str = UNSMOOTHED

    def changed(
        self,
        frame: str | None = None,
        uncovered: str | None = None,
        mask: str | None = None,
        smooth: str | None = None,
    ) -> Protocol:
        """Override parts of the protocol; None keeps a part as it is.

        Raises:
            UsageError: an unknown mask, a mask for a protocol without mask metrics, or an invalid smoothing.
        """
        if mask is not None and self.mask == NONE:
            raise UsageError(f"--mask {mask}: protocol {self.name} has no metric that uses a mask")
        named = self.mask if mask is None else mask_name(mask)
        sigma = self.smooth if smooth is None else smooth_name(smooth)
        where, rule = frame or self.frame, uncovered or self.uncovered
        return replace(self, frame=where, uncovered=rule, mask=named, smooth=sigma)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="gtg",
            version=2,
            summary="the paper: 512 x 512 crop, Gaussian mixture mask, means over samples",
            frame=CROP,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination"),
            average="overall",
            primary="cnr",
            notes=(
                "miou averages foreground and background IoU. With small boxes even an empty mask scores almost 0.5, "
                "so read it beside iou.",
                "cnr is signed, as in the paper's released code; the paper's text takes the absolute value.",
                _TIES,
            ),
        ),
        Protocol(
            name="gtg-released",
            version=2,
            summary="the paper's released code: its metrics, each category weighted by its squared sample count",
            frame=CROP,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("miou", "iou", "cnr", "top1", "auroc", "box_iou", "box_miou", "distance"),
            average="frequency2",
            primary="miou",
            notes=(
                "Deviates on purpose: for an empty mask the released code scores 0 everywhere, even for distance, "
                "where 0 is best. Here distance is undefined and counted, and the other metrics are those of an empty "
                "mask.",
                "Deviates on purpose: the released code skips maps with NaN and missing files; here they are failed "
                "samples.",
                "Deviates on purpose: the released code stretches boxes to the square but crops the map, and stretches "
                "BioViL's map from its crop; here one frame carries both.",
                "box_iou and box_miou reproduce that code's bounding box, which ends before the mask's last row and "
                "column.",
                "The released method's own deviations (first sub-token, 40 last steps) are `--profile released`.",
                _TIES,
            ),
        ),
        Protocol(
            name="biovil",
            version=1,
            summary="Boecking et al. 2022: IoU averaged over thresholds 0.1 to 0.5, absolute CNR, macro average",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=NONE,
            metrics=("miou_thresholds", "miou_thresholds_minmax", "cnr_abs"),
            average="macro",
            primary="miou_thresholds_minmax",
            notes=(
                "miou_thresholds applies the thresholds to the map as it is, which is meaningful only for cosine maps "
                "(biovil, biovil-l, biovil-t). For any other map read miou_thresholds_minmax.",
                "cnr_abs does not distinguish a map that is hot in the region from one that is cold there.",
            ),
        ),
        Protocol(
            name="chexlocalize",
            version=2,
            summary="Saporta et al. 2022: Otsu mask in the image's original pixels, IoU and hit rate, macro average",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=OTSU,
            metrics=("iou", "top1"),
            average="macro",
            primary="iou",
            notes=(
                "top1 is the hit rate: the map's maximum is inside the region, without tolerance; ties share.",
                "CheXlocalize rounds the map to 8 bits before Otsu's method, which moves the threshold by a bin or "
                "two; here the map is not rounded.",
                "CheXlocalize's intervals resample images 1,000 times; here patients are resampled 2,000 times.",
                _TIES,
            ),
        ),
        Protocol(
            name="strict",
            version=4,
            summary="recommended: original pixels, each method at its own best smoothing, threshold-free first, macro",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("gcnr", "cnr", "top1", "ap", "auroc", "iou", "box_iou_full", "phrase_discrimination", "coverage"),
            average="macro",
            primary="gcnr",
            notes=(
                "Each method, priors included, is smoothed by what is best for it on the validation split by gcnr: "
                "scores against boxes reward smooth maps. Data without a validation split need --smooth 0 or another "
                "value (versions before 4 did not smooth).",
                "gcnr is the published histogram estimator with 256 bins (version 1 binned by rank). A gamma curve "
                "changes it far less than cnr, but not by exactly nothing: auroc and ap are the metrics that are "
                "exactly invariant to monotone rescaling.",
                "gcnr has no sign: a map that is cold in the region scores like a hot one, so read it beside cnr.",
                "No miou: half of it is the background's IoU, which is high even for an empty mask.",
                "coverage does not rate a map: it is the share of the region inside the method's field of view.",
                _TIES,
            ),
            smooth=BEST,
        ),
        Protocol(
            name="boxes",
            version=1,
            summary="predicted boxes: matched IoU, IoU of the unions, AP, pointing by the best box",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("matched_iou", "iou", "box_ap10", "box_ap30", "box_ap50", "box_top1"),
            average="overall",
            primary="matched_iou",
            notes=(
                "For methods that answer with boxes (gtg-bench score --boxes). A map is scored by the boxes around the "
                "connected components of its mask, each with the map's maximum in it as score, so both kinds of "
                "methods share a table.",
                "No box is a miss: 0 in every column. A sample is never left out for it.",
                "box_ap10, box_ap30 and box_ap50 are computed per phrase and averaged over phrases, not pooled over "
                "the data set. Boxes without scores tie: AP is then precision times recall.",
            ),
        ),
        Protocol(
            name="threshold-sweep",
            version=1,
            summary="recent papers: IoU and Dice over thresholds; padded to 518 pixels, smoothed, macro",
            frame=PADDED,
            uncovered=LOWEST,
            mask=NONE,
            metrics=("iou_sweep", "dice_sweep", "cnr", "top1"),
            average="macro",
            primary="iou_sweep",
            notes=(
                "Built from a description, not from code: longer side to 518 pixels, padded to a square, Gaussian of "
                "1.5, only the central 453 x 453 pixels scored, thresholds 0.1 to 0.5 of the map rescaled to [-1, 1].",
                "The description leaves these open. Here the Gaussian's standard deviation is 1.5 patches of 14 pixels "
                "(21 of 518), as in BioViL's code; if 1.5 pixels are meant, use --smooth 0.0029. The map is rescaled "
                "by its minimum and maximum over the scored pixels. The thresholds are 0.1, 0.2, 0.3, 0.4 and 0.5, and "
                "a pixel is predicted where its value is greater.",
                "Padding that the method did not see counts as background with the map's lowest value. A region that "
                "is entirely outside the scored square is unscorable.",
                "Maps that their method has smoothed already (biovil, biovil-l, biovil-t) are smoothed once more.",
            ),
            smooth=smooth_name(str(21 / 518)),
        ),
    )
}


_SMOOTHED_SINCE = {"strict": 4}
"""The version in which a protocol got its smoothing; earlier ones scored maps as their methods return them."""


def protocol_of(name: str) -> Protocol:
    """The protocol of a stored run; the paper's if this version does not know the name."""
    return PROTOCOLS.get(name, PROTOCOLS[PROTOCOL])


def find_protocol(name: str) -> Protocol:
    """Look up a protocol by name. Raises UsageError with similar names if it is unknown."""
    if name not in PROTOCOLS:
        raise UsageError(unknown("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]


def definition(described: Mapping[str, Any]) -> str:
    """A readable name for everything that defines a number; numbers of different names never share a column.

    The protocol's name, "@" and its version from the second on, and "+" with each of frame, uncovered and mask that
    differs from the protocol's: "biovil", "gtg@2", "gtg@2+original", "strict@3+exclude+0.5", "gtg@2+smooth0.06".
    Values that were chosen on a validation split share one definition, although each method has its own: "gtg@2+best"
    (mask), "gtg@2+smooth-best".

    Args:
        described: protocol, protocol_version and RULES, as in a run's description or a leaderboard's row; this version
            of the program need not know the protocol.
    """
    name, version = described["protocol"], int(described["protocol_version"])
    default = protocol_of(name)
    found = {part: rule_of(described[part]) for part in RULES}
    changed = [value for part, value in found.items() if part != "smooth" and value != getattr(default, part)]
    smooth = default.smooth if version >= _SMOOTHED_SINCE.get(name, 1) else UNSMOOTHED
    if found["smooth"] != smooth:
        changed.append(f"smooth{'-' if found['smooth'] == BEST else ''}{found['smooth']}")
    return "+".join([name if version == 1 else f"{name}@{version}", *changed])


DEFAULT = f"{PROTOCOL}@{PROTOCOLS[PROTOCOL].version}"
"""The definition of the default protocol's numbers."""
