"""A report: a table that can be laid out from records. Those of a paper are data: a TOML file that anybody can write.

The file names the three CSV files of what is printed (`rows`, `numbers`, `protocols`, beside it or by their path), how
to cite the paper (`cite`), and its tables:

    [[table]]
    name = "convnext_table1"          what a user asks for
    title = "Classification on ..."
    printed = "1"                     which rows of the CSV files
    gap = "pairs"                     a little space above every second row; "rivals": above each
                                      Transformer; "last": above the last; "none"
    remarks = ["..."]                 sentences below the table
    columns = ["model", { column = "counts", metric = "params" }]

A column is a name of `COLUMNS`, alone or with arguments: those of the function behind the name.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from visionbench.comparison.comparison import Comparison
from visionbench.record.errors import BenchError
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.reports.column import lay_out
from visionbench.reports.paper import columns, rates, roadmap, toolbox, training_memory
from visionbench.reports.paper.material import Maker, Material
from visionbench.reports.printed import Network, PaperRow, Publication, publication
from visionbench.reports.table import HEADS, Note, Row, Table, Unit

COLUMNS: dict[str, Maker] = {
    **columns.COLUMNS,
    **rates.COLUMNS,
    **toolbox.COLUMNS,
    **training_memory.COLUMNS,
    **roadmap.COLUMNS,
}
"""Every column that a paper's file can ask for, by name. A new one is an entry in its module's `COLUMNS`."""


class Layout(Protocol):
    """Records in, table out: pure, in one pass over them, without torch and without a GPU.

    A table of effects is made of comparisons; any other is free to leave them alone.
    """

    def __call__(self, records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
        """The table, rounded and noted, as every format shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table that can be laid out. `paper_table` is its number in its paper, "" for our own table; `rows` are the
    printed rows, in the paper's order; `specs_of` names the traces of one row.
    """

    name: str
    title: str
    paper_table: str
    layout: Layout
    rows: tuple[PaperRow, ...] = ()
    specs_of: Callable[[PaperRow], tuple[Spec, ...]] = lambda _row: ()

    def computed_specs(self) -> tuple[Spec, ...]:
        """The specs whose computed records fill the static columns; each once, in the rows' order."""
        return tuple(dict.fromkeys(spec for row in self.rows for spec in self.specs_of(row)))

    def measured_rows(self) -> tuple[Network, ...]:
        """(model, image size) of everything that can be measured for this table; each once, in the rows' order."""
        return tuple(dict.fromkeys(row.network for row in self.rows))


