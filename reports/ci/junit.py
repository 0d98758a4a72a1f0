"""A judgement as a JUnit report (xunit2): what every CI system shows as tests.

One test case per row. Regressed is a failure with the ratio and its interval; inconclusive is skipped with its reason,
so that it is not counted as passed; not measured is an error; a structural change is a failure. The schema has no
properties of a single case, so a case's numbers are in its `system-out`, and what all share is a property of the suite.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from visionbench.comparison.verdict import Judgement, Verdict
from visionbench.record.units import plural
from visionbench.reports.results import verdict_text as words

TIME, STRUCTURE = "visionbench.time", "visionbench.structure"

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold, not even escaped."""


def document(judgement: Judgement) -> str:
    """The document, from its declaration to a newline."""
    cases = [_timed(verdict) for verdict in words.ranked(judgement)] + _structures(judgement)
    if not cases:
        cases = [_case(TIME, "nothing was compared")]
        _outcome(cases[0], "error", "nothing", "No row was timed and no structure was counted.")
    outcomes = [child.tag for case in cases for child in case]
    counted = {"tests": str(len(cases))}
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counted[kind] = str(outcomes.count(tag))
    took = f"{judgement.seconds or 0:.3f}"
    whole = {name: number for name, number in counted.items() if name != "skipped"}  # the root has no such attribute
    root = ET.Element("testsuites", {"name": "visionbench", **whole, "time": took})
    suite = ET.SubElement(root, "testsuite", {"name": legal(judgement.title), **counted, "time": took})
    started = [start for verdict in judgement.verdicts if (start := verdict.comparison.environment.started)]
    if started:
        suite.set("timestamp", legal(min(started).removesuffix("Z")))
    _properties(suite, judgement)
    suite.extend(cases)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def legal(text: str) -> str:
    """One line, without what XML forbids."""
    return _FORBIDDEN.sub("", words.clean(text))


def _properties(suite: ET.Element, judgement: Judgement) -> None:
    found = {
        "verdict": words.headline(judgement),
        "command": judgement.command,
        "all rows together": words.change(judgement.suite) if judgement.suite else "",
        "time of a case": "seconds of one iteration of the candidate, in this job only",
        **{f"rule {place}": text for place, text in enumerate(words.rule(judgement.rule), 1)},
        **{f"remark {place}": text for place, text in enumerate(judgement.remarks, 1)},
    }
    place = ET.SubElement(suite, "properties")
    for name, value in found.items():
        if value:
            ET.SubElement(place, "property", {"name": name, "value": legal(value)})


def _case(kind: str, name: str, seconds: float = 0.0) -> ET.Element:
    return ET.Element("testcase", {"classname": kind, "name": legal(name), "time": f"{seconds:.6f}"})


def _outcome(case: ET.Element, tag: str, kind: str, message: str, body: str = "") -> None:
    outcome = ET.SubElement(case, tag, {"type": kind, "message": legal(message)})
    outcome.text = legal(body) or None


def _timed(verdict: Verdict) -> ET.Element:
    took, failure = words.seconds(verdict, "candidate"), verdict.comparison.failure
    case = _case(TIME, verdict.comparison.name, took.centre if took else 0.0)
    told = "; ".join(words.why(verdict)) or "no reason given"
    if verdict.word == "regressed":
        ratio = words.change(verdict.ratio) if verdict.ratio else "slower"
        _outcome(case, "failure", "regressed", ratio, words.detail(verdict))
    elif verdict.word == "inconclusive":
        _outcome(case, "skipped", "inconclusive", told)
    elif verdict.word == "not measured":
        _outcome(case, "error", failure.kind if failure else "not measured", told)
    out = ET.SubElement(case, "system-out")
    out.text = legal("; ".join(part for part in (verdict.word, words.detail(verdict), *words.doubts(verdict)) if part))
    return case


def _structures(judgement: Judgement) -> list[ET.Element]:
    """One failed case per row that changed; what did not change is one case that passed."""
    cases = []
    rows = words.changed_rows(judgement)
    for row, its in rows.items():
        cases.append(_case(STRUCTURE, row))
        where = "; ".join(dict.fromkeys(place for change in its for place in change.where))
        _outcome(cases[-1], "failure", "structure", "; ".join(map(words.difference, its)), where)
    if (same := judgement.structures - len(rows)) > 0:
        cases.append(_case(STRUCTURE, f"structure of {plural(same, 'other row' if rows else 'row')}"))
    return cases
