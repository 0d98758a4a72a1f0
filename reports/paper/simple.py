"""A paper as one file of TOML, with a CSV file for its rows where there are many: rows, printed numbers, columns.

    title = "Swin Transformer"              what the file is about
    cite = "arXiv 2103.14030"               where its numbers are printed
    rows = "swin.csv"                       a CSV file beside it; or [[table.row]] below each table
    flops = "macs"                          what the paper states about its FLOPs, where it states it: a convention

    [[table]]
    name = "swin_table1"                    what a user asks for
    title = "Classification on ImageNet-1K"
    printed = "Table 1"                     which rows of the CSV file
    gpu = "V100"                            of its img/s, with their `protocol` in words
    columns = ["params", "flops", "img/s", "top1"]

    [[table.row]]
    model = "swin_tiny_patch4_window7_224"  a bare name is timm's; user:package.module:factory is your own; "" none
    label = "Swin-T"
    size = 224
    params = 28                             as printed: M, G, img/s and %
    "img/s A100" = 2494                     of another card than the table's
    own = true                              emphasised

A column is a word of `WORDS`, or an entry of `COLUMNS` with its arguments as in the ConvNeXt paper's file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from visionbench.record.errors import BenchError
from visionbench.record.files import reason, text_of
from visionbench.record.spec import SIZE, ImageSize, image_size
from visionbench.reports.paper import profiles
from visionbench.reports.paper.toml import Digits, TomlFile, check, texts
from visionbench.reports.printed import DIGITS, Number, PaperRow, Publication, PublishedProtocol

METRICS: dict[str, tuple[str, str]] = {
    "params": ("params", "M"),
    "flops": ("macs", "G"),
    "img/s": ("throughput", "img/s"),
    "train img/s": ("train_throughput", "img/s"),
    "top1": ("top1", "%"),
    "memory": ("train_memory", "GB"),
}
"""What a row may print, by the word of the file: the metric and the unit of the print."""

RATE_ON = re.compile(r"((?:train )?img/s) (\S.{0,39})")
"""A rate with its card, `img/s A100`: a row may have one for each card. The first counts where one is asked for."""

WORDS = ("size", *METRICS, "activations")
"""The columns that a file may ask for by a word alone. The model is always the first column."""

STATED = ("macs", "2 x macs", "fvcore", "tensorflow")
"""What a paper may state about its FLOPs, by a word of `audit.conventions.STATED`."""

_ROW: dict[str, type] = {
    **dict.fromkeys(("table", "section", "marker", "label", "model", "size", "gpu", "protocol", "source", "note"), str),
    **dict.fromkeys(METRICS, str),
    "own": bool,
}
"""Everything that a row may have."""

_FILE = {"title": str, "cite": str, "table": list}
_FILE_OPTIONAL = {"rows": str, "flops": str}
_TABLE = {"name": str, "title": str}
_TABLE_OPTIONAL = {
    **dict.fromkeys(("printed", "gpu", "protocol", "gap"), str),
    **dict.fromkeys(("columns", "remarks", "row"), list),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row as the file has it: where it stands, and its texts by key. `place` says where a key does."""

    where: str
    values: dict[str, str]
    own: bool = False
    place: Callable[[str], str] | None = None

    def at(self, key: str) -> str:
        """Where that value stands."""
        return self.place(key) if self.place else self.where

    def text(self, key: str) -> str:
        """A value, "" where the row has none."""
        return self.values.get(key, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleTable:
    """One table of the file: its heading, its columns as asked for, and its rows."""

    name: str
    title: str
    gap: str
    where: str
    columns: tuple[Any, ...]
    remarks: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    places: tuple[str, ...]


def read(file: TomlFile) -> tuple[tuple[SimpleTable, ...], Publication]:
    """The tables of a file, and all that it prints. Raises `BenchError`: one sentence with file, line and remedy."""
    data = file.data
    for key in data:
        check(file.where(key=key), {key: data[key]}, {}, {**_FILE, **_FILE_OPTIONAL})
    check(str(file.path), data, _FILE, _FILE_OPTIONAL)
    if data.get("flops", STATED[0]) not in STATED:
        known = ", ".join(STATED)
        raise BenchError(f"{file.where(key='flops')}: flops = '{data['flops']}' is unknown: write one of {known}.")
    listed = _csv_entries(file.path.parent / data["rows"], file.where(key="rows")) if "rows" in data else []
    tables = tuple(_tables(file, listed))
    every_row = tuple(row for table in tables for row in table.rows)
    protocols = {n.protocol for row in every_row for n in row.printed.values() if n.protocol}
    stated = {text: PublishedProtocol(stated=text, inferred="", unknown="", source=data["cite"]) for text in protocols}
    return tables, Publication(every_row=every_row, protocols=stated)


def _tables(file: TomlFile, listed: Sequence[Entry]) -> Iterator[SimpleTable]:
    names: set[str] = set()
    before = 0
    for index, entry in enumerate(file.data["table"]):
        where = file.where("table", index)
        for key, value in entry.items() if isinstance(entry, dict) else ():
            check(file.where("table", index, key), {key: value}, {}, {**_TABLE, **_TABLE_OPTIONAL})
        check(where, entry, _TABLE, _TABLE_OPTIONAL)
        name = entry["name"]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise BenchError(f"{where}: '{name}' is no name of a table: write small letters, digits and _.")
        if name in names:
            raise BenchError(f"{where}: two tables are called '{name}': give one another name.")
        names.add(name)
        inline = _inline_entries(file, entry.get("row", []), before)
        before += len(inline)
        printed = entry.get("printed", "")
        chosen = [row for row in listed if row.text("table") == printed] if printed or not inline else []
        entries = [*chosen, *inline]
        if not entries and not printed:
            raise BenchError(f"{where}: the table has no rows: write [[table.row]] below it.")
        if not entries:
            raise BenchError(f"{where}: no row has table = '{printed}': add rows, or name the table that they have.")
        rows = _rows(entries, entry, file.data["cite"])
        yield SimpleTable(
            name=name,
            title=entry["title"],
            gap=entry.get("gap", "none"),
            where=where,
            columns=_columns(file, index, entry, rows),
            remarks=texts(where, "remarks", entry.get("remarks", [])),
            rows=rows,
            places=tuple(line.where for line in entries),
        )


def _columns(file: TomlFile, index: int, entry: Mapping[str, Any], rows: Sequence[PaperRow]) -> tuple[Any, ...]:
    """The columns as asked for; by default everything that a row prints, and the counts."""
    if "columns" not in entry:
        printed = {metric for row in rows for metric in row.printed}
        shown = [word for word, (metric, _) in METRICS.items() if metric in printed or word in ("params", "flops")]
        return ("size", *shown)
    where = file.where("table", index, "columns")
    for word in entry["columns"]:
        if not isinstance(word, dict) and word not in WORDS:
            raise BenchError(f"{where}: column '{word}' is unknown: write one of {', '.join(WORDS)}.")
        if entry["columns"].count(word) > 1:
            raise BenchError(f"{where}: column '{word}' is there twice: delete one.")
    return tuple(entry["columns"])


def _csv_entries(path: Path, asked: str) -> list[Entry]:
    """The lines of the CSV file. Its first line names the columns."""
    try:
        text = text_of(path)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise BenchError(f"{asked}: cannot read {path} ({why}): name a CSV file beside this one.") from error
    reader = csv.reader(io.StringIO(text), strict=True)
    entries: list[Entry] = []
    try:
        head = next(reader, [])
        if unknown := [name for name in head if name not in _ROW and not RATE_ON.fullmatch(name)]:
            raise BenchError(f"{path}, line 1: column '{unknown[0][:40]}' is unknown: write some of {', '.join(_ROW)}.")
        if twice := [name for name in head if head.count(name) > 1]:
            raise BenchError(f"{path}, line 1: column '{twice[0]}' is there twice: delete one.")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if values and len(values) != len(head):
                raise BenchError(f"{where}: {len(values)} values stand below {len(head)} columns: mend the commas.")
            if values:
                line = {name: value.strip() for name, value in zip(head, values, strict=True) if value.strip()}
                own = line.pop("own", "") in ("true", "yes", "1")
                entries.append(Entry(where=where, values=line, own=own))
    except csv.Error as error:
        raise BenchError(f"{path}, line {reader.line_num}: {error}: mend the quotation marks.") from error
    return entries


def _inline_entries(file: TomlFile, rows: Sequence[Any], before: int) -> list[Entry]:
    """The rows that stand in the TOML file itself; `before` is how many do above them."""
    entries = []
    for index, row in enumerate(rows, before):
        if not isinstance(row, dict):
            raise BenchError(f"{file.where('table.row', index)}: a row is a table of TOML: write model = ...")
        place = partial(file.where, "table.row", index)
        values = {}
        for key, value in row.items():
            if (key not in _ROW and not RATE_ON.fullmatch(key)) or key == "table":
                known = ", ".join(name for name in _ROW if name != "table")
                raise BenchError(f"{place(key)}: key '{key}' is unknown: write one of {known}.")
            if key == "own":
                check(place(key), {key: value}, {key: bool})
                continue
            if isinstance(value, bool) or not isinstance(value, (str, int, Digits)):
                raise BenchError(f"{place(key)}: {key} = {value!r} is wrong: write a number or a text.")
            values[key] = value.text if isinstance(value, Digits) else str(value)
        entries.append(Entry(where=place("model"), values=values, own=row.get("own", False), place=place))
    return entries


def _rows(entries: Sequence[Entry], table: Mapping[str, Any], cite: str) -> tuple[PaperRow, ...]:
    """The rows, in order. Raises `BenchError` for two alike."""
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    compared = {"section", "label", "model", "size", "gpu", *METRICS, "note"}
    for entry in entries:
        alike = tuple(sorted((k, v) for k, v in entry.values.items() if k in compared or RATE_ON.fullmatch(k)))
        if alike in seen:
            raise BenchError(f"{entry.where}: the row is the same as that of {seen[alike]}: delete one of them.")
        seen[alike] = entry.where
    return tuple(_row(entry, number, table, cite) for number, entry in enumerate(entries, 1))


def _row(entry: Entry, number: int, table: Mapping[str, Any], cite: str) -> PaperRow:
    label, model = entry.text("label"), profiles.qualified(entry.text("model"))
    if not label and not model:
        raise BenchError(f"{entry.where}: the row has neither model nor label: name one.")
    return PaperRow(
        table=table["name"],
        number=number,
        section=entry.text("section"),
        marker=entry.text("marker"),
        label=label or model.rpartition(":")[2],
        model=model,
        image_size=_size(entry, model),
        printed=_printed(entry, table, cite),
        own=entry.own,
        has_size=bool(model or entry.text("size")),
    )


def _printed(entry: Entry, table: Mapping[str, Any], cite: str) -> dict[str, Number]:
    """What a row prints, by metric; further cards' rates are `throughput A100`."""
    printed = {METRICS[key][0]: _number(entry, key, table, cite) for key in METRICS if entry.text(key)}
    for match in filter(None, map(RATE_ON.fullmatch, entry.values)):
        metric = METRICS[match[1]][0]
        name = f"{metric} {match[2]}" if metric in printed else metric
        printed[name] = replace(_number(entry, match[0], table, cite), gpu=match[2])
    return printed


def _size(entry: Entry, model: str) -> ImageSize:
    text = entry.text("size")
    if not text:
        return profiles.own_size(model)
    if not SIZE.fullmatch(text) or not all(8 <= int(side) <= 10_000 for side in text.split("x")):
        raise BenchError(f"{entry.at('size')}: size = '{text}' is no number of pixels: write 224, or 800x1280.")
    return image_size(text)


def _number(entry: Entry, key: str, table: Mapping[str, Any], cite: str) -> Number:
    text = entry.text(key)
    if not DIGITS.fullmatch(text):
        raise BenchError(
            f"{entry.at(key)}: {key} = '{text[:60]}' is no number: write digits with a point, such as 28.6, or leave "
            "it out."
        )
    rate = "img/s" in key
    printed = table.get("printed", "")
    return Number(
        text=text,
        unit="img/s" if rate else METRICS[key][1],
        gpu=(entry.text("gpu") or table.get("gpu", "")) if rate else "",
        protocol=(entry.text("protocol") or table.get("protocol", "")) if rate else "",
        source=entry.text("source") or ", ".join(part for part in (cite, printed) if part),
        note=entry.text("note") if rate else "",
        remark="",
    )
