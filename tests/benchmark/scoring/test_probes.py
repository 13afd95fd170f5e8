"""Probes change what they say, and nothing else; the map of a changed image never passes for the plain one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.runs import identity
from gtg_bench.benchmark.scoring import edits
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.probes import PROBES

SAMPLE = PhraseSample("s", "i", "p", None, "Small left effusion.", "Pleural Effusion", ((60, 40, 90, 70),), (100, 100))
WHOLE = replace(SAMPLE, sample_id="w", image_id="j", boxes=((5, 5, 95, 95),))
MASS = replace(SAMPLE, sample_id="m", image_id="k", phrase="Mass on the left.", category="Mass")
OTHER = replace(SAMPLE, sample_id="o", boxes=((10, 40, 40, 70),))
IMAGE = np.random.default_rng(0).random((100, 100), dtype=np.float32)


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_gives_valid_images_the_same_every_time(probe: str) -> None:
    (trial,) = plan([SAMPLE, MASS], probe, 1)
    found = trial.edited(IMAGE)
    assert (found.shape, found.dtype) == (IMAGE.shape, np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_array_equal(found, plan([SAMPLE, MASS], probe)[0].edited(IMAGE))
    assert np.array_equal(found, IMAGE) == (not trial.edit)
    assert (trial.absent, trial.scored_on) == (probe == "absent", SAMPLE)


def test_maps_of_changed_images_have_their_own_names() -> None:
    names = {probe: plan([SAMPLE, MASS], probe)[0].map_name for probe in ("none", *PROBES)}
    changed = {"occlude-region", "occlude-elsewhere", "finding-swap", "paraphrase", *edits.PIXELS}
    assert {probe for probe, name in names.items() if name != names["none"]} == changed
    assert len({names[probe] for probe in changed}) == len(changed)
    moved = plan([replace(SAMPLE, boxes=((10, 10, 30, 30),))], "occlude-region")[0]
    assert moved.map_name != names["occlude-region"]
    assert plan([SAMPLE], "noise")[0].map_name == plan([replace(SAMPLE, boxes=((1, 1, 9, 9),))], "noise")[0].map_name


def test_the_version_of_the_edits_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {probe: identity.digest_of_samples(plan([SAMPLE], probe)) for probe in ("none", "noise")}
    monkeypatch.setattr(identity, "EDITS_VERSION", 2)
    after = {probe: identity.digest_of_samples(plan([SAMPLE], probe)) for probe in before}
    assert after["none"] == before["none"]
    assert after["noise"] != before["noise"]


def test_an_area_is_filled_from_its_border() -> None:
    """A harmonic function is the mean of its neighbours: a ramp is restored exactly, whatever was in the area."""
    ramp = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (100, 1))
    spoiled, area = ramp.copy(), edits.region_area(SAMPLE)
    spoiled[area] = 0.7
    np.testing.assert_allclose(edits.occluded(spoiled, area), ramp, atol=1e-5)
    assert area[37:73, 57:93].sum() == area.sum() == 34 * 34
    assert edits.occluded(np.ones((100, 100), np.float32), np.ones((100, 100), bool)).min() == 1


def test_the_other_area_is_as_large_and_touches_no_region() -> None:
    area, mirror = edits.region_area(SAMPLE), edits.other_area(SAMPLE)
    assert mirror is not None
    np.testing.assert_array_equal(mirror, area[:, ::-1])
    beside = edits.other_area(SAMPLE, (OTHER,))
    assert beside is not None
    assert beside.sum() == area.sum()
    assert not (beside & (area | edits.region_area(OTHER))).any()
    assert edits.other_area(WHOLE) is None
    assert [trial.sample for trial in plan([SAMPLE, WHOLE], "occlude-elsewhere")] == [SAMPLE]


@pytest.mark.parametrize(
    ("phrase", "other"),
    [
        ("Small left effusion.", "There is small left effusion"),
        ("there is a small left effusion", "Small left effusion."),
        ("There are bilateral effusions.", "Bilateral effusions"),
        ("RLL pneumonia", "There is RLL pneumonia."),
    ],
)
def test_paraphrases(phrase: str, other: str) -> None:
    assert edits.paraphrased(phrase) == other


def test_finding_swap_keeps_the_side_and_names_what_the_image_does_not_show() -> None:
    right = replace(MASS, sample_id="r", image_id="n", phrase="Mass on the right.")
    beside = replace(MASS, sample_id="b", image_id=SAMPLE.image_id)
    found = plan([SAMPLE, OTHER, right, MASS], "finding-swap")
    assert {trial.sample.sample_id: trial.phrase for trial in found} == {
        "s": MASS.phrase,
        "o": MASS.phrase,
        "m": SAMPLE.phrase,
    }
    assert [trial.sample.sample_id for trial in plan([SAMPLE, beside, MASS], "finding-swap")] == ["m"]
    with pytest.raises(UsageError, match="same side"):
        plan([SAMPLE, right], "finding-swap")
