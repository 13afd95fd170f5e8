"""Whether a phrase denies a finding ("no pneumothorax"): a plain rule for `data check`, which only warns.

A region cannot show what is not there: such a phrase is outside what the metrics mean.
"""

from __future__ import annotations

import re
from itertools import pairwise

from gtg_bench.benchmark.api.phrases import read_phrase

_UNCERTAIN = re.compile(
    r"\b(no|without|not) (significant |substantial |appreciable |interval |definite )*(interval )?(change|increase|"
    r"decrease|worse|better|worsening|improvement)\w*|\bnot (significantly |substantially )*changed\b|"
    r"\b(cannot|can't|can not|not) (be )?(excluded?|ruled out)\b|\bnot only\b",
    re.IGNORECASE,
)
"""What has a "no" in it and denies nothing."""

_AHEAD = re.compile(
    r"\b(no|normal|without|absence of|absent|free of|negative for|rather than|never|neither|nor|"
    r"(is|are|was|were) not|not|resolved|resolution of|excludes?|clear of)\b"
    r"(?P<scope>((?!\b(but|however|although|with|which|there (is|are))\b)[^.;:])*)",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"[^.;:,]*\b(((is|are|was|were|has|have|had)( been)?( now)?( completely| fully)? )"
    r"(not (seen|present|identified|visible|visuali[sz]ed|appreciated|demonstrated|detected)|absent|resolved|excluded|"
    r"ruled out|normal|unremarkable|clear|not enlarged)|(?<=\w )no longer \w+)\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\bnormal (chest|study|radiograph|examination|exam|film|heart|cardiac|cardiomediastinal|lungs?)\b|"
    r"\b(lungs?|pleura\w*|study|radiograph|chest)\b[^.;]*\b(clear|unremarkable|normal)\b|"
    r"\bno (acute|active|focal|evidence|sign|radiographic)\b|\bunremarkable\b",
    re.IGNORECASE,
)


def denies(phrase: str, category: str = "") -> str:
    """Why a phrase seems to deny what its region should show, in a few words; "" where it does not.

    A phrase that denies one finding and names another ("opacity without effusion") denies its own only where that is
    the one denied. "No change", "cannot be excluded" and the like deny nothing.

    Args:
        phrase: English.
        category: of the finding, as the data set spells it; where it is none that `api.phrases` reads, a phrase denies
            if it denies every finding that it names.
    """
    text = _UNCERTAIN.sub(" ", phrase)
    rest = _AHEAD.sub(" ", _BEHIND.sub(" ", text))
    if rest == text:
        return ""
    named, left = _findings(text), _findings(rest)
    own = next((name for name in named if name.lower() == category.lower()), None)
    itself = re.compile(rf"\b{re.escape(category)}\b", re.IGNORECASE)
    spelled = category and itself.search(text) and not itself.search(rest)
    if spelled or (own is not None and own not in left):
        return f"denies {category.lower()}"
    if named and not left:
        return f"denies {', '.join(sorted(named)).lower()}"
    return "says that nothing is found" if not named and _NORMAL.search(text) else ""


def _findings(text: str) -> set[str]:
    """Every finding that a text names, denied or not."""
    words = re.split(r"\W+", text)
    pairs = [*words, *(" ".join(pair) for pair in pairwise(words))]
    return {name for word in pairs if (name := read_phrase(word).category)}
