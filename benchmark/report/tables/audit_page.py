"""An audit as a page: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gtg_bench.benchmark.analysis.audit.audit import Page
from gtg_bench.benchmark.analysis.audit.finding import FEWEST, NO, NONE, UNKNOWN, YES, Finding, Question
from gtg_bench.benchmark.report.tables.render import md_escaped

_STYLES = {YES: "green", NO: "red", UNKNOWN: "yellow", NONE: "dim"}
_HEADS = ("", "figure", "95 % CI", "floor", "ceiling", "n", "verdict")
_LEGEND = (
    "Floor: what a method without the ability gets; ceiling: what a perfect one gets. CIs are bootstraps over "
    "patients. Figures without a verdict are for information; those in brackets do not count for their question."
)
_CAUTION = {"phantom": "The phantom is generated: this page says how the method behaves on it, not on patients."}


def show(page: Page, console: Console) -> None:
    """Print an audit: all verdicts first, then each question with its figures, rules and notes."""
    console.print(Text(heading(page), style="bold"))
    console.print(Text(summary(page)))
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    for question in page.questions:
        style = _STYLES[question.verdict]
        table.add_row(f"{question.number}.", Text(question.title), Text(question.verdict, style=style))
    console.print(table)
    for question in page.questions:
        console.print()
        console.print(Text.assemble((f"{question.number}. {question.title} ", "bold"), question.verdict))
        console.print(_table(page, question))
        for line in remarks(question):
            console.print(Padding(Text(line), (0, 0, 0, 2)), highlight=False)
    console.print()
    console.print(Text(" ".join(closing(page))), highlight=False)


def to_markdown(page: Page) -> str:
    """An audit as Markdown, with every figure."""
    lines = [
        f"## {md_escaped(heading(page))}",
        "",
        md_escaped(summary(page)),
        "",
        "| | question | verdict |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {q.number} | {md_escaped(q.title)} | **{q.verdict}** |" for q in page.questions]
    for question in page.questions:
        lines += ["", f"### {question.number}. {md_escaped(question.title)} {question.verdict}", ""]
        lines += [
            f"| {' | '.join([f'{page.metric}, or as named', *_HEADS[1:]])} |",
            "| --- | ---: | --- | ---: | ---: | ---: | --- |",
        ]
        cells = (row(page, finding) for finding in question.findings)
        lines += [f"| {' | '.join(md_escaped(cell) for cell in one)} |" for one in cells]
        notes = list(remarks(question))
        lines += ["", *(f"- {md_escaped(note)}" for note in notes)] if notes else []
    return "\n".join([*lines, "", *map(md_escaped, closing(page)), ""])


def as_sections(page: Page) -> dict[str, Any]:
    """An audit as plain values for a template: summary, heads, and each question with its rows and remarks as text."""
    questions = [
        {
            "number": question.number,
            "title": question.title,
            "verdict": question.verdict,
            "rows": [row(page, finding) for finding in question.findings],
            "remarks": list(remarks(question)),
        }
        for question in page.questions
    ]
    heads = (f"{page.metric}, or as named", *_HEADS[1:])
    facts = {"summary": summary(page), "heads": heads, "closing": " ".join(closing(page))}
    return facts | {"questions": questions}


def heading(page: Page) -> str:
    """What was audited, on what."""
    part = "" if page.limit is None else f", first {page.limit} samples"
    return f"Audit of {page.method} on {page.dataset}, {page.split} split{part}"


def summary(page: Page) -> str:
    """The method's score, with its counts."""
    score = page.score
    interval = f" (95 % CI {_number(score.low)} to {_number(score.high)})" if score.low is not None else ""
    best = "" if page.ceiling is None else f", the drawn lesion itself (oracle-lesion) {_number(page.ceiling)}"
    return (
        f"{page.metric} {_number(score.value)}{interval} over {score.n} of {page.n_total} samples, {score.n_patients} "
        f"patients; a constant map scores {_number(page.constant)}{best}. Protocol {page.protocol}, run {page.key}."
    )


def closing(page: Page) -> list[str]:
    """How to read the page."""
    return [_LEGEND, *(text for name, text in _CAUTION.items() if page.dataset.startswith(f"{name} v"))]


def row(page: Page, finding: Finding) -> tuple[str, ...]:
    """A finding's cells in the order of the headings."""
    name = finding.name if finding.unit == page.metric else f"{finding.name}, {finding.unit}"
    interval = "-" if finding.low is None else f"{_number(finding.low)} to {_number(finding.high)}"
    figures = (_number(finding.figure), interval, _number(finding.floor), _number(finding.ceiling))
    verdict = finding.verdict if finding.rule or (finding.note and finding.figure is None) else ""
    return name, *figures, str(finding.n or "-"), verdict if finding.decides or not verdict else f"({verdict})"


def remarks(question: Question) -> Iterator[str]:
    """The rules of a question's verdicts, and notes on its figures."""
    rules: dict[str, list[str]] = {}
    for finding in question.findings:
        if finding.rule and not finding.detail:
            rules.setdefault(finding.rule, []).append(finding.name)
    for rule, names in rules.items():
        yield f"Rule: {rule}." if len(rules) == 1 else f"Rule for {', '.join(dict.fromkeys(names))}: {rule}."
    if few := [f.name for f in question.findings if f.verdict == UNKNOWN and f.n_patients < FEWEST and not f.detail]:
        yield f"{_listed(few)}: fewer than {FEWEST} patients, so no verdict."
    notes: dict[str, list[str]] = {}
    for finding in question.findings:
        if finding.note and not finding.detail:
            notes.setdefault(finding.note, []).append(finding.name)
    for note, names in notes.items():
        yield f"{_listed(names)}: {note}."


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(dict.fromkeys(names))
    return text[:1].upper() + text[1:] if len(names) > 3 else text


def _table(page: Page, question: Question) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(_HEADS):
        words = number in (0, len(_HEADS) - 1)
        table.add_column(
            head or f"{page.metric}, or as named",
            overflow="fold",
            no_wrap=not words,
            justify="left" if words else "right",
        )
    for finding in question.findings:
        if not finding.detail:
            *cells, verdict = row(page, finding)
            table.add_row(*map(Text, cells), Text(verdict, style=_STYLES.get(finding.verdict, "")))
    return table


def _number(value: float | None) -> str:
    """At most three digits after the point, without a leading 0; a dash if missing."""
    if value is None:
        return "-"
    text = f"{value + 0.0:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3f}" if abs(value) < 1 else f"{value:.2f}"
    text = "0" if not float(text) else text
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
