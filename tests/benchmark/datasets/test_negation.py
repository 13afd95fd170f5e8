"""Phrases that negate a finding, and what `data check` says about them."""

from __future__ import annotations

import pytest

from gtg_bench.benchmark.datasets.negation import negated

NEGATED = [
    ("no pneumothorax", "Pneumothorax", "negates pneumothorax"),
    ("No evidence of pleural effusion or pneumothorax.", "", "negates pleural effusion, pneumothorax"),
    ("opacity without effusion", "Pleural Effusion", "negates pleural effusion"),
    ("Heart size is normal", "Cardiomegaly", "negates cardiomegaly"),
    ("normal heart", "Cardiomegaly", "negates cardiomegaly"),
    ("effusion has resolved", "Pleural Effusion", "negates pleural effusion"),
    ("Pleural effusion is no longer seen", "Pleural Effusion", "negates pleural effusion"),
    ("No longer visible pneumothorax", "Pneumothorax", "negates pneumothorax"),
    ("heart is not enlarged", "Cardiomegaly", "negates cardiomegaly"),
    ("there is no mass", "Mass", "negates mass"),
    ("no new opacity", "Lung Opacity", "negates lung opacity"),
    ("The lungs are clear", "Pneumonia", "says that nothing was found"),
    ("No acute cardiopulmonary process.", "", "says that nothing was found"),
]
NOT_NEGATED = [
    ("small left pleural effusion", "Pleural Effusion"),
    ("opacity without effusion", "Lung Opacity"),
    ("small left effusion, no pneumothorax", "Pleural Effusion"),
    ("no pneumothorax but a small effusion", "Pleural Effusion"),
    ("No significant change in left pleural effusion", "Pleural Effusion"),
    ("Stable small effusion without interval change", "Pleural Effusion"),
    ("pneumonia cannot be excluded", "Pneumonia"),
    ("pneumothorax, not under tension", "Pneumothorax"),
    ("Normal heart size with small left effusion", "Pleural Effusion"),
    ("massive effusion without mass effect", "Pleural Effusion"),
    ("massive effusion", "Mass"),
    ("nodular opacity", "Lung Opacity"),
    ("", "Edema"),
]


@pytest.mark.parametrize(("phrase", "category", "reason"), [*NEGATED, *((*pair, "") for pair in NOT_NEGATED)])
def test_negated_phrases(phrase: str, category: str, reason: str) -> None:
    assert negated(phrase, category) == reason
