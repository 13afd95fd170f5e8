"""What methods share while many runs are executed."""

from __future__ import annotations

from gtg_bench.benchmark.api.sharing import shared, sharing


def test_values_are_shared_inside_a_block_only() -> None:
    assert shared("model", 1, list) is not shared("model", 1, list)
    with sharing():
        first = shared("model", 1, list)
        with sharing():
            assert shared("model", 1, list) is first
        assert shared("model", 1, list) is first
        assert shared("images", 1, list) is not first
    with sharing():
        assert shared("model", 1, list) is not first


def test_the_oldest_value_is_dropped_before_another_is_made() -> None:
    alive: set[int] = set()

    class Model:
        def __init__(self, key: int) -> None:
            self.key, self.beside = key, set(alive)
            alive.add(key)

        def __del__(self) -> None:
            alive.discard(self.key)

    with sharing():
        assert [shared("model", key, lambda k=key: Model(k)).beside for key in (1, 2, 2)] == [set()] * 3  # type: ignore[misc]
        kept = [shared("two", key, lambda k=key: k, most=2) for key in (1, 2, 1, 3)]  # type: ignore[misc]
        assert kept == [1, 2, 1, 3]
        assert shared("two", 1, lambda: 9, most=2) == 1  # used later than 2
        assert shared("two", 2, lambda: 9, most=2) == 9
