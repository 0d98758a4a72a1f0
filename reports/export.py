"""Records as one flat table, for pandas, spreadsheets and databases: one line per measurement of a launch.

The schema does not grow with the metrics, so it can be relied on; a failed launch is one line without a metric.
Columns:

- `record`: number of the record in the export, from 0 (the lines of one launch share it).
- `model`, `task`, `batch_size`, `image_size`, `precision`, `memory_format`, `compile_mode`, `attention`, `inputs`,
  `loss`, `processes`, `parallel`: the spec. `inputs` are text as one types them, separated by blanks, and empty for
  images of three channels. `loss` is a function of the user's that training minimises. `processes` train together by
  `parallel` (ddp, ddp_views, fsdp2), each with that batch. The size of an image that is not square is text, `800x1280`
  (height x width), and in parquet then every size is; it is empty where the inputs hold no image.
- `source`: measured, computed or predicted; `protocol`: its name, empty for a count.
- `network`: a hash of what a user's function made and of its sources; empty for other networks.
- `device`, `device_type`, `device_name`, `threads`, `malloc`, `variables`, `torch`, `timm`, `cuda`, `driver`, `python`,
  `git_commit`, `git_dirty`, `started`: where and when. `device` is the short name that records of one machine share.
- `failure_kind`, `failure_stage`, `failure_message`: why there is no number; empty where there is one.
- `metric`, `unit`, `better`, `assume`: which measurement, in base units (s, B, count, J).
- `iterations`: how many steps one value spans. `value`: the median of the values, of one step; `least`, `most`: the
  smallest and the largest, of one step. `number`: how many values.
- `low`, `high`, `level`: a prediction's interval, and how sure it is (0.8 is 80 %); empty elsewhere.
- `images_per_second`: of a `throughput` line, batch size / `value`; empty elsewhere.
- `flags`: what makes the values doubtful, separated by blanks.
- `values`: all values as they were taken, chronological (a list; in CSV its JSON).

What is not known is empty (null). `pandas.read_csv(path)` and `pandas.read_parquet(path)` read it as it is.

`history` is another table, for programs that look for a change of level: one line per file, one column per row.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from statistics import median
from typing import Any

from visionbench.record.clean import clean_json
from visionbench.record.errors import BenchError, choose
from visionbench.record.record import Measurement, Record
from visionbench.record.statistics import images_per_second, throughput
from visionbench.reports.render.flat import plain

FORMATS = ("csv", "json", "parquet", "otava")

SPEC = (
    "model", "task", "batch_size", "image_size", "precision", "memory_format", "compile_mode", "attention", "inputs",
    "loss", "processes", "parallel",
)  # fmt: skip
PLACE = (
    "device_type", "device_name", "threads", "malloc", "variables", "torch", "timm", "cuda", "driver", "python",
    "git_commit", "git_dirty",
)  # fmt: skip
FAILURE = ("kind", "stage", "message")
METRIC = ("metric", "unit", "better", "assume")
NUMBERS = (
    "iterations", "value", "least", "most", "number", "low", "high", "level", "images_per_second", "flags", "values",
)  # fmt: skip

COLUMNS: tuple[str, ...] = (
    *("record", *SPEC, "source", "protocol", "network", "device", *PLACE, "started"),
    *(f"failure_{name}" for name in FAILURE),
    *METRIC,
    *NUMBERS,
)
"""Every column, in order."""


def lines(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The flat table, line by line; every line has every column."""
    for number, record in enumerate(records):
        head = _head(number, record)
        for measurement in record.measurements:
            yield head | _numbers(record, measurement)
        if not record.measurements:
            yield head


def _head(number: int, record: Record) -> dict[str, Any]:
    spec, where, failure = asdict(record.spec), asdict(record.environment), record.failure
    pixels = record.spec.pixels
    spec["image_size"] = int(pixels) if pixels.isdecimal() else pixels or None
    spec["inputs"] = " ".join(record.spec.inputs) if record.spec.inputs else None
    return dict.fromkeys(COLUMNS) | {
        "record": number,
        **{name: spec[name] for name in SPEC},
        "source": record.source,
        "protocol": record.protocol.name if record.protocol else None,
        "network": record.network,
        "device": record.environment.device,
        **{name: where[name] for name in (*PLACE, "started")},
        **{f"failure_{name}": getattr(failure, name, None) for name in FAILURE},
    }


