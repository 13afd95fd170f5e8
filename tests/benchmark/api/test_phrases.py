"""What the plain reader makes of phrases."""

from __future__ import annotations

import pytest

from gtg_bench.benchmark.api.phrases import PhraseFacts, read_phrase

FACTS = {
    "Small left apical pneumothorax.": ("Pneumothorax", "left", "upper", "small"),
    "bilateral pneumothoraces": ("Pneumothorax", "bilateral", None, None),
    "Large right-sided pleural effusion": ("Pleural Effusion", "right", None, "large"),
    "TRACE PLEURAL FLUID": ("Pleural Effusion", None, None, "small"),
    "Effusions on the right and on the left": ("Pleural Effusion", "bilateral", None, None),
    "Blunting of the left costophrenic angle": (None, "left", "lower", None),
    "The heart is mildly enlarged.": ("Cardiomegaly", None, None, "small"),
    "severe enlargement of the cardiac silhouette": ("Cardiomegaly", None, None, "large"),
    "moderate bibasilar atelectasis": ("Atelectasis", "bilateral", "lower", "moderate"),
    "linear atelectatic changes at both lung bases": ("Atelectasis", "bilateral", "lower", None),
    "Pulmonary oedema, moderately severe": ("Edema", None, None, "moderate"),
    "interstitial edema": ("Edema", None, None, None),
    "right middle lobe pneumonia": ("Pneumonia", "right", "mid", None),
    "lingular consolidation": ("Consolidation", None, "mid", None),
    "extensive consolidative change": ("Consolidation", None, None, "large"),
    "patchy opacities, concerning for pneumonia": ("Pneumonia", None, None, None),
    "ill-defined opacification at the right base": ("Lung Opacity", "right", "lower", None),
    "hazy infiltrates in the left upper zone": ("Lung Opacity", "left", "upper", None),
    "LEFT-SIDED (SMALL) EFFUSION!": ("Pleural Effusion", "left", None, "small"),
    # of several findings the first of the reader's table counts
    "atelectasis beside a pleural effusion": ("Pleural Effusion", None, None, None),
    "consolidation or opacity": ("Consolidation", None, None, None),
    "opacity, which may be edema or pneumonia": ("Edema", None, None, None),
    "frontal chest radiograph": (None, None, None, None),
    "": (None, None, None, None),
}
"""Phrase -> category, side, zone, size."""


@pytest.mark.parametrize("phrase", FACTS)
def test_facts(phrase: str) -> None:
    assert read_phrase(phrase).key == FACTS[phrase]
    assert read_phrase(phrase) == PhraseFacts(*FACTS[phrase])


@pytest.mark.parametrize(
    "phrase",
    ["enlarged", "copyright", "baseline", "retrocardiac", "leftover", "uppermost", "smaller", "based", "edematous"],
)
def test_only_whole_words_count(phrase: str) -> None:
    assert read_phrase(phrase).key == (None, None, None, None)
