"""Phrases that negate a finding ("no pneumothorax"): a simple rule with which `data check` warns.

No region can show what is absent, so the metrics mean nothing for such a phrase.
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
"""Wording with a "no" or "not" that negates no finding."""

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


def negated(phrase: str, category: str = "") -> str:
    """How a phrase negates its own finding, in a few words; "" if it does not.

    A phrase that negates one finding and names another ("opacity without effusion") negates its own only if that is the
    negated one. "No change", "cannot be excluded" and the like negate nothing.

    Args:
        phrase: English.
        category: the finding as the data set spells it. If `api.phrases` does not know it, the phrase must negate every
            finding that it names.
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
        return f"negates {category.lower()}"
    if named and not left:
        return f"negates {', '.join(sorted(named)).lower()}"
    return "says that nothing was found" if not named and _NORMAL.search(text) else ""


def _findings(text: str) -> set[str]:
    """Every finding that a text names, negated or not."""
    words = re.split(r"\W+", text)
    pairs = [*words, *(" ".join(pair) for pair in pairwise(words))]
    return {name for word in pairs if (name := read_phrase(word).category)}
