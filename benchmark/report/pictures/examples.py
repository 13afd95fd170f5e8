"""Choose samples of a data set, and draw them on a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from matplotlib.figure import Figure

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import Dataset, PhraseSample, seed_for
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.pictures.drawing import Look, reduced
from gtg_bench.benchmark.report.pictures.overlay import LONGEST, Tile, sheet_figure

Order = Literal["given", "worst", "best", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Choice:
    """Which samples to draw, and in which order.

    Attributes:
        limit: how many at most; ignored with `ids`.
        ids: these samples, in this order.
        category: only samples of this finding, in upper or lower case.
        order: as the data set has them, by the metric of the first run (worst or best first), or random.
        metric: name in METRICS, also the score above each map; None takes the first run's primary metric.
        seed: of the random order.
    """

    limit: int = 16
    ids: Sequence[str] = ()
    category: str | None = None
    order: Order = "given"
    metric: str | None = None
    seed: int = 0

    def of(self, samples: Sequence[PhraseSample], scores: Mapping[str, float] | None = None) -> list[PhraseSample]:
        """Choose samples.

        Args:
            samples: all that there are, in the data set's order.
            scores: sample id -> value of the metric; samples without a value come last. None without a run.

        Raises:
            UsageError: an unknown id, category or order, or an order by score without scores.
        """
        if self.order not in ORDERS:
            raise UsageError(unknown("order", self.order, ORDERS))
        known = {sample.sample_id: sample for sample in samples}
        if self.ids:
            if strange := [name for name in self.ids if name not in known]:
                raise UsageError(f"unknown sample {strange[0]!r}; `gtg-bench data samples` lists them")
            return [known[name] for name in dict.fromkeys(self.ids)]
        found = list(samples)
        if self.category is not None:
            found = [sample for sample in samples if sample.category.casefold() == self.category.casefold()]
            if not found:
                raise UsageError(unknown("category", self.category, sorted({s.category for s in samples})))
        if self.order == "random":
            found.sort(key=lambda sample: seed_for("examples", self.seed, sample.sample_id))
        elif self.order != "given":
            if scores is None:
                raise UsageError(f"order {self.order!r} needs a run whose scores it follows")
            sign = 1 if METRICS[self.metric or "cnr"].higher_is_better == (self.order == "worst") else -1
            found.sort(key=lambda sample: sign * scores.get(sample.sample_id, float("inf") * sign))
        return found[: self.limit]


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet.

    Attributes:
        figure: the picture.
        sample_ids: the samples that it shows, in order.
        problems: why samples or maps were left out.
    """

    figure: Figure
    sample_ids: Sequence[str]
    problems: Sequence[str] = ()


def dataset_sheet(
    dataset: Dataset, split: str = "test", choice: Choice | None = None, columns: int = 4, look: Look | None = None
) -> Sheet:
    """Draw samples of a data set with their phrases and regions.

    Args:
        dataset: see `load_dataset`.
        split: the split to choose from.
        choice: which samples.
        columns: images side by side.
        look: how they are drawn.

    Raises:
        UsageError: an unknown split, or see `Choice.of`.
        DataError: no image can be read.
    """
    chosen = (choice or Choice()).of(dataset.samples(split))
    images, problems = readable(dataset, chosen)
    tiles = [Tile(image, s.phrase, s.boxes, None, s.mask, s.image_size) for s, image in images]
    if not tiles:
        raise DataError(problems[0] if problems else f"split {split} of {dataset.name} has no samples")
    return Sheet(sheet_figure(tiles, columns, look), [sample.sample_id for sample, _ in images], left_out(problems))


def left_out(problems: Sequence[str]) -> list[str]:
    """Why samples were left out, as `Sheet.problems` says it."""
    return [f"left out: {problem}" for problem in problems]


def readable(
    dataset: Dataset, samples: Sequence[PhraseSample]
) -> tuple[list[tuple[PhraseSample, FloatArray]], list[str]]:
    """The samples with their images, reduced to what a sheet can show, and why others cannot be read."""
    found, problems = [], []
    for sample in samples:
        try:
            found.append((sample, reduced(dataset.image(sample), LONGEST)))
        except DataError as error:
            problems.append(str(error))
    return found, problems
