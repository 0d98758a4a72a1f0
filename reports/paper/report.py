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
    others = true                     it can hold networks that the paper does not print
    columns = ["model", { column = "counts", metric = "params" }]

A column is a name of `COLUMNS`, alone or with arguments: those of the function behind the name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, get_args

from visionbench.comparison.comparison import Comparison
from visionbench.record.clean import clean
from visionbench.record.errors import BenchError
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.reports.column import lay_out
from visionbench.reports.launches import Records
from visionbench.reports.paper import columns, profiles, rates, roadmap, simple_columns, toolbox, training_memory
from visionbench.reports.paper.material import Asked, Maker, Material
from visionbench.reports.paper.simple import read as read_simple
from visionbench.reports.paper.toml import TomlFile, check, read_toml
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
    """A table that can be laid out.

    `paper_table` is its number in the ConvNeXt paper, "" for any other; `paper` is the title of its paper, "" for our
    own table, `cite` where that is printed, `stated` what it states about its FLOPs; `rows` are the printed rows, in
    the paper's order, and `places` where each stands in the file; `specs_of` names the traces of one row.
    """

    name: str
    title: str
    paper_table: str
    layout: Layout
    paper: str = ""
    cite: str = ""
    stated: str = ""
    rows: tuple[PaperRow, ...] = ()
    places: tuple[str, ...] = ()
    specs_of: Callable[[PaperRow], tuple[Spec, ...]] = lambda _row: ()
    table: PaperTable | None = None

    def beside(self, networks: Iterable[Network]) -> Report:
        """The same report with a row for each of these networks that the paper does not print, if it can hold one."""
        if self.table is None or not self.table.others:
            return self
        printed = {row.network for row in self.table.publication.every_row}
        rows = [
            PaperRow(
                table=self.table.printed,
                number=number,
                section=OWN,
                label=clean(model).removeprefix("timm:"),
                model=model,
                image_size=size,
                own=True,
            )
            for number, (model, size) in enumerate(dict.fromkeys(networks), start=len(self.rows) + 1)
            if (model, size) not in printed
        ]
        return replace(self.table, own=tuple(rows)).report() if rows else self

    def computed_specs(self) -> tuple[Spec, ...]:
        """The specs whose computed records fill the static columns; each once, in the rows' order."""
        return tuple(dict.fromkeys(spec for row in self.rows if row.model for spec in self.specs_of(row)))

    def measured_rows(self) -> tuple[Network, ...]:
        """(model, image size) of everything that can be measured for this table; each once, in the rows' order."""
        return tuple(dict.fromkeys(row.network for row in self.rows if row.model))


OWN = "Measured here, not in the paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """One table of a paper's file. `entries` are its columns: each a maker with the arguments of its entry.

    `others`: whether it can hold networks that the paper does not print; `own` are those that it holds.
    """

    name: str
    title: str
    printed: str
    gap: str
    cite: str
    remarks: tuple[str, ...]
    entries: tuple[Asked, ...]
    publication: Publication
    paper: str = ""
    stated: str = ""
    places: tuple[str, ...] = ()
    others: bool = False
    own: tuple[PaperRow, ...] = ()

    def layout(self, records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
        """Published, computed, predicted and measured numbers side by side. Pure."""
        rows = (*self.publication.rows(self.printed), *self.own)
        first_own = next((row for row in rows if row.own), None)
        material = Material(
            name=self.name,
            publication=self.publication,
            rows=rows,
            records=(read := Records.of(records)),
            counted=profiles.records([row.network for row in rows]) if self.paper else [],
            comparisons=comparisons,
        )
        said = (sentence for maker, arguments in self.entries for sentence in maker.remarks(material, **arguments))
        return lay_out(
            self.name,
            self.title,
            rows,
            [column for maker, arguments in self.entries for column in maker.columns(material, **arguments)],
            section=lambda row: row.section,
            subject=lambda row: row.model,
            gap=lambda row: row is not rows[0] and (row is first_own or (not row.own and GAPS[self.gap](row, rows))),
            legend=lambda body: _legend(body, self.cite),
            dash="not printed or not known",
            remarks=(*said, *self.remarks),
            caveats=read.unfit,
        )

    def specs_of(self, row: PaperRow) -> tuple[Spec, ...]:
        """The traces that this table's columns need of a row; each once, in the columns' order."""
        return tuple(dict.fromkeys(spec for maker, _ in self.entries for spec in maker.specs(row)))

    def report(self) -> Report:
        """The table as a report."""
        return Report(
            name=self.name,
            title=self.title,
            paper_table="" if self.paper else self.printed,
            paper=self.paper or "A ConvNet for the 2020s",
            cite=self.cite,
            stated=self.stated,
            places=self.places,
            layout=self.layout,
            rows=self.publication.rows(self.printed),
            specs_of=self.specs_of,
            table=self,
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
    for mark, text in (("●", "ConvNet"), ("○", "Transformer")):
        if mark in markers:
            yield Note(term=mark, text=text)
    for source, text in _MEANINGS.items():
        if source in sources:
            yield Note(term=HEADS[source], text=text.format(cite=cite), source=source)


def load_paper(path: Path) -> dict[str, Report]:
    """The reports of a paper's file, by name. Raises `BenchError` for a file that is not one, with what to change."""
    file = read_toml(path)
    names_files = {"numbers", "protocols"} & set(file.data)
    return {table.name: table.report() for table in (_of_files(path, file.data) if names_files else _simple(file))}


