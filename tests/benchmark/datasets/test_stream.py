"""The phantom's random numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gtg_bench.benchmark.datasets.phantom.stream import Stream


def test_a_stream_is_a_function_of_its_parts() -> None:
    draws = [[Stream(*parts).uniform(0, 1) for _ in range(2)] for parts in [("a", 1), ("a", 2), ("a", 1, 0)]]
    assert all(first == second for first, second in draws)
    assert len({first for first, _ in draws}) == 3


def test_uniform_numbers() -> None:
    stream = Stream("uniform")
    drawn = np.array([stream.uniform(-2, 6) for _ in range(4000)])
    assert drawn.min() >= -2
    assert drawn.max() < 6
    assert drawn.mean() == pytest.approx(2, abs=0.15)
    assert drawn.std() == pytest.approx(8 / 12**0.5, abs=0.1)
    assert np.histogram(drawn, 8, (-2, 6))[0].min() > 400


def test_choices_follow_their_weights() -> None:
    stream = Stream("choice")
    drawn = Counter(stream.choice("abc", (1, 0, 3)) for _ in range(4000))
    assert set(drawn) == {"a", "c"}
    assert drawn["c"] == pytest.approx(3000, abs=120)
    assert set(Counter(stream.choice("abc") for _ in range(100))) == set("abc")
    assert sum(stream.chance(0.25) for _ in range(4000)) == pytest.approx(1000, abs=120)


def test_shuffling_keeps_every_item() -> None:
    stream = Stream("shuffled")
    orders = {tuple(stream.shuffled("abc")) for _ in range(100)}
    assert len(orders) == 6
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (120, 121)])
def test_fields(height: int, width: int) -> None:
    field = Stream("field").field(height, width)
    assert field.shape == (height, width)
    assert field.dtype == np.float32
    assert np.abs(field).max() <= 510 / 147
    if height > 100:
        assert field.mean() == pytest.approx(0, abs=0.03)
        assert field.std() == pytest.approx(1, abs=0.03)
        assert abs(np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]) < 0.03
