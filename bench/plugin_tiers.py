"""Both tiers of the gate for one model of a test suite: what the pytest plugin asks and tells, without pytest.

The structure is counted in this process, the timing (`plugin_timing`) is done in others. Both start from the suite's
root directory, from where a user's factory is imported, and leave directory and import path as they were.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.record import structure
from bench.record.errors import BenchError
from bench.record.record import make
from bench.record.spec import Spec
from bench.record.structure import OtherVersionsError, Structures
from bench.record.verdict import Change
from models import ModelError

UPDATE = "pytest --visionbench-update"
"""The command that accepts a change of structure."""

Word = Literal["passed", "failed", "skipped", "error"]

WORST: tuple[Word, ...] = ("failed", "error", "skipped", "passed")
"""Of two tiers, the outcome that is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted: `folder` is the suite's root, `models` how many tests of this run check a model.

    `base` is a git revision, None for no timing; `budget` in seconds, for one model.
    """

    folder: Path
    baseline: Path
    update: bool = False
    base: str | None = None
    budget: float | None = None
    strict: bool = False
    models: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a model: the outcome in pytest's words, the message, and properties for a test report."""

    word: Word = "passed"
    text: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model and how it is run; `batch_size` None is one image, and on a GPU as many as the gate takes."""

    spec: Spec
    batch_size: int | None
    training: bool
    device: str | None
    threads: int | None


def look(model: str, settings: Mapping[str, Any], asked: Asked) -> Found:
    """Both tiers, as far as they are asked for."""
    with _in(asked.folder):
        try:
            wanted = _wanted(model, settings)
            counted = _counted(wanted)
            found = [_structural(counted, asked)]
            if asked.base is not None:
                from bench.plugin_timing import timed

                found.append(timed(wanted, counted, asked))
        except (BenchError, ModelError) as error:
            return Found(word="failed", text=f"{model}: {error}")
    return _together(found)


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Work in `folder`; what is imported from there stays imported, the import path does not stay changed."""
    path = list(sys.path)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path


def _wanted(model: str, settings: Mapping[str, Any]) -> Wanted:
    """The spec of a model's name and the marker's settings. Raises `BenchError` for a setting that is none."""
    import models

    card, left = models.resolve(model), dict(settings)
    models.load(card.name)  # here, where what the import warns of is the suite's to see
    training, device, threads = left.pop("training", True), left.pop("device", None), left.pop("threads", None)
    try:
        spec = make(Spec, {"image_size": card.image_size} | left | {"model": card.name})
    except ValueError as error:
        told = str(error).replace("a record's spec is wrong: ", "").replace("in a record", "of the marker visionbench")
        raise BenchError(f"{told.rstrip('.')}: mend the marker.") from error
    return Wanted(spec=spec, batch_size=left.get("batch_size"), training=training, device=device, threads=threads)


def _together(found: Iterable[Found]) -> Found:
    """The worst outcome, and all that was said."""
    found = sorted(found, key=lambda one: WORST.index(one.word))
    return Found(
        word=found[0].word,
        text="\n\n".join(one.text for one in found if one.text),
        properties=tuple(pair for one in found for pair in one.properties),
    )


# --- structure ----------------------------------------------------------------------------------------------------


def _counted(wanted: Wanted) -> Structures:
    """The model's rows as they are now: inference and, unless it is not wanted, a training step.

    A suite may make warnings errors, and a process of many threads is warned of forking (Python 3.12): what is forked
    counts, on no device.
    """
    from bench.trace.structure import structures

    specs = structure.structure_specs([wanted.spec])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return structures(spec for spec in specs if wanted.training or spec.task == "inference")


def _structural(now: Structures, asked: Asked) -> Found:
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
    from bench.judge.structure import compare

    its = now.rows.keys() | now.failures.keys()
    return compare(replace(before, rows={row: one for row, one in before.rows.items() if row in its}), now)


def _told_changes(changes: Iterable[Change], path: Path) -> str:
    new = all(change.before == "missing" for change in changes)
    first = f"{path.name} has no such row" if new else f"the structure is not that of {path.name}"
    remedy = f"If that is meant, accept it with `{UPDATE}` and commit the diff."
    return "\n".join([f"{first}:", *lines(changes), remedy])


def lines(changes: Iterable[Change]) -> Iterator[str]:
    """What changed, row by row, and the layers behind it."""
    from reports.verdict_words import difference

    row = ""
    for change in changes:
        if change.row != row:
            row = change.row
            yield f"  {row}"
        yield f"    {difference(change)}"
        yield from (f"      {place}" for place in change.where)
