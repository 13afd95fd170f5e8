"""Phrases that negate a finding, and what `data check` says about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app
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


def test_the_check_lists_each_phrase_once_with_its_first_row(tmp_path: Path) -> None:
    header = "dicom_id,path,category_name,label_text,image_width,image_height,x,y,w,h,split"
    phrases = ["small effusion", "no effusion", "no effusion", "No effusion."]
    rows = [
        f"a{k},files/p10/p1/s1/a{k}.png,Pleural Effusion,{text},20,30,1,2,10,8,test" for k, text in enumerate(phrases)
    ]
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "files/p10/p1/s1").mkdir(parents=True)
    for k in range(4):
        Image.new("L", (20, 30)).save(tmp_path / f"files/p10/p1/s1/a{k}.png")
    words = ["data", "check", "ms-cxr", "--data-root", str(tmp_path), "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    warnings = [(problem["row"], problem["level"], problem["kind"]) for problem in found["problems"]]
    assert warnings == [(3, "warning", "phrase"), (5, "warning", "phrase")]
    assert "'no effusion' negates pleural effusion (2 rows)" in found["problems"][0]["what"]
    assert found["ok"]
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 1
