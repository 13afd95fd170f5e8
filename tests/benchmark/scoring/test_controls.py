"""What each control changes, and what it leaves."""

from __future__ import annotations

import dataclasses

import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.scoring.controls import CONTROLS, NEUTRAL_PHRASE, plan
from gtg_bench.benchmark.scoring.trial import Trial

BOX = (0.0, 0.0, 4.0, 4.0)
CATEGORIES = {"effusion": "Pleural Effusion", "pneumonia": "Pneumonia", "edema": "Edema"}


def sample(name: str, phrase: str) -> PhraseSample:
    """A sample named "PATIENT-IMAGE-NUMBER"; its category is that of the phrase's last word."""
    patient, image, _ = name.split("-")
    category = CATEGORIES[phrase.split()[-1]]
    return PhraseSample(name, f"{patient}-{image}", patient, None, phrase, category, (BOX,), (8, 8))


SAMPLES = [
    sample("p1-a-0", "small left effusion"),
    sample("p1-a-1", "left upper pneumonia"),
    sample("p1-b-0", "small left effusion"),
    sample("p2-a-0", "small left effusion"),
    sample("p2-a-1", "right effusion"),
    sample("p3-a-0", "left lower pneumonia"),
    sample("p3-a-1", "large left effusion"),
    sample("p4-a-0", "right upper pneumonia"),
]


def planned(control: str, samples: list[PhraseSample] = SAMPLES) -> dict[str, Trial]:
    return {trial.sample.sample_id: trial for trial in plan(samples, control)}


@pytest.mark.parametrize("control", CONTROLS)
def test_there_is_one_trial_a_sample_in_order(control: str) -> None:
    assert [trial.sample for trial in plan(SAMPLES, control)] == SAMPLES
    assert plan([], control) == []


@pytest.mark.parametrize("control", ["none", "neutral-phrase", "phrase-swap"])
def test_others_are_the_further_samples_of_the_image(control: str) -> None:
    trials = planned(control)
    assert {name: [other.sample_id for other in trial.others] for name, trial in trials.items()} == {
        "p1-a-0": ["p1-a-1"],
        "p1-a-1": ["p1-a-0"],
        "p1-b-0": [],
        "p2-a-0": ["p2-a-1"],
        "p2-a-1": ["p2-a-0"],
        "p3-a-0": ["p3-a-1"],
        "p3-a-1": ["p3-a-0"],
        "p4-a-0": [],
    }
    assert all(trial.scored_on is trial.sample for trial in trials.values())


def test_without_control_nothing_changes() -> None:
    assert all(trial.phrase == trial.sample.phrase for trial in plan(SAMPLES, "none"))


def test_the_neutral_phrase() -> None:
    assert {trial.phrase for trial in plan(SAMPLES, "neutral-phrase")} == {NEUTRAL_PHRASE}


def test_a_swapped_phrase_is_of_another_category_and_another_image() -> None:
    for trial in plan(SAMPLES, "phrase-swap"):
        donors = [s for s in SAMPLES if s.phrase == trial.phrase and s.image_id != trial.sample.image_id]
        assert donors
        assert all(donor.category != trial.sample.category for donor in donors)


def test_the_only_other_category_of_another_image_is_taken() -> None:
    samples = [sample("p1-a-0", "effusion"), sample("p1-a-1", "pneumonia"), sample("p2-a-0", "edema")]
    assert [trial.phrase for trial in plan(samples, "phrase-swap")[:2]] == ["edema", "edema"]


def test_a_swapped_image_is_of_another_patient_with_the_likest_phrase() -> None:
    trials = planned("image-swap")
    assert {name: trial.scored_on.sample_id for name, trial in trials.items() if name not in TIED} == {
        "p1-a-0": "p2-a-0",  # the same phrase; p1-b-0 has it too, but is the same patient
        "p1-a-1": "p3-a-0",  # the same side goes before the same zone, which p4-a-0 has
        "p1-b-0": "p2-a-0",
        "p3-a-0": "p1-a-1",
        "p4-a-0": "p1-a-1",  # no other one on the right: the same zone
    }
    assert all(trials[name].scored_on.sample_id in names for name, names in TIED.items())
    assert all(trial.phrase == trial.sample.phrase for trial in trials.values())


TIED = {
    "p2-a-0": {"p1-a-0", "p1-b-0"},
    "p2-a-1": {"p3-a-1", "p1-a-0", "p1-b-0"},
    "p3-a-1": {"p1-a-0", "p1-b-0", "p2-a-0"},
}
"""Samples with several partners that are alike."""


