"""From a spec to the command that makes its number again: what a doubting reader types."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from visionbench.comparison.comparison import Comparison
from visionbench.comparison.switches import switch_of
from visionbench.record.program import program_name
from visionbench.record.record import Environment, Record
from visionbench.record.spec import PROTOCOLS, Spec
from visionbench.reports.paper.roadmap import steps

Option = tuple[str, object]

ROADS = {"10": "t", "11": "b"}
"""The paper's table of a road -> its name for `effects --roadmap`."""


def line_of(records: Sequence[Record]) -> str:
    """The command that makes these records of one key again."""
    record = records[-1]
    if record.source == "predicted":
        card = record.environment.device_key or record.environment.device
        return _line("predict", record.spec.model, [("gpu", card), *_spec(record.spec)])
    return traced(record.spec) if record.source == "computed" else measured(records)


def traced(spec: Spec) -> str:
    """The command that counts a spec."""
    return _line("trace", spec.model, _spec(spec))


def measured(launches: Sequence[Record]) -> str:
    """The command that measures the spec of these launches in the same way. It insists on the GPU, if it was one."""
    last = launches[-1]
    options: list[Option] = [*_spec(last.spec, always=True)]
    if last.protocol and last.protocol.name in PROTOCOLS:
        options.append(("protocol", last.protocol.name))
    return _line("run", last.spec.model, [*options, ("launches", len(launches)), *_where(last.environment)])


def compared(comparison: Comparison) -> str | None:
    """The command that measures a switch's or a step's effect again; None where a comparison was of something else."""
    name, spec = switch_of(comparison), comparison.baseline.spec
    pair = (spec.model, comparison.candidate.spec.model)
    roads = (road for table, road in ROADS.items() if pair in {(one.model, two.model) for one, two in steps(table)})
    road = next(roads, None)
    if name is None and road is None:
        return None
    size = [("image-size", spec.image_size)] if name else []  # a road has sizes and models of its own
    launches = [("launches", len(comparison.launches))] if comparison.launches else []
    what = [*size, *_spec(spec)[1:], *launches, ("seed", comparison.seed)]
    gpu = comparison.environment.device_type != "cpu"
    where = [("device", comparison.environment.device_type)] if gpu else _where(comparison.environment)
    first: Option = ("switches", name) if name else ("roadmap", road)
    return _line("effects", spec.model if name else None, [first, *what, *where])


def _spec(spec: Spec, *, always: bool = False) -> list[Option]:
    """What a spec is; `always`: also what a command would take for granted on some machine and not on another."""
    plain = Spec(model=spec.model)
    fields = [
        ("task", spec.task, plain.task),
        ("precision", spec.precision, None if always else plain.precision),
        ("memory-format", spec.memory_format, None if always else plain.memory_format),
        ("compile", spec.compile_mode, None),
        ("attention", spec.attention, plain.attention),
        ("processes", spec.processes, None),
        ("parallel", spec.parallel, None),
    ]
    told = [(name, value) for name, value, granted in fields if value not in (None, granted)]
    given = [*(("input", one) for one in spec.inputs or ()), *([("loss", spec.loss)] if spec.loss else [])]
    return [("image-size", spec.image_size), *given, ("batch-size", spec.batch_size), *told]


def _where(environment: Environment) -> list[Option]:
    if environment.device_type == "cpu":
        return [("device", "cpu"), *([("threads", environment.threads)] if environment.threads else [])]
    return [("gpu", environment.device_key)] if environment.device_key else [("device", environment.device_type)]


def _line(verb: str, model: str | None, options: Sequence[Option]) -> str:
    words = [word for name, value in options for word in (f"--{name}", str(value))]
    return shlex.join([*program_name().split(), verb, *([model] if model else []), *words])
