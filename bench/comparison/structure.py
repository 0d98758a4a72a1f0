"""The structure of a row: what it consists of, exactly, layer by layer; and the file in git that keeps it.

Structure needs no clock and has no noise: parameters, multiply-accumulates, operators, bytes, live memory, graphs. The
same code gives the same numbers on every machine, so a difference of one is a difference. The file is made to be
reviewed: one line per count and per layer, equal layers of repeated blocks on one line (`blocks.{0..11}.norm1`), always
in the same order, so that the diff of a pull request shows the layers that changed and nothing else.

Operators are what one release of torch makes of a model, and what one release of timm calls a model: the file says
which, and is compared under no other.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from visionbench.comparison.fold_names import count_of, fold, unfold
from visionbench.record.errors import BenchError
from visionbench.record.files import decode_once, reason, text_of, typed, write_whole
from visionbench.record.spec import Spec

STRUCTURE_SCHEMA = 1
"""Version of the file. 1 (2026-11): first."""

MOST_LAYERS, MOST_LETTERS = 1_000_000, 50_000_000
"""Layers of a file, and letters of their names: a few bytes can name ten thousand million of them."""

BASELINE = "visionbench-structure.json"
"""The file in a repository that keeps its models' structure, unless another is named."""

OLDER = ("structure.json", "perf/structure.json")
"""What it was called before: a file of such a name goes on being used where there is none of the new one."""

UPDATE = "compare --exact --update"
"""The command that writes the file anew."""

MODEL, BACKWARD, OPTIMIZER = "(model)", "(backward)", "(optimizer)"
"""Where operators belong that no layer calls: the model's own, and the phases after the forward pass."""


