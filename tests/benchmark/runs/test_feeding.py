"""Reading images ahead: what is read, how often, how far ahead, and that it changes no result."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtg_bench.benchmark.api import DataError, Frame, GroundingMap, MethodSettings, Query, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodCard, PhraseSample
from gtg_bench.benchmark.runs import feeding, runner
from gtg_bench.benchmark.runs.feeding import Images
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod

SIZE = (40, 30)
BYTES = 4 * SIZE[0] * SIZE[1]


def sample(name: str, phrase: str, path: Path | None = Path("file.png"), box: bool = True) -> PhraseSample:
    boxes = ((3.0, 4.0, 20.0, 21.0),) if box else ()
    return PhraseSample(f"{name}-{phrase}", name, name, path and path.with_stem(name), phrase, "A", boxes, SIZE)


ROWS = [sample(name, f"thing {number}") for number, name in enumerate("aaabccdefgg")]


class Pictures:
    """A data set of random pictures that counts how often each is read; "bad" cannot be read."""

    name, version = "pictures", "1"

    def __init__(self, rows: list[PhraseSample] = ROWS) -> None:
        self.options: dict[str, str] = {}
        self.rows, self.reads = rows, Counter[str]()
        self._lock = threading.Lock()

    def samples(self, split: str) -> list[PhraseSample]:
        return self.rows

    def image(self, sample: PhraseSample) -> FloatArray:
        with self._lock:
            self.reads[sample.image_id] += 1
        if sample.image_id == "bad" or not sample.boxes:
            raise DataError(f"{sample.sample_id} cannot be read")
        return np.random.default_rng(ord(sample.image_id)).random(SIZE[::-1], dtype=np.float32)


class Vandal:
    """A method that changes its images in place."""

    def __init__(self, settings: MethodSettings) -> None: ...

    def ground_batch(self, queries: list[Query]) -> list[GroundingMap]:
        maps = [GroundingMap(query.image.copy(), Frame.original(SIZE)) for query in queries]
        for query in queries:
            query.image[:] = 0
        return maps


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing_but_read_an_image_once_for_consecutive_phrases(tmp_path: Path, workers: int) -> None:
    bad = [sample("bad", "x"), sample("bad", "y"), sample("g", "no region", box=False)]
    entry = MethodEntry("vandal", Vandal, MethodCard("a test", "plug-in"))

    def records(threads: int) -> tuple[Pictures, list[object]]:
        request = RunRequest.of("vandal", runs_dir=tmp_path / str(threads), workers=threads, batch_size=4)
        data = Pictures(ROWS + bad)
        done = runner.run(runner.prepare(request, entry, data), request).records
        return data, [(r.sample_id, r.status, r.error, r.metrics, r.map_sha256) for r in done]

    (alone, expected), (ahead, found) = records(0), records(workers)
    assert found == expected
    assert [one[1] for one in found].count("failed") == 3
    assert alone.reads == Counter("aaabccdefggg") + Counter({"bad": 2})
    assert ahead.reads == Counter("abcdefgg") + Counter({"bad": 2})


@pytest.mark.parametrize(("depth", "most_bytes", "expected"), [(3, 10**9, 3), (8, 2 * BYTES, 2), (8, 1, 1)])
def test_few_images_are_read_ahead(depth: int, most_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "MOST_BYTES", most_bytes)
    data = Pictures([sample(name, "x") for name in "abcdefghij"])
    images = Images(data.image)
    with images.ahead(data.rows, 2, depth):
        for number, one in enumerate(data.rows[:4], 1):
            assert np.array_equal(images(one), Pictures().image(one))
            time.sleep(0.05)
            assert sum(data.reads.values()) == number + expected
        assert images(data.rows[7]).shape == SIZE[::-1]  # out of order: read at once
    assert data.reads["j"] == 0


def test_a_method_may_prepare_images_in_the_reading_threads(components: LdmComponents) -> None:
    """The maps are the same bits; an image that was prepared is not cut out again, and a dropped one is forgotten."""
    settings = MethodSettings("tiny-ldm", sampling="gt-cfg", steps=2, tokens="all")
    method, plain = LdmMethod(components, settings), LdmMethod(components, settings)
    images = Images(Pictures().image)
    images.prepare = method.prepare_image
    with images.ahead(ROWS[2:5], 2, 3):
        queries = [Query(images(one), one.phrase) for one in ROWS[2:5]]
    assert len(method.engine._cut) == 3
    expected = [one.values for one in plain.ground_batch([replace(one, image=one.image.copy()) for one in queries])]
    assert np.array_equal([one.values for one in method.ground_batch(queries)], expected)
    assert not method.engine._cut
    method.prepare_image(Pictures().image(ROWS[0]))
    assert not method.engine._cut


def test_threads_end_with_the_block_and_after_an_error() -> None:
    before = threading.active_count()
    images = Images(Pictures().image)

    def interrupted() -> None:
        with images.ahead(ROWS, 3, 4):
            images(ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before
    assert images(ROWS[1]).shape == SIZE[::-1]


def test_images_without_a_file_are_not_read_ahead() -> None:
    data = Pictures([sample(name, "x", path=None) for name in "abc"])
    with Images(data.image).ahead(data.rows, 2, 3):
        time.sleep(0.05)
    assert not data.reads


def test_an_impossible_number_of_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers must be between 0 and 64"):
        RunRequest.of("center-prior", workers=-1)
