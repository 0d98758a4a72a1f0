"""Tables for machines: CSV with one line per row, JSON with everything. Values are at full precision in base
units.

CSV: `table, section, model_marker, model, image_size`, then for each column of numbers `<key>_<unit>`,
`<key>_source` and `<key>_origin`, and, where the column has any, `<key>_low`, `<key>_high`, `<key>_level` (how sure
that interval is: 0.95 of a measurement, 0.8 of a prediction), `<key>_least` and `<key>_most` (the range over nodes that
are too few for one) and `<key>_note`; last `spec_model`, the qualified name.
Text that begins with `=`, `+`, `-` or `@` gets an apostrophe before it, or a spreadsheet would compute it.
A cell without a value is empty; the cause of a failed measurement is in `<key>_note`. `pandas.read_csv(path)` reads it
as it is.
"""

from __future__ import annotations

import csv
import io
import json

from visionbench.record.clean import clean
from visionbench.reports.table import DASH, Cell, Heading, Note, Table, column_notes, footnotes

UNIT_WORDS = {"1/s": "per_s", "%": "percent", "B": "bytes", "1": ""}
"""How a base unit reads in the name of a CSV column, where not as it is."""


def to_csv(table: Table) -> str:
    """One line per row of the table; the columns are described in the module's docstring."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = [_parts(column, [row.cells[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    names = [_name(column, part) for column, its in zip(table.columns, parts, strict=True) for part in its]
    writer.writerow(["table", "section", *names, "spec_model"])
    for row in table.rows:
        fields = [_field(cell, part) for cell, its in zip(row.cells, parts, strict=True) for part in its]
        writer.writerow(map(plain, [table.name, row.section, *fields, row.subject]))
    return file.getvalue()


def plain(field: object) -> object:
    """A field of a CSV file: one line without characters that command, and never a spreadsheet's formula."""
    text = clean(field) if isinstance(field, str) else field
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA) else text


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _name(column: Heading, part: str) -> str:
    if part != "value":
        return f"{column.key}_{part}"
    unit = UNIT_WORDS.get(column.unit, column.unit) if column.source else ""
    return f"{column.key}_{unit}" if unit else column.key


def _parts(column: Heading, filled: list[Cell]) -> list[str]:
    """Which of a cell's fields a column needs: no empty interval columns for the published numbers."""
    if not column.source:
        return ["marker", "value"] if column.key == "model" else ["value"]
    interval = ["low", "high", "level"] if any(cell.low is not None for cell in filled) else []
    interval += ["least", "most"] if any(cell.least is not None for cell in filled) else []
    note = ["note"] if any(cell.notes or _cause(cell) for cell in filled) else []
    return ["value", *interval, "source", "origin", *note]


def _field(cell: Cell, part: str) -> object:
    if part == "marker":
        return cell.text.removesuffix(str(cell.value)).strip()
    if part == "note":
        return " ".join(filter(None, (_cause(cell), *cell.notes)))
    found = getattr(cell, part)
    return "" if found is None else found


def _cause(cell: Cell) -> str:
    """A word that stands where a number would: why a measurement failed."""
    return cell.text if cell.value is None and cell.text != DASH else ""


def to_json(table: Table) -> str:
    """The whole table: columns with units and notes, cells with text, value, interval, source, origin and footnotes."""
    data = {
        "name": table.name,
        "title": table.title,
        "columns": [_fields(column, "key", "name", "unit", "source") for column in table.columns],
        "rows": [
            {
                "section": row.section,
                "spec_model": row.subject,
                "cells": {column.key: _cell(cell) for column, cell in zip(table.columns, row.cells, strict=True)},
            }
            for row in table.rows
        ],
        "legend": [_fields(note, "term", "text") for note in table.legend],
        "notes": [_fields(note, "term", "text") for note in column_notes(table)],
        "footnotes": {mark: text for text, mark in footnotes(table).items()},
        "remarks": table.remarks,
    }
    return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _fields(part: Cell | Heading | Note, *names: str) -> dict[str, object]:
    return {name: getattr(part, name) for name in names}


def _cell(cell: Cell) -> dict[str, object]:
    """What a cell knows, where there is something to say."""
    known = _fields(cell, "text", "value", "source", "low", "high", "level", "least", "most")
    known |= {"notes": cell.notes or None, "origin": cell.origin or None}
    return {name: what for name, what in known.items() if what is not None}
