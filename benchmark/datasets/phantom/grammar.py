"""The phantom's phrases, modelled on MS-CXR: function words, punctuation, hyphens, several wordings.

In a template, {slots} are filled from the finding, and a part in [brackets] is left out if one of its slots is not
mentioned.
"""

from __future__ import annotations

import re

from gtg_bench.benchmark.datasets.phantom.findings import Finding
from gtg_bench.benchmark.datasets.phantom.stream import Stream

NORMAL = (
    "No acute cardiopulmonary process.",
    "The lungs are clear.",
    "Normal chest radiograph.",
    "Lungs are clear without focal abnormality; heart size is normal.",
)
_SIZE_WORDS = {"small": ("small", "minimal", "tiny"), "moderate": ("moderate",), "large": ("large", "extensive")}
_DEGREE_WORDS = {"small": ("mild", "slight"), "moderate": ("moderate",), "large": ("severe", "marked")}
_ZONE_WORDS = {"upper": ("upper",), "mid": ("mid", "middle"), "lower": ("lower",)}
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Atelectasis": (
        "[{size} ]linear atelectasis[ {where}]",
        "[{size} ][{side} ][{zonal} ]atelectasis",
        "plate-like atelectasis[ {where}]",
        "there is [{size} ]atelectasis[ {where}]",
        "band of subsegmental atelectasis[, {place} lung]",
    ),
    "Cardiomegaly": (
        "[{degree} ]cardiomegaly",
        "there is [{degree} ]cardiomegaly",
        "the heart is [{degree}ly ]enlarged",
        "[{degree} ]enlargement of the cardiac silhouette",
        "cardiomegaly[, {degree} in degree]",
    ),
    "Consolidation": (
        "[{size} ]consolidation[ {where}]",
        "[{lobe} lobe ]consolidation",
        "there is [{size} ]airspace consolidation[ {where}]",
        "[{size} ]dense consolidation[, {zone} zone]",
        "area of consolidation[ {where}]",
    ),
    "Edema": (
        "[{degree} ][{side} ]pulmonary edema",
        "[{degree} ][{side}-sided ]perihilar edema",
        "interstitial edema[, {degree}][, {side}]",
        "findings consistent with [{degree} ][{side} ]pulmonary edema",
    ),
    "Lung Opacity": (
        "[{size} ]hazy opacity[ {where}]",
        "ill-defined [{size} ]opacity[ {where}]",
        "there is a [{size} ]ground-glass opacity[ {where}]",
        "[{place} ]lung opacity",
        "[{size} ]opacity[ projecting over the {place} lung]",
    ),
    "Pleural Effusion": (
        "[{size} ][{side} ]pleural effusion",
        "[{size} ][{side}-sided ]pleural effusion",
        "there is a [{size} ]pleural effusion[ on the {side}]",
        "pleural effusion[, {size}][, {side}]",
        "[{size} ][{side} ]effusion with blunting of the costophrenic angle",
    ),
    "Pneumonia": (
        "[{size} ]pneumonia[ {where}]",
        "patchy [{lobe} lobe ]pneumonia",
        "patchy opacities[ {where}], concerning for pneumonia",
        "[{size} ]multifocal pneumonia[ {where}]",
        "findings compatible with [{place} lung ]pneumonia",
    ),
    "Pneumothorax": (
        "[{size} ][{side} ][{apical} ]pneumothorax",
        "[{size} ][{side}-sided ]pneumothorax",
        "there is a [{size} ][{side} ][{apical} ]pneumothorax",
        "pneumothorax[ at the {side} {apex}]",
        "[{side} ]pneumothorax[, {size} in size]",
    ),
}
_BILATERAL: dict[str, tuple[str, ...]] = {
    "Atelectasis": (
        "[{size} ]bibasilar atelectasis",
        "there is [{size} ]linear atelectasis at both lung bases",
        "[{size} ]bilateral lower-lobe atelectasis",
    ),
    "Edema": (
        "[{degree} ]bilateral pulmonary edema",
        "[{degree} ]bilateral perihilar edema",
        "interstitial edema in both lungs[, {degree}]",
    ),
    "Pleural Effusion": (
        "[{size} ]bilateral pleural effusions",
        "there are [{size} ]bilateral effusions",
        "bilateral pleural effusions[, {size} in size]",
    ),
}


_DENIALS = ("no {}", "no evidence of {}", "there is no {}", "{} is not seen", "without {}")


def denial_of(category: str, stream: Stream) -> str:
    """One wording of the statement that a finding is absent."""
    named = "pulmonary edema" if category == "Edema" else category.lower()
    text = stream.choice(_DENIALS).format(named)
    return (text[0].upper() + text[1:] if stream.chance(0.8) else text) + ("." if stream.chance(0.6) else "")


def phrase_for(finding: Finding, stream: Stream, must_name_side: bool) -> str:
    """One wording of a finding; side, zone and size are sometimes left out.

    Args:
        finding: what to describe.
        stream: decides the wording.
        must_name_side: another finding of the same category is on the other side.
    """
    side = finding.side if must_name_side or stream.chance(0.62) else None
    zone = finding.zone if stream.chance(0.42) else None
    size = finding.size if stream.chance(0.6) else None
    bilateral = side == "bilateral"
    templates = (_BILATERAL if bilateral else _TEMPLATES)[finding.category]
    if must_name_side:
        templates = tuple(t for t in templates if re.search(r"\[[^]]*(side|place|where)}", t) and "{apex}" not in t)
    text = _fill(stream.choice(templates), _words(finding, side, zone, size, stream))
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    if stream.chance(0.8):
        text = text[0].upper() + text[1:]
    return text + ("." if stream.chance(0.6) else "")


def _fill(template: str, words: dict[str, str]) -> str:
    def part(match: re.Match[str]) -> str:
        slots = re.findall(r"{(\w+)}", match[1])
        return match[1].format(**words) if all(words[slot] for slot in slots) else ""

    return re.sub(r"\[([^]]*)\]", part, template)


def _words(finding: Finding, side: str | None, zone: str | None, size: str | None, stream: Stream) -> dict[str, str]:
    zone_word = stream.choice(_ZONE_WORDS[zone]) if zone else ""
    place = " ".join(filter(None, (side, zone_word)))
    if zone == "lower" and side and stream.chance(0.4):
        where = f"at the {side} {stream.choice(('base', 'lung base'))}"
    else:
        link = stream.choice(("in the", "within the", "of the"))
        where = f"{link} {place} {stream.choice(('lung', 'zone')) if zone else 'lung'}" if place else ""
    apical = finding.category == "Pneumothorax" and zone is not None
    return {
        "side": side or "",
        "size": stream.choice(_SIZE_WORDS[size]) if size else "",
        "degree": stream.choice(_DEGREE_WORDS[size]) if size else "",
        "place": place,
        "zone": place if zone else "",
        "lobe": place if zone in ("upper", "lower") else "",
        "where": where,
        "zonal": {"upper": "upper-lung", "mid": "mid-lung", "lower": "basilar"}.get(zone or "", ""),
        "apical": "apical" if apical else "",
        "apex": "apex" if apical else "",
    }
