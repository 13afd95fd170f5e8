"""`--steps auto`: the order of the steps, when a map counts as settled, and the maps of the method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm import settled
from gtg_bench.methods.ldm.build import complete
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.settled import blocks, is_settled

pytestmark = pytest.mark.usefixtures("torch")
AUTO = MethodSettings("tiny-ldm", sampling="gt-cfg", steps="auto", tokens="all")
QUERIES = [
    Query(np.random.default_rng(k).random((20, 24 + k), dtype=np.float32), text, seed=k)
    for k, text in enumerate(["edema", "hazy opacity", "mild pneumothorax"])
]


def test_every_prefix_of_the_order_covers_the_schedule() -> None:
    order = [step for block in blocks() for step in block]
    assert sorted(order) == list(range(50))
    for number in range(2, 50):
        chosen = sorted(order[:number])
        gaps = np.diff([*chosen, chosen[0] + 50])
        assert gaps.max() <= 2 * 50 / number  # at most twice as wide as even spacing


def test_a_map_has_settled_when_a_block_changes_it_little() -> None:
    """The map's standard deviation is 1; it moves by 0.16 or 0.18 everywhere."""
    after = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert is_settled(after + 0.16, after)
    assert not is_settled(after - 0.18, after)
    assert is_settled(torch.ones(2, 2), torch.ones(2, 2))


def test_a_map_is_the_mean_of_the_steps_up_to_the_one_where_it_settles(
    components: LdmComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with the last-step means of a run with 50 steps, whose differences are the steps' own maps."""
    monkeypatch.setattr(settled, "TOLERANCE", 0.25)
    whole = LdmMethod(components, MethodSettings("tiny-ldm", sampling="gt-cfg", steps=50, tokens="all"))
    found = LdmMethod(components, AUTO).ground_batch(QUERIES)
    for query, grounding in zip(QUERIES, found, strict=True):
        [last] = whole.last_step_maps([query], range(1, 51))
        sums = np.stack([np.zeros((8, 8)), *(n * one.values.astype(float) for n, one in enumerate(last, 1))])
        steps = np.diff(sums, axis=0)[::-1]  # noisiest first
        used, before = list[int](), None
        for block in blocks():
            used += block
            mean = steps[used].mean(0)
            if before is not None and np.sqrt(((mean - before) ** 2).mean()) <= 0.25 * mean.std():
                break
            before = mean
        assert grounding.steps_used == len(used)
        np.testing.assert_allclose(grounding.values, mean, atol=1e-5)
    assert len({one.steps_used for one in found}) > 1


def test_batches_change_no_bit(components: LdmComponents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "TOLERANCE", 0.25)
    method = LdmMethod(components, AUTO)
    batch = method.ground_batch(QUERIES[::-1])[::-1]
    for query, one in zip(QUERIES, batch, strict=True):
        alone = LdmMethod(components, AUTO, rows=64).ground_batch([query])[0]
        assert np.array_equal(alone.values, one.values)
        assert alone.steps_used == one.steps_used


def test_bench_counts_the_steps_that_samples_took(components: LdmComponents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "TOLERANCE", 0.25)
    method = LdmMethod(components, AUTO)
    used = [one.steps_used or 0 for one in method.ground_batch(QUERIES)]
    assert method.measure(QUERIES, repeats=1)["forwards_per_sample"] == sum(used) / 3


def test_without_tolerance_all_steps_are_averaged(components: LdmComponents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "TOLERANCE", -1.0)
    whole = LdmMethod(components, MethodSettings("tiny-ldm", sampling="gt-cfg", steps=50, tokens="all"))
    found = LdmMethod(components, AUTO).ground_batch(QUERIES[:1])[0]
    assert found.steps_used == 50
    np.testing.assert_allclose(found.values, whole.ground_batch(QUERIES[:1])[0].values, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"sampling": "cfg"}, "--sampling gt-cfg"),
        ({"bbm": "mixture"}, "--bbm"),
        ({"last_steps": 4}, "--last-steps"),
        ({"profile": "released"}, "--profile released"),
        ({"steps": "never"}, "'auto'"),
    ],
)
def test_settings_that_need_a_number_of_steps_are_refused(other: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        complete(MethodSettings(**{"method": "cxrbert-ldm", "steps": "auto"} | other))


def test_the_steps_used_are_stored(tmp_path: Any) -> None:
    """With the record and the map, so that another protocol still knows them."""
    from gtg_bench.benchmark.runs import runner
    from gtg_bench.benchmark.runs.map_store import MapStore
    from gtg_bench.benchmark.runs.runner import RunRequest

    for protocol in ("gtg", "strict"):
        request = RunRequest.of("cxrbert-ldm", steps="auto", limit=1, runs_dir=tmp_path, protocol=protocol)
        result = runner.run(runner.prepare(request), request)
        [record] = result.records
        assert result.spec.settings.steps == "auto"
        assert record.steps_used is not None
        assert 8 <= record.steps_used <= 50
    assert result.reused == 1
    assert MapStore.of_run(result.folder).load(record.sample_id).steps_used == record.steps_used
