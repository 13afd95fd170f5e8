"""Left and right are swapped in a phrase, where that is meaningful."""

from __future__ import annotations

import dataclasses

import pytest

from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.scoring.laterality import mirrored

MIRRORED = {
    "small left pleural effusion": "small right pleural effusion",
    "Left-sided pneumothorax.": "Right-sided pneumothorax.",
    "RIGHT LOWER LOBE PNEUMONIA": "LEFT LOWER LOBE PNEUMONIA",
    "opacity at the right lung base, right mid lung": "opacity at the left lung base, left mid lung",
    "right middle zone opacity": "left middle zone opacity",
    "leftward tracking of the effusion": "rightward tracking of the effusion",
    "LLL consolidation": "RLL consolidation",
    "RUL and RLL opacities": "LUL and LLL opacities",
    "R lung base opacity": "L lung base opacity",
    "Rt. lower lobe opacity": "Lt. lower lobe opacity",
    "lt pleural effusion": "rt pleural effusion",
}
WITHOUT = [
    "pneumothorax",
    "bilateral pleural effusions, left greater than right",
    "bibasilar atelectasis, left base",
    "effusion on the left, opacity on the right",
    "right middle lobe pneumonia",
    "RML opacity",
    "lingular opacity on the left",
    "opacity at the right heart border",
    "left retrocardiac opacity",
    "left ventricular enlargement",
    "fluid in the right minor fissure",
    "left opacity at L1",
    "right effusion, view L",
    "contralateral to the left effusion",
    "brightness of the cleft",
]


@pytest.mark.parametrize("phrase", MIRRORED)
def test_a_phrase_and_its_mirror_image(phrase: str) -> None:
    assert mirrored(phrase) == MIRRORED[phrase]
    assert mirrored(MIRRORED[phrase]) == phrase


@pytest.mark.parametrize("phrase", WITHOUT)
def test_a_phrase_without_a_mirror_image(phrase: str) -> None:
    assert mirrored(phrase) is None


@pytest.mark.parametrize("category", ["Cardiomegaly", "Enlarged Cardiomediastinum", "Aortic enlargement"])
def test_the_midline_has_no_other_side(category: str) -> None:
    assert mirrored("enlarged to the left", category) is None


def test_a_mirrored_phrase_of_the_phantom_differs_only_in_its_side() -> None:
    sides = {"left": "right", "right": "left"}
    for sample in open_dataset("phantom", None, {}).samples("test"):
        said, mirror = read_phrase(sample.phrase), mirrored(sample.phrase, sample.category)
        assert (mirror is not None) == (said.side in sides)
        if mirror is not None and said.side is not None:
            assert read_phrase(mirror) == dataclasses.replace(said, side=sides[said.side])
            assert mirrored(mirror, sample.category) == sample.phrase
