"""The two sides of a gate, from a user's words: two revisions of a repository, or two settings of one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from visionbench.command import progress
from visionbench.comparison.comparison import Side
from visionbench.judging import virtualenvs, worktrees
from visionbench.judging.duet import Row
from visionbench.judging.worktrees import Revision
from visionbench.measuring.process.side import Source
from visionbench.measuring.process.side_process import is_ours
from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import Spec

VARIED = {
    "precision": "precision",
    "memory_format": "memory_format",
    "compile": "compile_mode",
    "attention": "attention",
}
"""What `--vary` can change, and the spec's field of it."""

EAGER = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What is compared: the rows, where each side's code comes from, and what must be said about it."""

    title: str
    rows: tuple[Row, ...]
    sources: tuple[Source, Source]
    remarks: tuple[str, ...] = ()


def two_settings(
    specs: Sequence[Spec], vary: Sequence[tuple[str, str]], *, base: str | None = None, head: str | None = None
) -> Sides:
    """`--vary`: one source, two specs per row. Raises `BenchError` for what cannot be varied."""
    if base is not None or head is not None:
        raise BenchError("--vary compares two settings of one revision: leave --base and --head away.")
    label = ", ".join(f"{field}={value}" for field, value in vary)
    rows = []
    for spec in specs:
        changed = varied(spec, vary)
        if changed == spec:
            raise BenchError(f"--vary {label} changes nothing of {spec}: vary something else.")
        sides = (Side(label="as it is", spec=spec), Side(label=label, spec=changed))
        rows.append(Row(name=str(spec), baseline=sides[0], candidate=sides[1]))
    return Sides(title=f"{label} against the default", rows=tuple(rows), sources=(Source(), Source()))


def varied(spec: Spec, vary: Iterable[tuple[str, str]]) -> Spec:
    """The spec with those settings changed. Raises `BenchError` for an unknown setting or value."""
    values: dict[str, Any] = {}
    for field, value in vary:
        name = VARIED[choose("setting to vary", field, VARIED)]
        values[name] = None if name == "compile_mode" and value == EAGER else value
    return replace(spec, **values)


def two_revisions(
    specs: Sequence[Spec],
    stack: ExitStack,
    *,
    base: str | None,
    head: str | None = None,
    environment: Literal["auto", "same"] = "auto",
) -> Sides:
    """`--base` and `--head`: two sources, one spec per row. Work trees and environments live as long as `stack`.

    Without a base that is HEAD, without a head the working tree. With `environment="same"` both sides run in this
    Python; else each gets an environment if their declared dependencies differ. Raises `BenchError`.
    """
    root = worktrees.repository(Path.cwd())
    # An empty name, as from a CI variable that is not set, is a mistake and not a default.
    before = stack.enter_context(worktrees.checked_out(root, "HEAD" if base is None else base))
    after = worktrees.here(root) if head is None else stack.enter_context(worktrees.checked_out(root, head))
    pythons, remarks = _pythons(before, after, stack, same=environment == "same")
    if pythons[0] == pythons[1]:
        _check_owned(specs, before, after)
    return Sides(
        title=f"{_named(before)} against {_named(after)}",
        rows=tuple(Row(name=str(spec), baseline=_side(before, spec), candidate=_side(after, spec)) for spec in specs),
        sources=(
            Source(tree=before.tree, python=pythons[0], repository=root),
            Source(tree=after.tree, python=pythons[1], repository=root),
        ),
        remarks=(*_remarks(before, after), *remarks),
    )


def _check_owned(specs: Iterable[Spec], base: Revision, head: Revision) -> None:
    """Raise `BenchError` for a model that neither revision holds: one environment would be compared with itself."""
    if is_ours(base.tree) or is_ours(head.tree):
        return
    for spec in specs:
        if not spec.model.startswith("user:"):
            raise BenchError(
                f"{spec.model} is not defined in this repository, so both revisions would run the same code: name a "
                "model that is, --model user:package.module:factory."
            )


def _remarks(base: Revision, head: Revision) -> list[str]:
    if head.dirty:
        return ["The working tree has uncommitted changes: it was measured as it is."]
    if base.commit == head.commit:
        return [f"Both sides are commit {base.commit[:10]}: whatever differs is noise."]
    return []


def _pythons(
    base: Revision, head: Revision, stack: ExitStack, *, same: bool
) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Which Python runs each side, and the remarks about it."""
    changed = ", ".join(worktrees.changed_declarations(base.tree, head.tree))
    if not worktrees.dependencies_differ(base.tree, head.tree):
        return (sys.executable, sys.executable), ()
    if same:
        return (sys.executable, sys.executable), (f"One environment ran both sides, though these changed: {changed}.",)
    progress.say(f"installing an environment for each side, because these changed: {changed} ...")
    folder = stack.enter_context(worktrees.temporary_folder())
    pythons = (
        virtualenvs.build(folder / "base", base.tree, base.name),
        virtualenvs.build(folder / "head", head.tree, head.name),
    )
    return pythons, (f"Each side had its own environment, because these changed: {changed}.",)


def _side(revision: Revision, spec: Spec) -> Side:
    return Side(label=revision.name, spec=spec, commit=revision.commit, dirty=revision.dirty)


def _named(revision: Revision) -> str:
    dirty = ", uncommitted changes" if revision.dirty else ""
    return f"{revision.name} ({revision.commit[:10]}{dirty})"
