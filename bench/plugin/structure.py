"""The first tier of the gate for one model of a test suite: its structure against the baseline of the suite."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from visionbench.comparison import structure
from visionbench.comparison.structure import OtherVersionsError, Structures
from visionbench.comparison.verdict import Change
from visionbench.plugin.words import Asked, Found, Wanted
from visionbench.record.errors import BenchError

UPDATE = "pytest --visionbench-update"
"""The command that accepts a change of structure."""


def counted(wanted: Wanted) -> Structures:
    """The model's rows as they are now: inference and, unless it is not wanted, a training step.

    A suite may make warnings errors, and a process of many threads is warned of forking (Python 3.12): what is forked
    counts, on no device.
    """
    from visionbench.tracing.structure import structures

    specs = structure.structure_specs([wanted.spec])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return structures(spec for spec in specs if wanted.training or spec.task == "inference")


def structural(now: Structures, asked: Asked) -> Found:
    """The model's rows against those of the baseline; or into the baseline, if it is to be updated."""
    properties = tuple(_counts(now))
    try:
        if asked.update:
            structure.write(asked.baseline, _merged(asked.baseline, now))
            return Found(properties=(("structure", "written"), *properties))
        changes = changes_of(structure.read(asked.baseline), now)
    except OtherVersionsError as error:
        return Found(word="error", text=_ours(error), properties=(("structure", "not comparable"), *properties))
    except BenchError as error:
        return Found(word="failed", text=_ours(error), properties=properties)
    word = "changed" if changes else "unchanged"
    text = _told_changes(changes, asked.baseline) if changes else ""
    return Found(word="failed" if changes else "passed", text=text, properties=(("structure", word), *properties))


def _counts(now: Structures) -> Iterator[tuple[str, str]]:
    """A few exact numbers of the inference, for whoever collects test reports."""
    for row in list(now.rows.values())[:1]:
        yield "row", row.row
        for name in ("params", "macs", "operators"):
            yield name, str(row.totals[name])


def _ours(error: BenchError) -> str:
    """A remedy of the command line's, in the words of the suite."""
    return str(error).replace(structure.UPDATE, UPDATE)


def _merged(path: Path, now: Structures) -> Structures:
    """The file's rows and these; these alone where the file is of other releases, or none."""
    try:
        before = structure.read(path)
    except BenchError:
        return now
    same = (before.torch, before.timm) == (now.torch, now.timm)
    return replace(now, rows=before.rows | now.rows) if same else now


def changes_of(before: Structures, now: Structures) -> tuple[Change, ...]:
    """The differences in this model's rows; the file's others are other tests' business."""
    from visionbench.judging.structure import compare

    its = now.rows.keys() | now.failures.keys()
    return compare(replace(before, rows={row: one for row, one in before.rows.items() if row in its}), now)


def _told_changes(changes: Iterable[Change], path: Path) -> str:
    new = all(change.before == "missing" for change in changes)
    first = f"{path.name} has no such row" if new else f"the structure is not that of {path.name}"
    remedy = f"If that is meant, accept it with `{UPDATE}` and commit the diff."
    return "\n".join([f"{first}:", *lines(changes), remedy])


def lines(changes: Iterable[Change]) -> Iterator[str]:
    """What changed, row by row, and the layers behind it."""
    from visionbench.reports.results.verdict_text import difference

    row = ""
    for change in changes:
        if change.row != row:
            row = change.row
            yield f"  {row}"
        yield f"    {difference(change)}"
        yield from (f"      {place}" for place in change.where)
