"""Where the maps of a run come from when they are not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import BatchMethod, Dataset, GroundingMap, Method, MethodSettings, Query, seed_for
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.worker import Found
from gtg_bench.benchmark.scoring.score_map import check_sample

Source = Callable[[Sequence[Trial]], list[Found]]
"""One map or exception a trial, in order."""

_ABSENT = "no map is stored"


@dataclass(frozen=True)
class ModelSource:
    """A method, built when its first map is asked for. What goes wrong with one sample stays with that sample."""

    entry: MethodEntry
    settings: MethodSettings
    dataset: Dataset

    def __call__(self, batch: Sequence[Trial]) -> list[Found]:
        """The method's maps."""
        inputs = [self._query(trial) for trial in batch]
        queries = [query for query in inputs if isinstance(query, Query)]
        maps = iter(self._ground(self.method, queries) if queries else [])
        return [next(maps) if isinstance(query, Query) else query for query in inputs]

    @cached_property
    def method(self) -> Method:
        """The method. Raises UsageError if it cannot be built."""
        return self.entry.built(self.settings)

    def _query(self, trial: Trial) -> Query | Exception:
        """The method's input, or why there is none."""
        try:
            image = self.dataset.image(trial.sample)  # first: a data set knows best what is wrong with its row
            check_sample(trial.sample)
            check_sample(trial.scored_on)
        except Exception as error:
            return error
        return Query(image, trial.phrase, seed_for(self.settings.seed, trial.sample.sample_id), trial.category)

    def _ground(self, method: Method, queries: list[Query]) -> list[Found]:
        """One map or exception a query: a batch that fails is done again one by one."""
        try:
            return list(ground_all(method, queries))
        except Exception as error:
            if len(queries) == 1:
                return [error]
        return [result for query in queries for result in self._ground(method, [query])]


@dataclass(frozen=True)
class NoSource:
    """Nothing but stored maps: every other sample fails, with what its run said of it where it said something."""

    reasons: dict[str, str]

    def __call__(self, batch: Sequence[Trial]) -> list[Found]:
        """Why there is no map."""
        return [self._reason(trial.sample.sample_id) for trial in batch]

    def _reason(self, sample_id: str) -> SampleError:
        said = self.reasons.get(sample_id, "").removeprefix(f"{_ABSENT}: ")
        return SampleError(f"{_ABSENT}: {said}" if said else f"{_ABSENT}: `gtg-bench run` computes it")


def ground_all(method: Method, queries: Sequence[Query]) -> list[GroundingMap]:
    """The maps of several queries, in one go where the method can."""
    if isinstance(method, BatchMethod):
        maps = method.ground_batch(queries)
        if len(maps) != len(queries):
            raise ValueError(f"ground_batch returned {len(maps)} maps for {len(queries)} queries")
        return maps
    return [method.ground(query.image, query.text) for query in queries]