class OtherVersionsError(BenchError):
    """A baseline of another torch or timm: nothing can be compared (exit code 4), and nothing has regressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one layer does itself, without the layers inside it, in one step of the whole batch.

    `operators` is how often it calls which. `params` and `buffers` are the elements that it owns.
    """

    operators: dict[str, int] = field(default_factory=dict)
    params: int = 0
    buffers: int = 0
    macs: int = 0
    activations: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One row. `row` is the spec in words; `totals` are the exact counts by the names that records use.

    MACs and activations of `totals` are per image, those of `layers` of the whole batch. A training step's row holds
    what the inference's does not: its own counts, its peak of live memory, and of its layers the operators alone.
    `graphs`, `graph_breaks` and `recompiles` are there for inference, and None where torch's compiler cannot follow the
    model; `remark` says why. `breaks` counts the graph breaks by their reason.
    """

    row: str
    totals: dict[str, int | None]
    layers: dict[str, Layer]
    breaks: dict[str, int] = field(default_factory=dict)
    remark: str = ""

    @property
    def model(self) -> str:
        """The model's qualified name."""
        return model_of(self.row)

    @property
    def hash(self) -> str:
        """Twelve digits that stand for the operators: sha256 of the sorted counts by phase and name."""
        counts: Counter[tuple[str, str]] = Counter()
        for path, layer in self.layers.items():
            phase = path if path in (BACKWARD, OPTIMIZER) else "(forward)"
            counts.update({(phase, name): count for name, count in layer.operators.items()})
        text = "\n".join(f"{phase} {name} {count}" for (phase, name), count in sorted(counts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_ROW = re.compile(r"(?P<model>.+?)(?:@\d+(?:x\d+)?)? (?:inference|train) b(?P<batch>\d+) .*")


def model_of(row: str) -> str:
    """The model's qualified name in a row's words (a spec's `str`)."""
    return found["model"] if (found := _ROW.fullmatch(row)) else row.partition("@")[0]


def images_of(row: str) -> int:
    """The batch of a row: its layers are of so many images, and its total MACs and activations of one."""
    return int(found["batch"]) if (found := _ROW.fullmatch(row)) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Structures:
    """Rows by their words, and the releases they were counted with: torch's minor (`2.15`) and timm's.

    `failures` are the rows that could not be counted, each with its reason; a baseline has none. `untrained` are
    training steps of networks that have nothing to train, or their own loss: no rows, with the reason.
    """

    torch: str
    timm: str
    rows: dict[str, Structure]
    failures: dict[str, str] = field(default_factory=dict)
    untrained: dict[str, str] = field(default_factory=dict)


def structure_specs(specs: Iterable[Spec]) -> tuple[Spec, ...]:
    """What is counted for a gate of these specs: of each its inference and its training step.

    The two share a model, and what is said of it once (parameters, each layer's numbers) is said of the inference. A
    training step has at least two images: batch norm trains on no fewer. A compile mode changes no count, so specs
    that differ in it alone are one.
    """
    found: dict[Spec, None] = {}
    for spec in specs:
        inference = replace(spec, task="inference", loss=None, compile_mode=None)
        training = replace(inference, task="train", loss=spec.loss, batch_size=max(2, spec.batch_size))
        found |= {inference: None, training: None}
    return tuple(found)


def to_text(structures: Structures) -> str:
    """The file: JSON with one line per count and per layer."""
    rows = ",\n".join(_row_text(structure) for structure in structures.rows.values())
    made_with = f'"schema": {STRUCTURE_SCHEMA},\n"torch": {_json(structures.torch)},\n"timm": {_json(structures.timm)}'
    return f'{{\n{made_with},\n"rows": {{\n{rows}\n}}\n}}\n'


def _row_text(structure: Structure) -> str:
    parts = [_block("totals", structure.totals.items()), f'  "hash": {_json(structure.hash)}']
    parts += [_block("breaks", structure.breaks.items())] if structure.breaks else []
    parts += [f'  "remark": {_json(structure.remark)}'] if structure.remark else []
    layers = fold((path, _json(_sparse(layer))) for path, layer in structure.layers.items())
    lines = ",\n".join(f"    {_json(one.pattern)}: {one.value}" for one in layers)
    parts += [f'  "layers": {{\n{lines}\n  }}']
    return f" {_json(structure.row)}: {{\n" + ",\n".join(parts) + "\n }"


def _block(name: str, items: Iterable[tuple[str, Any]]) -> str:
    lines = ",\n".join(f"    {_json(key)}: {_json(value)}" for key, value in items)
    return f'  "{name}": {{\n{lines}\n  }}'


def _sparse(layer: Layer) -> dict[str, Any]:
    """What a layer has; what it has not goes without saying. Operators by name: their order is not ours to promise."""
    data = {name: value for name, value in asdict(layer).items() if value}
    return data | ({"operators": dict(sorted(layer.operators.items()))} if layer.operators else {})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def from_text(text: str) -> Structures:
    """The rows of a file's text. Raises `BenchError` for another schema, ValueError for no such file."""
    data = decode_once(text)
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise ValueError("it has no schema number")
    if not {"rows", "torch"} & data.keys():
        raise ValueError("it has no rows of counts")
    if data["schema"] != STRUCTURE_SCHEMA:
        raise BenchError(
            f"it has schema {data['schema']}, this visionbench reads {STRUCTURE_SCHEMA}: "
            f"use the visionbench that wrote it, or remove it and write it anew with `{UPDATE}`."
        )
    file = typed(data, _File, "baseline")
    named = [(count_of(pattern), len(pattern)) for folded in file.rows.values() for pattern in folded.layers]
    if sum(count for count, _ in named) > MOST_LAYERS or sum(map(math.prod, named)) > MOST_LETTERS:
        raise ValueError(f"it has more than {MOST_LAYERS:,} layers, or names of more than {MOST_LETTERS:,} letters")
    rows = {row: _structure(row, folded) for row, folded in file.rows.items()}
    return Structures(torch=file.torch, timm=file.timm, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folded:
    """A row as the file holds it: equal layers on one line, and the hash of all of them."""

    totals: dict[str, int | None]
    hash: str
    layers: dict[str, Layer]
    breaks: dict[str, int] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema: int
    torch: str
    timm: str
    rows: dict[str, _Folded]


def _structure(row: str, folded: _Folded) -> Structure:
    layers = {path: layer for pattern, layer in folded.layers.items() for path in unfold(pattern)}
    structure = Structure(row=row, totals=folded.totals, layers=layers, breaks=folded.breaks, remark=folded.remark)
    if folded.hash != structure.hash or any(_contradictions(structure)):
        raise ValueError(f"the totals of {row} are not those of its layers")
    return structure


def _contradictions(structure: Structure) -> Iterator[bool]:
    """A merge of two branches may take the totals of one and the layers of the other."""
    layers = structure.layers.values()
    yield structure.totals["operators"] != sum(sum(layer.operators.values()) for layer in layers)
    for name in ("params", "buffers", "bytes") if "params" in structure.totals else ():
        yield structure.totals[name] != sum(getattr(layer, name) for layer in layers)


def baseline_in(folder: Path) -> Path:
    """The baseline of a repository: `BASELINE`, or an older name's file where only that is there and is a baseline.

    A file of that name with something else in it is left alone; a torn baseline is named.
    """
    if not (folder / BASELINE).exists():
        for older in OLDER:
            if _is_ours(folder / older):
                return folder / older
    return folder / BASELINE


def _is_ours(path: Path) -> bool:
    """Whether a file begins as `to_text` begins."""
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(200)
    except (OSError, ValueError):
        return False
    return all(word in head for word in ('"schema"', '"torch"', '"timm"'))


def write(path: Path, structures: Structures) -> None:
    """Write the file in one piece. Raises `BenchError` if it cannot be written, or if a row could not be counted."""
    for row, why in structures.failures.items():
        raise BenchError(f"no baseline is written, because {row} cannot be counted ({why.rstrip('.')}): mend it.")
    write_whole(path, to_text(structures), folders=True)


def read(path: Path) -> Structures:
    """The rows of a file. Raises `BenchError` for a file that is not there or holds something else."""
    try:
        return from_text(text_of(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BenchError(f"there is no baseline {path}: write it with `{UPDATE}` and commit it.") from error
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}): name another file.") from error
    except (ValueError, KeyError) as error:
        raise BenchError(f"{path} is no baseline of structure ({error}): {_REMEDY}.") from error
    except BenchError as error:
        raise BenchError(f"{path} cannot be used: {error}") from error


def merged(path: Path, now: Structures) -> Structures:
    """The file's rows and these; these alone where the file is of other releases, or missing.

    Raises `BenchError` for a file that cannot be read (torn, newer, half merged): its other rows must not be lost.
    """
    if not path.exists():
        return now
    before = read(path)
    same = (before.torch, before.timm) == (now.torch, now.timm)
    return replace(now, rows=before.rows | now.rows) if same else now


_REMEDY = f"restore it with git, or remove it and write it anew with `{UPDATE}`"