def _of_files(path: Path, data: dict[str, Any]) -> list[PaperTable]:
    """The tables of a file that names three CSV files of printed numbers."""
    check(f"{path}, the file", data, {"cite": str, "rows": str, "numbers": str, "protocols": str, "table": list})
    files = [path.parent / data[name] for name in ("rows", "numbers", "protocols")]
    try:
        printed = publication(*files)
    except OSError as error:
        raise BenchError(f"cannot read {error.filename}: name a paper's file and the CSV files beside it.") from error
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BenchError(f"a CSV file of {path} is wrong ({reason}): see reports/published/README.md.") from error
    return [_table(path, data["cite"], entry, printed) for entry in data["table"]]


def _simple(file: TomlFile) -> list[PaperTable]:
    """The tables of a file that holds its own rows. A column is a word, or an entry with arguments."""
    tables, printed = read_simple(file)
    known = simple_columns.BY_WORD
    return [
        PaperTable(
            name=table.name,
            title=table.title,
            printed=table.name,
            paper=file.data["title"],
            stated=file.data.get("flops", ""),
            gap=_gap(table.where, table.gap),
            cite=file.data["cite"],
            remarks=table.remarks,
            entries=tuple(
                known[entry] if isinstance(entry, str) else _column(file.path, table.name, entry, printed)
                for entry in ("model", *table.columns)
            ),
            publication=printed,
            places=table.places,
        )
        for table in tables
    ]


def _gap(place: str, gap: str) -> str:
    if gap not in GAPS:
        raise BenchError(f"{place}: gap = '{gap}' is unknown: write one of {', '.join(GAPS)}.")
    return gap


_TABLE = {"name": str, "title": str, "printed": str, "columns": list}
_OPTIONAL = {"gap": str, "remarks": list, "others": bool}


def _table(path: Path, cite: str, entry: Any, printed: Publication) -> PaperTable:
    name = entry.get("name", "?") if isinstance(entry, dict) else "?"
    place = f"{path}, table '{name}'"
    check(place, entry, _TABLE, _OPTIONAL)
    gap = _gap(place, entry.get("gap", "none"))
    if not printed.rows(entry["printed"]):
        raise BenchError(f"{place}: the rows have no table '{entry['printed']}': name one that they have.")
    return PaperTable(
        name=entry["name"],
        title=entry["title"],
        printed=entry["printed"],
        gap=gap,
        cite=cite,
        remarks=tuple(map(str, entry.get("remarks", ()))),
        others=entry.get("others", False),
        entries=tuple(_column(path, name, column, printed) for column in entry["columns"]),
        publication=printed,
    )


def _column(path: Path, table: str, entry: Any, printed: Publication) -> Asked:
    """A column's maker with its arguments, checked against the parameters of its function."""
    arguments = {"column": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, dict) else {}
    name = arguments.pop("column", None)
    maker = COLUMNS.get(name) if isinstance(name, str) else None
    if maker is None:
        known = ", ".join(sorted(COLUMNS))
        raise BenchError(f"{path}, table '{table}': column '{name}' is unknown: write one of {known}.")
    required: dict[str, type] = {}
    optional: dict[str, type] = {}
    for parameter in list(inspect.signature(maker.columns).parameters.values())[1:]:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            kinds = required if parameter.default is parameter.empty else optional
            kinds[parameter.name] = _KINDS[parameter.annotation]
    place = f"{path}, table '{table}', column '{name}'"
    check(place, arguments, required, optional)
    unit, protocol = arguments.get("unit", ""), arguments.get("protocol")
    if unit not in get_args(Unit):
        raise BenchError(f"{place}: unit = '{unit}' is unknown: write one of {', '.join(get_args(Unit)[1:])}.")
    if protocol is not None and protocol not in printed.protocols:
        known = ", ".join(printed.protocols)
        raise BenchError(f"{place}: protocol = '{protocol}' is unknown: write one of {known}.")
    return maker, arguments


_KINDS: dict[str, type] = {"str": str, "int": int, "Unit": str, "Sequence[str]": list}
"""What a parameter of a column's function is in TOML, by its annotation."""

SHIPPED = Path(__file__).parent.parent / "papers"
"""The papers that visionbench brings along."""


class Catalogue(Mapping[str, Report]):
    """Every report by its name. A shipped paper's file is read when one of its tables is asked for.

    A table's name begins with the stem of its file, so that one file is read and not all.
    """

    def __init__(self, own: Mapping[str, Report]) -> None:
        """`own` are the reports that are no paper's."""
        self._own = own
        self._files = {path.stem: path for path in sorted(SHIPPED.glob("*.toml"), key=lambda p: (p != CONVNEXT, p))}

    def papers(self) -> dict[str, dict[str, Report]]:
        """The reports of every shipped paper, by the stem of its file."""
        return {stem: _shipped(path) for stem, path in self._files.items()}

    def __getitem__(self, name: str) -> Report:
        """Raises KeyError."""
        if name in self._own:
            return self._own[name]
        for stem, path in self._files.items():
            if name.startswith(f"{stem}_") and name in _shipped(path):
                return _shipped(path)[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """The ConvNeXt paper's, ours, then those of other papers."""
        yield from _shipped(CONVNEXT)
        yield from self._own
        yield from (name for path in self._files.values() if path != CONVNEXT for name in _shipped(path))

    def __len__(self) -> int:
        """How many reports there are."""
        return len(list(iter(self)))


CONVNEXT = SHIPPED / "convnext.toml"


@lru_cache(maxsize=64)
def _shipped(path: Path) -> dict[str, Report]:
    return load_paper(path)
