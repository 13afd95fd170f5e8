"""Many comparisons at once: corrected p-values, and groups of methods that cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: with these, the chance of any false alarm among all comparisons is at most the level.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: of every comparison of a family, such as all categories and methods of a table; None where there was
            nothing to compare, which does not count.

    Returns:
        The corrected values in the same order, each at least as large as before and at most 1; None stays None.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[index] = highest
    return corrected


def rank_groups(
    scores: Mapping[str, float | None], alike: Callable[[str, str], bool], higher_is_better: bool = True
) -> dict[str, int]:
    """Rank groups from 1: down from the best, a group ends before the first method that differs from its leader.

    Being alike is not transitive, so no partition can say all of it: the members of a group cannot be told apart from
    its best member, two of them may differ, and the best of the next group may resemble the last of this one.

    Args:
        scores: name -> average. None: there is no score, and the name gets no group.
        alike: whether two methods cannot be told apart (the leader of a group is given first), such as by a corrected
            p-value above the level.
        higher_is_better: False for a distance.

    Returns:
        name -> group, best first; equal scores in the order of their names.
    """
    known = [(-score if higher_is_better else score, name) for name, score in scores.items() if score is not None]
    groups: dict[str, int] = {}
    leader, group = "", 0
    for _, name in sorted(known):
        if not group or not alike(leader, name):
            leader, group = name, group + 1
        groups[name] = group
    return groups