def _numbers(record: Record, its: Measurement) -> dict[str, Any]:
    per_step = [value / its.iterations for value in its.values]
    known = {"value": median(per_step), "least": min(per_step), "most": max(per_step)} if per_step else {}
    rate = images_per_second(record) if its.metric == "throughput" else None
    return {
        **{name: getattr(its, name) for name in (*METRIC, "iterations", "low", "high", "level")},
        **{name: _finite(value) for name, value in known.items()},
        "number": len(its.values),
        "images_per_second": _finite(rate),
        "flags": " ".join(its.flags),
        "values": list(its.values),
    }


def _finite(value: float | None) -> float | None:
    """None for what no table can hold: of a time near the largest number there is no rate."""
    return value if value is not None and math.isfinite(value) else None


def export(files: Sequence[Sequence[Record]], form: str) -> bytes:
    """The records of some files in one of `FORMATS`.

    Raises `BenchError` for another format, for parquet without pyarrow, and for a history without a common row.
    """
    choose("format", form, FORMATS)
    if form == "otava":
        return history(files).encode()
    table = lines(record for file in files for record in file)
    if form == "parquet":
        return _parquet(table)
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for line in table:
            values = None if line["values"] is None else json.dumps(line["values"])
            writer.writerow({name: plain(field) for name, field in (line | {"values": values}).items()})
        return file.getvalue().encode()
    objects = (json.dumps(line, ensure_ascii=False, allow_nan=False) for line in table)
    return clean_json("[" + ",\n".join(objects) + "]\n").encode()


def history(files: Sequence[Sequence[Record]]) -> str:
    """A CSV that Apache Otava reads: a line per file, `time` and `commit`, then images per second of every row.

    A row is a spec on a device by a protocol. Only rows that every file has are columns, because Otava takes no gaps;
    versions of torch are not told apart, because a history is there to show them. `time` is when the newest launch of
    the file began. Raises `BenchError` where no row is in all files.
    """
    sessions = [_session(file) for file in files]
    common = [row for row in sessions[0][2] if all(row in rates for _, _, rates in sessions)] if sessions else []
    if not common:
        raise BenchError("no measured row is in all of these files: export files that measured the same rows.")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(plain, ("time", "commit", *common)))
    for started, commit, rates in sorted(sessions, key=lambda session: session[0]):
        writer.writerow(map(plain, (started, commit, *(rates[row] for row in common))))
    return file.getvalue()


def _session(file: Sequence[Record]) -> tuple[str, str, dict[str, float]]:
    """When a file's newest launch began, of which commit it was, and the images per second of its rows."""
    launches: dict[str, list[Record]] = {}
    for record in file:
        if record.source == "measured" and record.protocol is not None:
            row = f"{record.spec}, {record.environment.device}, {record.protocol.name}"
            launches.setdefault(row, []).append(record)
    places = [record.environment for record in file]
    newest = max(((place.started or "", place.git_commit or "") for place in places), default=("", ""))
    rates = {row: rate.centre for row, records in launches.items() if (rate := throughput(records)) is not None}
    return *newest, rates


def _parquet(table: Iterable[dict[str, Any]]) -> bytes:
    if find_spec("pyarrow") is None:
        raise BenchError("parquet needs pyarrow: pip install 'visionbench[parquet]', or say --format csv.")
    import pandas as pd

    file = io.BytesIO()
    frame = pd.DataFrame(table, columns=list(COLUMNS)).convert_dtypes()
    if frame["image_size"].dtype == object:  # numbers and text: a column of parquet is of one type
        frame["image_size"] = frame["image_size"].astype(str)
    frame.to_parquet(file, index=False)
    return file.getvalue()
