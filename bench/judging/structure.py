"""Exact differences between a baseline of structure and what the code does now, with the layers behind them.

Two-sided: fewer operators are a difference as much as more. An unrecorded gain can be lost again by the next change
without notice. So a command updates the baseline, and its diff is reviewed like code. No difference means that the
command would leave the file as it is. What structure cannot see is a kernel that became slower while it kept its name
and its shapes: that is for the clock to find.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from operator import attrgetter

from visionbench.comparison.fold_names import fold
from visionbench.comparison.structure import (
    UPDATE,
    Layer,
    OtherVersionsError,
    Structure,
    Structures,
    images_of,
    model_of,
)
from visionbench.comparison.verdict import Change

WHERE = 12
"""Lines about one change that are shown; the rest is a number."""

# What a row is compared by -> the totals it stands for. The first is shown, a second of bytes behind it in brackets.
_WHAT: dict[str, tuple[str, ...]] = {
    "params": ("params", "param_bytes"),
    "buffers": ("buffers", "buffer_bytes"),
    "MACs": ("macs",),
    "activations": ("activations",),
    "operators": ("operators",),
    "bytes": ("bytes",),
    "values read": ("values_read",),
    "peak live memory": ("peak_memory_live",),
    "graphs": ("graphs",),
    "graph breaks": ("graph_breaks",),
    "recompiles": ("recompiles",),
}
_FEW = ("graphs", "graph_breaks", "recompiles")
"""Totals of which there are so few that a share says nothing."""

_PEAK = "peak_memory_live."

Entry = tuple[str, tuple[str, str]]
"""A layer's path, and what is said of it: the text, and "new", "gone" or ""."""


def compare(
    baseline: Structures, now: Structures, *, allow_new: Collection[str] = (), allow_missing: Collection[str] = ()
) -> tuple[Change, ...]:
    """Every difference, row by row. A row on one side alone is one, unless it or its model is allowed by name.

    Raises `OtherVersionsError` where the sides were counted with different releases of torch or timm.
    """
    if (baseline.torch, baseline.timm) != (now.torch, now.timm):
        raise OtherVersionsError(
            f"the baseline was counted with torch {baseline.torch} and timm {baseline.timm}, and torch {now.torch} and "
            f"timm {now.timm} here may count differently: install the baseline's, or rewrite it with `{UPDATE}`."
        )
    changes: list[Change] = []
    for row, before in baseline.rows.items():
        if row in now.rows:
            changes += _differences(before, now.rows[row])
        elif row in now.failures:
            changes += [_whole(row, "present", "cannot be counted", now.failures[row])]
        elif row in now.untrained:
            changes += [_whole(row, "present", "missing", now.untrained[row])]
        elif not _allowed(row, allow_missing):
            changes += [_whole(row, "present", "missing")]
    for row, failure in (dict.fromkeys(now.rows, "") | now.failures).items():
        # What cannot even be counted is nothing that a name could allow.
        if row not in baseline.rows and (failure or not _allowed(row, allow_new)):
            changes += [_whole(row, "missing", "cannot be counted" if failure else "new", failure)]
    return tuple(changes)


def _allowed(row: str, names: Collection[str]) -> bool:
    return row in names or model_of(row) in names


def _whole(row: str, before: str, after: str, reason: str = "") -> Change:
    return Change(row=row, what="row", before=before, after=after, where=(reason,) if reason else ())


def _differences(before: Structure, after: Structure) -> tuple[Change, ...]:
    found = []
    for what, names in _all_what(before, after).items():
        if _compared(before, what, names) != _compared(after, what, names):
            shown = (_shown(before, what, names), _shown(after, what, names) + _percent(before, after, names[0]))
            where = _where(what, before, after)
            found.append(Change(row=after.row, what=what, before=shown[0], after=shown[1], where=where))
    if not found and (renamed := _renamed(before, after)):
        number = f"{len(before.layers):,} layers"
        told = f"{number}, {len(renamed):,} renamed"
        found.append(Change(row=after.row, what="layers", before=number, after=told, where=_cut(_renames(renamed))))
    elif not found and before.layers != after.layers:
        lines = _lines(_operator_entries(before, after))
        if not lines:  # layers differ in something else, and the totals agree: something moved
            for what, read in _QUANTITIES.items():
                lines += _lines(_quantity_entries(before, after, what, read))
        where = _cut(lines)
        layers = [f"{len(side.layers):,} layers" for side in (before, after)]
        found.append(Change(row=after.row, what="layers", before=layers[0], after=layers[1], where=where))
    return tuple(found)


def _percent(before: Structure, after: Structure, name: str) -> str:
    """`, +0.8 %`: by how much a total changed; "" where there is no share of nothing, or no change."""
    old, new = before.totals.get(name), after.totals.get(name)
    if name in _FEW or not old or new is None or old == new:
        return ""
    share = 100 * (new - old) / old
    text = (
        f"{abs(share):,.0f}" if abs(share) >= 10 else f"{abs(share):.2g}" if abs(share) >= 1e-3 else "less than 0.001"
    )
    return f", {'+' if share > 0 else '−'}{text} %"


def _renamed(before: Structure, after: Structure) -> list[tuple[str, str]]:
    """Old and new paths where layers were renamed and nothing else: those that are gone do, in order, what new ones do.

    [] where anything else differs.
    """
    gone = [(path, layer) for path, layer in before.layers.items() if path not in after.layers]
    new = [(path, layer) for path, layer in after.layers.items() if path not in before.layers]
    same = all(after.layers[path] == layer for path, layer in before.layers.items() if path in after.layers)
    if not same or [layer for _, layer in gone] != [layer for _, layer in new]:
        return []
    return [(old, now) for (old, _), (now, _) in zip(gone, new, strict=True)]


