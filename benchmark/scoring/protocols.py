"""Protocols: named, versioned selections of frame, mask, metrics and average. The one place that names columns.

A number means something only together with its definition, so a leaderboard's file holds one definition and its name
says which; see `definition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.metrics import GTG
from gtg_bench.benchmark.metrics.named_masks import MIXTURE, NONE, OTSU, mask_name, rule_of

PROTOCOL = "gtg"
"""The default protocol: the paper's."""

FRAMES = ("crop512", "original")
"""Where maps and regions are compared: the paper's 512 x 512 crop, or the image's own pixels."""

UNCOVERED = ("lowest", "exclude")
"""How pixels that a method does not cover are scored; see `scoring.score_map`."""

MASK = MIXTURE
"""The default rule that turns a map into a mask; see `metrics.named_masks`."""

CROP, ORIGINAL = FRAMES
LOWEST, _ = UNCOVERED


@dataclass(frozen=True)
class Protocol:
    """How maps are scored.

    Attributes:
        name: what `--protocol` takes.
        version: changes whenever a number that it gives changes.
        summary: one line.
        frame: where maps and regions are compared, one of `spec.FRAMES`.
        uncovered: what becomes of pixels that a method does not cover, one of `spec.UNCOVERED`.
        mask: how a map becomes a mask, see `metrics.named_masks`; "none" where no metric asks for one.
        metrics: names of `metrics.METRICS`, a column each, in this order.
        average: the headline, a name of `statistics.AVERAGES`; the others stand beside it.
        primary: the metric by which methods are ranked.
        notes: what a reader must know, a sentence or two each.
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

    def changed(self, frame: str | None = None, uncovered: str | None = None, mask: str | None = None) -> Protocol:
        """The protocol with what a user wants otherwise; None leaves it as it is.

        Raises:
            UsageError: a mask that there is not, or one for a protocol that has no use for it.
        """
        if mask is not None and self.mask == NONE:
            raise UsageError(f"--mask {mask}: no metric of protocol {self.name} asks for a mask")
        named = self.mask if mask is None else mask_name(mask)
        return replace(self, frame=frame or self.frame, uncovered=uncovered or self.uncovered, mask=named)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="gtg",
            version=1,
            summary="the paper: 512 x 512 crop, mixture mask, means over samples",
            frame=CROP,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=GTG,
            average="overall",
            primary="cnr",
            notes=(
                "miou averages the IoU of foreground and background: an empty mask scores almost 0.5 where boxes are "
                "small, so read it beside iou.",
                "cnr is signed; the paper's text writes an absolute value, its released code none.",
            ),
        ),
        Protocol(
            name="gtg-released",
            version=1,
            summary="the paper's released code: its metrics, and a category weighs its squared count",
            frame=CROP,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("miou", "iou", "cnr", "top1", "auroc", "box_iou", "box_miou", "distance"),
            average="frequency2",
            primary="miou",
            notes=(
                "Not copied: a sample without a mask scores 0 everywhere there, in distance too, where 0 is the best; "
                "here distance is undefined and counted, and the rest is what an empty mask scores.",
                "Not copied: maps with NaN and missing files are passed over there; here they are failed samples.",
                "Not copied: boxes are stretched to the square there while the map is cropped, and BioViL's map is "
                "stretched from its crop; here one frame carries both.",
                "box_iou and box_miou keep that code's rectangle, which ends before the mask's last row and column.",
                "The method's own departures (first sub-token, 40 last steps) are `--profile released`.",
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
                "miou_thresholds takes the thresholds on the map as it is: it means something for cosine maps alone "
                "(biovil, biovil-l, biovil-t). For any other map read miou_thresholds_minmax.",
                "cnr_abs cannot tell a map that is hot in the region from one that is cold there.",
            ),
        ),
        Protocol(
            name="chexlocalize",
            version=1,
            summary="Saporta et al. 2022: Otsu's mask in the image's own pixels, IoU and hit rate, macro average",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=OTSU,
            metrics=("iou", "top1"),
            average="macro",
            primary="iou",
            notes=(
                "top1 is the hit rate: the map's maximum lies in the region, without tolerance; equal maxima share.",
                "The threshold is of the map itself; theirs of the map rounded to 8 bits, a bin or two away.",
                "Their bounds resample images 1,000 times, these patients 2,000 times.",
            ),
        ),
        Protocol(
            name="strict",
            version=1,
            summary="recommended: the image's own pixels, threshold-free metrics first, macro average",
            frame=ORIGINAL,
            uncovered=LOWEST,
            mask=MIXTURE,
            metrics=("gcnr", "cnr", "top1", "ap", "auroc", "iou", "box_iou_full", "phrase_discrimination", "coverage"),
            average="macro",
            primary="gcnr",
            notes=(
                "gcnr cannot be raised by a gamma curve, but has no sign: read it beside cnr.",
                "No miou: half of it is the background's IoU, which an empty mask has too.",
                "coverage is no merit of a map: it says what share of the region the method could see at all.",
            ),
        ),
    )
}


def protocol_of(name: str) -> Protocol:
    """The protocol by which a stored run was scored; the paper's if this version does not know the name."""
    return PROTOCOLS.get(name, PROTOCOLS[PROTOCOL])


def find_protocol(name: str) -> Protocol:
    """A protocol by name. Raises UsageError with the near names if there is none."""
    if name not in PROTOCOLS:
        raise UsageError(unknown("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]


def definition(described: Mapping[str, Any]) -> str:
    """What decides a number's meaning, as a readable name: numbers of two names never share a column.

    The protocol, "@" and its version from the second on, and "+" with each of frame, uncovered and mask that is not the
    protocol's own: "gtg", "strict", "gtg+original", "strict+exclude+0.5". Thresholds that were chosen on a validation
    split, one for each method, are one definition: "gtg+best".

    Args:
        described: protocol, protocol_version, frame, uncovered and mask, as in a run's description or a leaderboard's
            row; the protocol may be one that this version of the program does not know.
    """
    name, version = described["protocol"], int(described["protocol_version"])
    usual = PROTOCOLS.get(name, PROTOCOLS[PROTOCOL])
    found = {"frame": described["frame"], "uncovered": described["uncovered"], "mask": rule_of(described["mask"])}
    other = [value for field, value in found.items() if value != getattr(usual, field)]
    return "+".join([name if version == 1 else f"{name}@{version}", *other])
