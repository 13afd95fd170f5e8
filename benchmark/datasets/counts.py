"""What the publishers of a data set count in it; `data check` sets it beside what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """Published counts. None: not published, or not known here.

    Attributes:
        pairs: category -> image-phrase pairs, all splits together.
        source: where the counts stand.
        boxes: boxes of all pairs.
        images: images with at least one pair.
        patients: patients with at least one pair.
        splits: split -> category -> pairs, where that is published.
    """

    pairs: Mapping[str, int]
    source: str
    boxes: int | None = None
    images: int | None = None
    patients: int | None = None
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """Name -> count of what is published of the whole set."""
        found = {"pairs": sum(self.pairs.values()), "boxes": self.boxes, "images": self.images}
        return {name: count for name, count in (found | {"patients": self.patients}).items() if count is not None}

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        splits = {name: dict(counts) for name, counts in self.splits.items()}
        return {"source": self.source, **self.totals(), "categories": dict(self.pairs), "splits": splits}