# --- a paper's file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """One table of a paper's file. `entries` are its columns: each a maker with the arguments of its entry."""

    name: str
    title: str
    printed: str
    gap: str
    cite: str
    remarks: tuple[str, ...]
    entries: tuple[tuple[Maker, dict[str, Any]], ...]
    publication: Publication

    def layout(self, records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
        """Published, computed, predicted and measured numbers side by side. Pure."""
        rows = self.publication.rows(self.printed)
        material = Material(
            name=self.name, publication=self.publication, rows=rows, records=records, comparisons=comparisons
        )
        said = (sentence for maker, arguments in self.entries for sentence in maker.remarks(material, **arguments))
        return lay_out(
            self.name,
            self.title,
            rows,
            [column for maker, arguments in self.entries for column in maker.columns(material, **arguments)],
            section=lambda row: row.section,
            subject=lambda row: row.model,
            gap=lambda row: row is not rows[0] and GAPS[self.gap](row, rows),
            legend=lambda body: _legend(body, self.cite),
            dash="not printed or not known",
            remarks=(*said, *self.remarks),
        )

    def specs_of(self, row: PaperRow) -> tuple[Spec, ...]:
        """The traces that this table's columns need of a row; each once, in the columns' order."""
        return tuple(dict.fromkeys(spec for maker, _ in self.entries for spec in maker.specs(row)))

    def report(self) -> Report:
        """The table as a report."""
        return Report(
            name=self.name,
            title=self.title,
            paper_table=self.printed,
            layout=self.layout,
            rows=self.publication.rows(self.printed),
            specs_of=self.specs_of,
        )


GAPS: dict[str, Callable[[PaperRow, Sequence[PaperRow]], bool]] = {
    "none": lambda _row, _rows: False,
    "pairs": lambda row, _rows: row.number % 2 == 1,
    "last": lambda row, rows: row is rows[-1],
    "rivals": lambda row, _rows: row.marker == "○",
}
"""Where a table has a little space above a row, by the word of its file."""

_MEANINGS: dict[Source, str] = {
    "published": "copied as printed, from {cite} or what it cites",
    "computed": "counted from the model's own operators, on no hardware",
    "measured": "timed on the machine that the column or its note names",
    "predicted": "a model's estimate, not a measurement",
}


def _legend(body: Sequence[Row], cite: str) -> Iterator[Note]:
    markers = {row.cells[0].text[:1] for row in body}
    sources = {cell.source for row in body for cell in row.cells}
    yield from (
        Note(term=mark, text=text) for mark, text in (("●", "ConvNet"), ("○", "Transformer")) if mark in markers
    )
    for source, text in _MEANINGS.items():
        if source in sources:
            yield Note(term=HEADS[source], text=text.format(cite=cite), source=source)


def load_paper(path: Path) -> dict[str, Report]:
    """The reports of a paper's file, by name. Raises `BenchError` for a file that is not one, with what to change."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(path, "the file", data, {"cite": str, "rows": str, "numbers": str, "protocols": str, "table": list})
        files = [path.parent / data[name] for name in ("rows", "numbers", "protocols")]
        printed = publication(*files)
    except OSError as error:
        raise BenchError(f"cannot read {error.filename}: name a paper's file and the CSV files beside it.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} is no TOML ({error}): correct it.") from error
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BenchError(f"a CSV file of {path} is wrong ({reason}): see reports/published/README.md.") from error
    tables = [_table(path, data["cite"], entry, printed) for entry in data["table"]]
    return {table.name: table.report() for table in tables}


_TABLE = {"name": str, "title": str, "printed": str, "columns": list}
_OPTIONAL = {"gap": str, "remarks": list}


def _table(path: Path, cite: str, entry: Any, printed: Publication) -> PaperTable:
    name = entry.get("name", "?") if isinstance(entry, dict) else "?"
    _check(path, f"table '{name}'", entry, _TABLE, _OPTIONAL)
    gap = entry.get("gap", "none")
    if gap not in GAPS:
        raise BenchError(f"{path}, table '{name}': gap = '{gap}' is unknown: write one of {', '.join(GAPS)}.")
    if not printed.rows(entry["printed"]):
        raise BenchError(
            f"{path}, table '{name}': the rows have no table '{entry['printed']}': name one that they have."
        )
    return PaperTable(
        name=entry["name"],
        title=entry["title"],
        printed=entry["printed"],
        gap=gap,
        cite=cite,
        remarks=tuple(map(str, entry.get("remarks", ()))),
        entries=tuple(_column(path, name, column, printed) for column in entry["columns"]),
        publication=printed,
    )


def _column(path: Path, table: str, entry: Any, printed: Publication) -> tuple[Maker, dict[str, Any]]:
    """A column's maker with its arguments, checked against the parameters of its function."""
    arguments = {"column": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, dict) else {}
    name = arguments.pop("column", None)
    maker = COLUMNS.get(name) if isinstance(name, str) else None
    if maker is None:
        known = ", ".join(sorted(COLUMNS))
        raise BenchError(f"{path}, table '{table}': column '{name}' is unknown: write one of {known}.")
    parameters = [
        parameter
        for parameter in list(inspect.signature(maker.columns).parameters.values())[1:]
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    required = {p.name: _KINDS[p.annotation] for p in parameters if p.default is p.empty}
    optional = {p.name: _KINDS[p.annotation] for p in parameters if p.default is not p.empty}
    place = f"table '{table}', column '{name}'"
    _check(path, place, arguments, required, optional)
    unit, protocol = arguments.get("unit", ""), arguments.get("protocol")
    if unit not in get_args(Unit):
        raise BenchError(f"{path}, {place}: unit = '{unit}' is unknown: write one of {', '.join(get_args(Unit)[1:])}.")
    if protocol is not None and protocol not in printed.protocols:
        known = ", ".join(printed.protocols)
        raise BenchError(f"{path}, {place}: protocol = '{protocol}' is unknown: write one of {known}.")
    return maker, arguments


_KINDS: dict[str, type] = {"str": str, "int": int, "Unit": str, "Sequence[str]": list}
"""What a parameter of a column's function is in TOML, by its annotation."""

_WORDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list"}


def _check(
    path: Path, place: str, data: Any, required: Mapping[str, type], optional: Mapping[str, type] | None = None
) -> None:
    """Raise `BenchError` for keys that are unknown, missing or of another type."""
    known = {**required, **(optional or {})}
    if not isinstance(data, dict):
        raise BenchError(f"{path}, {place}: a table of TOML is expected: write key = value.")
    for key, value in data.items():
        if key not in known:
            raise BenchError(f"{path}, {place}: key '{key}' is unknown: write one of {', '.join(known) or 'none'}.")
        if type(value) is not known[key]:
            raise BenchError(f"{path}, {place}: {key} = {value!r} is wrong: write {_WORDS[known[key]]}.")
    if missing := [key for key in required if key not in data]:
        raise BenchError(f"{path}, {place}: key '{missing[0]}' is missing: add it, {_WORDS[required[missing[0]]]}.")


SHIPPED = Path(__file__).parent.parent / "papers"
"""The papers that visionbench brings along."""


def shipped_papers() -> dict[str, Report]:
    """The reports of every paper that visionbench brings along, by name."""
    return {name: report for path in sorted(SHIPPED.glob("*.toml")) for name, report in load_paper(path).items()}
