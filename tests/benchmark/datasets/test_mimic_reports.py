"""Reports as radiologists write them: which part is used, by hand; where reports are found; damaged ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.datasets.mimic_reports import Excerpt, Reports, cut
from gtg_bench.benchmark.datasets.problems import Fault

USUAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // pneumonia?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 Lungs are clear.  The heart is
 normal.

 IMPRESSION:

 No acute cardiopulmonary process.
"""
WET = """ WET READ: ___ ___ ___ 8:18 PM
  IMPRESSION: Right pneumothorax.
 ______________________________________________________________________________
                                 FINAL REPORT
 INDICATION: Line.  COMPARISON:  ___.  IMPRESSION: No pneumothorax.

 NOTIFICATION:  Dr. ___ was told at 9:00.
"""
RENAMED = """ AP CHEST, 5:31 A.M. ON ___

 HISTORY:  Fall.

 IMPRESSION:  AP chest compared to ___ through ___:

 Severe cardiomegaly is chronic.  LEFT: small left-
 sided effusion.
"""
PLAIN = """ PORTABLE CHEST, 6:32 A.M., ___:

 INDICATION: Cough.  COMPARISON:  None.

 The first paragraph.

 PORTABLE CHEST X-RAY:  Heart size
 is normal.
"""
PARTS = """FINDINGS:
LUNGS: clear.
HEART: large.

PLEURA: no effusion.
"""
RESULT, CLEAR = "No acute cardiopulmonary process.", "Lungs are clear. The heart is normal."


def changed(old: str, new: str) -> str:
    """The usual report with a part replaced."""
    assert old in USUAL
    return USUAL.replace(old, new)


@pytest.mark.parametrize(
    ("report", "text", "section"),
    [
        (USUAL, RESULT, "impression"),
        (changed(RESULT, ""), CLEAR, "findings"),
        (changed(RESULT, "___."), CLEAR, "findings"),
        (changed("\n", "\r\n"), RESULT, "impression"),
        (changed("IMPRESSION:\n", "IMPRESSION\n"), RESULT, "impression"),
        (changed("IMPRESSION:", "IMPRESSION -"), RESULT, "impression"),
        (changed("IMPRESSION:", "Impression:"), RESULT, "impression"),
        (changed("IMPRESSION:", "impression :"), RESULT, "impression"),
        (changed("IMPRESSION:", "IMPRESSON:"), RESULT, "impression"),
        (changed("IMPRESSION:", "CONCLUSION:"), RESULT, "impression"),
        (changed("IMPRESSION:", "FINDINGS AND IMPRESSION:"), RESULT, "impression"),
        (changed("IMPRESSION:", "CHEST IMPRESSION (PA):"), RESULT, "impression"),
        (changed("FINDINGS:", "Observations:").replace(RESULT, ""), CLEAR, "findings"),
        (WET, "No pneumothorax.", "impression"),
        (WET.replace("No pneumothorax.", ""), "Right pneumothorax.", "impression"),
        (
            RENAMED,
            "AP chest compared to ___ through ___: Severe cardiomegaly is chronic. LEFT: small left-sided effusion.",
            "impression",
        ),
        (PLAIN, "Heart size is normal.", "last-paragraph"),
        (PARTS, "LUNGS: clear. HEART: large. PLEURA: no effusion.", "findings"),
        (f"{PARTS}\nRECOMMENDATION(S):  CT.\n", "LUNGS: clear. HEART: large. PLEURA: no effusion.", "findings"),
        ("FINDNGS: Edema.\n", "Edema.", "findings"),
        ("IMPRESSION:\n1. Edema.\n\n2. No\neffusion.", "1. Edema. 2. No effusion.", "impression"),
        ("IMPRESSION: Edema.\n\nADDENDUM: No effusion.\nIMPRESSION:\n", "Edema.", "impression"),
        ("IMPRESSION: Edema.\nADDENDUM\nIMPRESSION: No edema after all.", "No edema after all.", "impression"),
        ("The lungs are clear.", "The lungs are clear.", "last-paragraph"),
        ("FINAL REPORT\nThe lungs are clear.", "The lungs are clear.", "last-paragraph"),
        ("COMPARISON: ___.\n\nThe lungs are clear.", "The lungs are clear.", "last-paragraph"),
        ("Clear lungs. The following\nfindings: none", "Clear lungs. The following findings: none", "last-paragraph"),
        ("\ufeffIMPRESSION: Edema.", "Edema.", "impression"),
        ("HISTORY:\n\n Cough\n", "", ""),
        ("INDICATION: Cough.\n\nTECHNIQUE: PA.\n", "", ""),
        ("IMPRESSION: ___\n\n___ ___", "", ""),
        ("", "", ""),
    ],
)
def test_the_part_that_is_used(report: str, text: str, section: str) -> None:
    assert cut(report) == Excerpt(text, section)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ["COMPRESSION: of a vertebra.", "Prior sternotomy wires: intact.", "NOTE: rotated."])
@pytest.mark.parametrize("heading", ["COMPARISION: none.", "Technique: PA.", "REASON FOR EXAM: fall.", "WET READ: no."])
def test_only_headings_end_a_section(line: str, heading: str) -> None:
    assert cut(f"IMPRESSION: Edema.\n{line}\n{heading}").text == f"Edema. {line}"


def test_reports_in_folders_and_in_the_zip_file(tmp_path: Path) -> None:
    name = "p10/p10000032/s50414267.txt"
    for place in ("a/files", "b", "c/mimic-cxr-reports/files"):
        (tmp_path / place / name).parent.mkdir(parents=True)
        (tmp_path / place / name).write_text(USUAL)
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
        archive.writestr(f"files/{name}", USUAL)
    for chosen in ("a", "a/files", str(tmp_path / "b"), "c", "mimic-cxr-reports.zip", None):
        assert Reports.open(tmp_path, chosen).excerpt(name).section == "impression"
    reports = Reports.open(tmp_path, "mimic-cxr-reports.zip")
    with pytest.raises(Fault, match=r"mimic-cxr-reports\.zip/files/p10/p1/s1\.txt: file not found") as caught:
        reports.read("p10/p1/s1.txt")
    assert caught.value.problem.kind == "missing"


def test_no_reports(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no reports .*--dataset-option reports="):
        Reports.open(tmp_path, None)
    with pytest.raises(UsageError, match="reports=nowhere"):
        Reports.open(tmp_path, "nowhere")
    (tmp_path / "r.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"r\.zip: cannot be opened"):
        Reports.open(tmp_path, "r.zip")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"IMPRESSION: \xe9d\xe8me", r"is not UTF-8 text \(byte 12\)"),
        (USUAL.encode("utf-16"), "is not UTF-8 text"),
        (b"<!DOCTYPE html><p>log in", "is a web page"),
        (b"IMPRESSION\0", "is a web page"),
        (bytes(2**20 + 1), "cannot be read .*more than 1,048,576 bytes"),
        (None, "cannot be read"),
    ],
)
def test_a_damaged_report_is_named(content: bytes | None, what: str, tmp_path: Path) -> None:
    path = tmp_path / "files" / "p10" / "p10000032" / "s1.txt"
    (path.parent if content else path).mkdir(parents=True)
    if content:
        path.write_bytes(content)
    with pytest.raises(Fault, match=rf"s1\.txt: {what}") as caught:
        Reports.open(tmp_path, None).read("p10/p10000032/s1.txt")
    assert caught.value.problem.kind == "unreadable"