def _renames(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """`renamed: expand → widen (7 layers)`: by the part of the path that differs; whole paths where several do."""
    counted: dict[tuple[str, str], list[str]] = {}
    for old, new in pairs:
        parts, others = old.split("."), new.split(".")
        unlike = [pair for pair in zip(parts, others, strict=False) if pair[0] != pair[1]]
        alone = len(parts) == len(others) and len(unlike) == 1
        counted.setdefault(unlike[0] if alone else (old, new), []).append(old)
    return [
        f"renamed: {old} → {new}" + (f" ({len(paths):,} layers)" if len(paths) > 1 else "")
        for (old, new), paths in counted.items()
    ]


def _all_what(before: Structure, after: Structure) -> dict[str, tuple[str, ...]]:
    """What is compared: the named parts, and any total without a name."""
    known = {name for names in _WHAT.values() for name in names}
    others = [name for name in (before.totals | after.totals) if name not in known and not name.startswith(_PEAK)]
    return _WHAT | {name: (name,) for name in others}


def _compared(side: Structure, what: str, names: tuple[str, ...]) -> object:
    """What must be equal: more than is shown of operators (which they are), of memory (whose) and of breaks (why)."""
    values = [side.totals.get(name) for name in names]
    if what == "operators":
        return values, side.hash
    if what == "peak live memory":
        return values, _split(side)
    return (values, side.breaks) if what == "graph breaks" else values


def _split(side: Structure) -> dict[str, int]:
    return {name.removeprefix(_PEAK): value or 0 for name, value in side.totals.items() if name.startswith(_PEAK)}


def _shown(side: Structure, what: str, names: tuple[str, ...]) -> str:
    first, *more = (_number(side.totals.get(name)) for name in names)
    if what == "operators":
        return f"{first} (hash {side.hash})"
    unit = " B" if what in ("bytes", "peak live memory") else ""
    return f"{first}{unit} ({more[0]} B)" if more else f"{first}{unit}"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _where(what: str, before: Structure, after: Structure) -> tuple[str, ...]:
    """The lines behind one change: layers, parts of the memory, reasons of the compiler."""
    if what == "operators":
        return _cut(_lines(_operator_entries(before, after)))
    if what == "peak live memory":
        return _cut(_counts(_split(before), _split(after), " B"))
    if what in ("graphs", "graph breaks", "recompiles"):
        reasons = (after.remark or before.remark,) if after.remark or before.remark else ()
        return _cut([*_counts(before.breaks, after.breaks, ""), *reasons])
    read = _QUANTITIES.get(what)
    return _cut(_lines(_quantity_entries(before, after, what, read))) if read else ()


_QUANTITIES: dict[str, Callable[[Layer], int]] = {
    what: attrgetter(what.lower()) for what in ("params", "buffers", "MACs", "activations", "bytes")
}


def _counts(before: dict[str, int], after: dict[str, int], unit: str) -> list[str]:
    names = dict.fromkeys([*after, *before])
    pairs = [(name, before.get(name, 0), after.get(name, 0)) for name in names]
    return [f"{name}: {old:,} -> {new:,}{unit}" for name, old, new in pairs if old != new]


def _pairs(before: Structure, after: Structure) -> Iterator[tuple[str, Layer, Layer, str]]:
    """Layers side by side, in the order of execution, those that are gone last; an absent one does nothing."""
    for path in dict.fromkeys([*after.layers, *before.layers]):
        status = "new" if path not in before.layers else "gone" if path not in after.layers else ""
        yield path, before.layers.get(path, Layer()), after.layers.get(path, Layer()), status


def _operator_entries(before: Structure, after: Structure) -> Iterator[Entry]:
    for path, old, new, status in _pairs(before, after):
        names = sorted(old.operators.keys() | new.operators.keys())
        counts = [(name, old.operators.get(name, 0), new.operators.get(name, 0)) for name in names]
        form = {"new": "+ {0} x{2}", "gone": "- {0} x{1}", "": "{0} {1} -> {2}"}[status]
        text = ", ".join(form.format(*count) for count in counts if count[1] != count[2])
        if text:
            yield path, (text, status)


def _quantity_entries(before: Structure, after: Structure, what: str, read: Callable[[Layer], int]) -> Iterator[Entry]:
    for path, old, new, status in _pairs(before, after):
        if read(old) != read(new):
            images = images_of(after.row) if what in PER_IMAGE else 1
            yield path, (f"{what} {_share(read(old), images)} -> {_share(read(new), images)}", status)


PER_IMAGE = ("MACs", "activations")
"""Totals of one image. Their layers are of the whole batch, and are shown of one image too: no part exceeds a total."""


def _share(whole: int, images: int) -> str:
    """An image's share of a count; what is done once per batch has no whole one."""
    return f"{whole // images:,}" if whole % images == 0 else f"{whole / images:,.1f}"


def _lines(entries: Iterable[Entry]) -> list[str]:
    lines = []
    for alike in fold(entries):
        text, status = alike.value
        if alike.count == 1:
            note = {"new": " (new layer)", "gone": " (layer gone)", "": ""}[status]
        else:
            layers = {"new": "new layers", "gone": "layers gone", "": "layers"}[status]
            note = f" each ({alike.count} {layers})"
        lines.append(f"{alike.pattern}: {text}{note}")
    return lines


def _cut(lines: list[str]) -> tuple[str, ...]:
    return tuple(lines) if len(lines) <= WHERE else (*lines[:WHERE], f"and {len(lines) - WHERE:,} more")