def test_the_category_goes_before_everything_else() -> None:
    samples = [sample("p1-a-0", "left effusion"), sample("p2-a-0", "right effusion"), sample("p3-a-0", "left edema")]
    assert planned("image-swap", samples)["p1-a-0"].scored_on.sample_id == "p2-a-0"


def test_a_swapped_image_brings_its_other_findings() -> None:
    trial = planned("image-swap")["p1-a-0"]
    assert [other.sample_id for other in trial.others] == ["p2-a-1"]


def test_the_same_samples_give_the_same_plan() -> None:
    assert all(plan(SAMPLES, control) == plan(list(SAMPLES), control) for control in CONTROLS)


def test_partners_vary_from_sample_to_sample() -> None:
    crowd = [sample(f"p{k}-a-0", "left effusion") for k in range(30)]
    assert len({trial.scored_on.sample_id for trial in plan(crowd, "image-swap")}) > 10


@pytest.mark.parametrize("control", CONTROLS)
def test_the_order_of_samples_plays_no_part(control: str) -> None:
    ours, theirs = planned(control), planned(control, SAMPLES[::-1])
    assert [(ours[name].phrase, ours[name].scored_on) for name in ours] == [
        (theirs[name].phrase, theirs[name].scored_on) for name in ours
    ]


def test_a_swap_without_partner_says_so() -> None:
    one_category = [sample("p1-a-0", "left effusion"), sample("p2-a-0", "right effusion")]
    with pytest.raises(UsageError, match=r"--control phrase-swap needs another category .* for sample p1-a-0"):
        plan(one_category, "phrase-swap")
    one_patient = [sample("p1-a-0", "left effusion"), sample("p1-b-0", "left effusion")]
    with pytest.raises(UsageError, match=r"--control image-swap needs another patient .* for sample p1-a-0"):
        plan(one_patient, "image-swap")
    one_image = [sample("p1-a-0", "left effusion"), sample("p1-a-1", "left pneumonia")]
    with pytest.raises(UsageError, match="phrase-swap"):
        plan(one_image, "phrase-swap")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_sample_without_a_region_is_nobodys_partner(control: str) -> None:
    damaged = [dataclasses.replace(one, boxes=()) if one.sample_id in ("p2-a-0", "p3-a-0") else one for one in SAMPLES]
    trials = planned(control, damaged)
    assert len(trials) == len(SAMPLES)
    for name, trial in trials.items():
        assert all(other.boxes for other in trial.others)
        assert trial.scored_on.boxes or trial.scored_on.sample_id == name
        swapped = next(s for s in SAMPLES if s.phrase == trial.phrase) if control == "phrase-swap" else None
        assert swapped is None or swapped.phrase in {s.phrase for s in damaged if s.boxes}


def test_a_swapped_side_changes_the_phrase_alone() -> None:
    trials = planned("side-swap")
    assert {name: trial.phrase for name, trial in trials.items()} == {
        "p1-a-0": "small right effusion",
        "p1-a-1": "right upper pneumonia",
        "p1-b-0": "small right effusion",
        "p2-a-0": "small right effusion",
        "p2-a-1": "left effusion",
        "p3-a-0": "right lower pneumonia",
        "p3-a-1": "large right effusion",
        "p4-a-0": "left upper pneumonia",
    }
    assert all(trial.scored_on is trial.sample for trial in trials.values())
    assert all(trial.category == trial.sample.category for trial in trials.values())


def test_samples_without_a_mirror_image_are_no_trials_of_a_swapped_side() -> None:
    samples = [sample("p1-a-0", "effusion"), sample("p1-a-1", "left pneumonia"), sample("p2-a-0", "bilateral edema")]
    (trial,) = plan(samples, "side-swap")
    assert (trial.sample, trial.others) == (samples[1], (samples[0],))
    with pytest.raises(UsageError, match="side-swap needs phrases that name one side"):
        plan([samples[0], samples[2]], "side-swap")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_limit_takes_the_first_samples_and_leaves_them_their_partners(control: str) -> None:
    assert plan(SAMPLES, control, 3) == plan(SAMPLES, control)[:3]
    mixed = [sample("p0-a-0", "effusion"), *SAMPLES]
    limited = {trial.sample.sample_id for trial in plan(mixed, control, 3)}
    assert limited <= {one.sample_id for one in mixed[:3]}
