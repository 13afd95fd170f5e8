"""What each control changes and keeps; partners against a search over all pairs."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import PhraseSample, seed_for
from gtg_bench.benchmark.scoring import controls
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
def test_plans_depend_on_the_samples_alone(control: str) -> None:
    assert [trial.sample for trial in plan(SAMPLES, control)] == SAMPLES
    assert plan([], control) == []
    assert plan(SAMPLES, control) == plan(list(SAMPLES), control)
    ours, turned = planned(control), planned(control, SAMPLES[::-1])
    assert [(t.phrase, t.scored_on) for t in ours.values()] == [(turned[n].phrase, turned[n].scored_on) for n in ours]
    assert plan(SAMPLES, control, 3) == plan(SAMPLES, control)[:3], "a limit keeps the partners"


@pytest.mark.parametrize("control", ["none", "neutral-phrase", "phrase-swap"])
def test_others_are_the_further_samples_of_the_image(control: str) -> None:
    trials = planned(control)
    pairs = {"p1-a-0": "p1-a-1", "p2-a-0": "p2-a-1", "p3-a-0": "p3-a-1"}
    pairs |= {other: one for one, other in pairs.items()}
    assert {name: [other.sample_id for other in trial.others] for name, trial in trials.items()} == {
        one.sample_id: [pairs[one.sample_id]] if one.sample_id in pairs else [] for one in SAMPLES
    }
    assert all(trial.scored_on is trial.sample for trial in trials.values())
    swapped = planned("image-swap")["p1-a-0"]  # p1-b-0 has the same phrase, but is the same patient
    assert (swapped.scored_on.sample_id, [other.sample_id for other in swapped.others]) == ("p2-a-0", ["p2-a-1"])


def test_the_phrase_of_each_control() -> None:
    assert all(trial.phrase == trial.sample.phrase for trial in (*plan(SAMPLES, "none"), *plan(SAMPLES, "image-swap")))
    assert {(trial.phrase, trial.category) for trial in plan(SAMPLES, "neutral-phrase")} == {(NEUTRAL_PHRASE, "")}
    for trial in plan(SAMPLES, "phrase-swap"):
        donors = [s for s in SAMPLES if s.phrase == trial.phrase and s.image_id != trial.sample.image_id]
        assert donors
        assert all(donor.category == trial.category != trial.sample.category for donor in donors)
    samples = [sample("p1-a-0", "effusion"), sample("p1-a-1", "pneumonia"), sample("p2-a-0", "edema")]
    assert [trial.phrase for trial in plan(samples, "phrase-swap")[:2]] == ["edema", "edema"]


# Partners


def phrase_swap_of_all_pairs(one: PhraseSample, samples: list[PhraseSample]) -> list[PhraseSample]:
    return [s for s in samples if s.category != one.category and s.image_id != one.image_id]


def image_swap_of_all_pairs(one: PhraseSample, samples: list[PhraseSample]) -> list[PhraseSample]:
    others = [s for s in samples if s.patient_id != one.patient_id]

    def likeness(other: PhraseSample) -> tuple[bool, ...]:
        wording = other.phrase.lower().rstrip(". ") == one.phrase.lower().rstrip(". ")
        traits = zip(read_phrase(one.phrase).key[1:], read_phrase(other.phrase).key[1:], strict=True)
        return (other.category == one.category, wording, *(ours == theirs for ours, theirs in traits))

    best = max(map(likeness, others))
    return [other for other in others if likeness(other) == best]


def crowd(size: int, seed: int, words: tuple[str, ...]) -> list[PhraseSample]:
    """Samples of random phrases; about three per patient and two per image, some without a region."""
    random = np.random.default_rng(seed)
    names = [f"p{random.integers(size // 3)}-{random.integers(2)}-{k}" for k in range(size)]
    made = [sample(name, " ".join(random.choice(word.split("|")) for word in words)) for name in names]
    made = [dataclasses.replace(one, phrase=" ".join(one.phrase.split()).capitalize() + ".") for one in made]
    return [dataclasses.replace(one, boxes=()) if random.random() < 0.1 else one for one in made]


RICH = ("small|large|tiny|", "left|right|bilateral|", "upper|lower|mid|", "effusion|pneumonia|edema")


@pytest.mark.parametrize("words", [RICH, ("edema|pneumonia",)])
def test_partners_are_those_of_a_search_over_all_pairs(words: tuple[str, ...]) -> None:
    for seed in range(4):
        samples = crowd(150, seed, words)
        usable = [one for one in samples if one.boxes]
        for control, candidates in (
            ("phrase-swap", phrase_swap_of_all_pairs),
            ("image-swap", image_swap_of_all_pairs),
        ):
            for one, trial in zip(samples, plan(samples, control), strict=True):
                found = candidates(one, usable)
                expected = min(found, key=lambda other: seed_for("control", one.sample_id, other.sample_id))
                if control == "image-swap":
                    assert trial.scored_on is expected
                else:
                    assert (trial.phrase, trial.category) == (expected.phrase, expected.category)


@pytest.mark.parametrize("control", ["phrase-swap", "image-swap"])
def test_large_splits_hash_only_some_candidates_but_valid_and_varied_ones(
    control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = crowd(150, 5, RICH if control == "phrase-swap" else ("edema|pneumonia",))
    whole = plan(samples, control)
    monkeypatch.setattr(controls, "PAIRS", 4 * len(samples))
    few = plan(samples, control)
    assert few != whole
    turned = planned(control, samples[::-1])
    assert all(turned[t.sample.sample_id].phrase == t.phrase for t in few)
    assert all(turned[t.sample.sample_id].scored_on is t.scored_on for t in few)
    if control == "phrase-swap":
        assert all(trial.category != trial.sample.category for trial in few)
    else:
        usable = [one for one in samples if one.boxes]
        assert all(trial.scored_on in image_swap_of_all_pairs(trial.sample, usable) for trial in few)
        assert len({trial.scored_on.sample_id for trial in few}) > 40


@pytest.mark.parametrize(("control", "words"), [("phrase-swap", RICH), ("image-swap", ("edema|pneumonia",))])
def test_a_swap_of_a_large_split_hashes_no_more_pairs_than_allowed(
    control: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, hashed = [one for one in crowd(3_000, 0, words) if one.boxes], list[bytes]()

    def counted(data: bytes) -> Any:
        hashed.append(data)
        return sha256(data)

    monkeypatch.setattr(controls, "PAIRS", 20 * len(samples))
    monkeypatch.setattr(controls, "sha256", counted)
    assert len(plan(samples, control)) == len(samples)
    assert 15 * len(samples) < len(hashed) <= 20 * len(samples)


def test_a_swap_without_a_partner_says_so() -> None:
    one_category = [sample("p1-a-0", "left effusion"), sample("p2-a-0", "right effusion")]
    one_patient = [sample("p1-a-0", "left effusion"), sample("p1-b-0", "left effusion")]
    one_image = [sample("p1-a-0", "left effusion"), sample("p1-a-1", "left pneumonia")]
    swaps = (("phrase-swap", one_category), ("image-swap", one_patient), ("phrase-swap", one_image))
    for control, samples in swaps:
        with pytest.raises(UsageError, match=rf"--control {control}.* sample p1-a-0"):
            plan(samples, control)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_sample_without_a_region_is_never_a_partner(control: str) -> None:
    damaged = [dataclasses.replace(one, boxes=()) if one.sample_id in ("p2-a-0", "p3-a-0") else one for one in SAMPLES]
    trials = planned(control, damaged)
    assert len(trials) == len(SAMPLES)
    for name, trial in trials.items():
        assert all(other.boxes for other in trial.others)
        assert trial.scored_on.boxes or trial.scored_on.sample_id == name
    if control == "phrase-swap":
        assert {trial.phrase for trial in trials.values()} <= {one.phrase for one in damaged if one.boxes}


def test_a_swapped_side_changes_the_phrase_alone() -> None:
    trials = planned("side-swap")
    mirror = {"left": "right", "right": "left"}
    assert {name: trial.phrase for name, trial in trials.items()} == {
        one.sample_id: " ".join(mirror.get(word, word) for word in one.phrase.split()) for one in SAMPLES
    }
    assert all(trial.scored_on is trial.sample for trial in trials.values())
    assert all(trial.category == trial.sample.category for trial in trials.values())
    samples = [sample("p1-a-0", "effusion"), sample("p1-a-1", "left pneumonia"), sample("p2-a-0", "bilateral edema")]
    (trial,) = plan(samples, "side-swap")
    assert (trial.sample, trial.others) == (samples[1], (samples[0],))
    assert plan(samples, "side-swap", 2) == [trial]
    with pytest.raises(UsageError, match="side-swap"):
        plan([samples[0], samples[2]], "side-swap")
