"""A judgement for the programs around a job: a page, annotations, a test report, and other people's trackers.

    text = visionbench.reports.ci.form("junit", judgement)

Each is a pure function of the judgement; the command line writes the files. What a gate decides is a ratio within one
job. The trackers' files carry absolute times as well, and say that these are of this job only.
"""

from __future__ import annotations

from collections.abc import Callable

from visionbench.comparison.verdict import Judgement
from visionbench.record.errors import choose
from visionbench.reports.ci.annotations import commands
from visionbench.reports.ci.junit import document
from visionbench.reports.ci.summary import page
from visionbench.reports.ci.trackers import entries, metrics

FORMS: dict[str, Callable[[Judgement], str]] = {
    "summary": page,
    "annotations": commands,
    "junit": document,
    "gab": entries,
    "bmf": metrics,
}
"""What a gate can be written as, by name."""


def form(kind: str, judgement: Judgement) -> str:
    """The judgement in the form of that name. Raises `BenchError` for a name that is not in `FORMS`."""
    return FORMS[choose("form of a gate's result", kind, FORMS)](judgement)


__all__ = ["FORMS", "form"]
