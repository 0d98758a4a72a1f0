"""From a user's words to specs: which models, at which sizes, run how. Raises `BenchError` for what cannot be."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.record.devices import DeviceSpec, identify, select
from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import (
    EFFORTS,
    PROTOCOLS,
    SMOKE,
    STEADY,
    SUITES,
    SWIN,
    MemoryFormat,
    Precision,
    Protocol,
    Spec,
    Task,
)

if TYPE_CHECKING:
    from visionbench.reports.printed import PaperRow

PAPER_BATCH = 64
"""Images per batch of the paper's throughput numbers ("following Swin")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to measure, and how numbers are made there unless the user says otherwise.

    Several `devices` are alike, and rows are spread over them.
    """

    devices: tuple[str, ...]
    protocol: Protocol
    precision: Precision
    memory_format: MemoryFormat
    batch_size: int

    @property
    def on_cpu(self) -> bool:
        """Whether this is the CPU, where only a handful of rows is measured unasked."""
        return self.devices == ("cpu",)


def place(options: Namespace) -> Place:
    """The device that the options name or that is here.

    `--gpu a100` insists: another GPU, or none, is a `BenchError` that says what was found. On it rows are measured
    as the paper's Table 12 was (TF32, channels_last), or, where the GPU has no TF32, as its Table 1 (fp32,
    contiguous).
    """
    from visionbench.machine.environment import describe, find_device

    words = options.device or ("cuda" if options.gpu else find_device())
    found = [_insist(options.gpu, word.strip()) for word in words.split(",")][-1] if options.gpu else None
    devices = _devices(words)
    if found is not None:
        as_table_12 = found.tf32 is not None
        settings: tuple[Precision, MemoryFormat] = ("tf32", "channels_last") if as_table_12 else ("fp32", "contiguous")
        return Place(
            devices=devices,
            protocol=_protocol(options, SWIN),
            precision=settings[0],
            memory_format=settings[1],
            batch_size=PAPER_BATCH,
        )
    on_gpu = describe(devices[0]).device_type != "cpu"
    protocol = _protocol(options, STEADY if on_gpu else SMOKE)
    return Place(
        devices=devices,
        protocol=protocol,
        precision="fp32",
        memory_format="contiguous",
        batch_size=PAPER_BATCH if on_gpu else 1,
    )


def _devices(words: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` -> both. Workers beside each other are for GPUs alone: on one CPU they would time each other."""
    from visionbench.machine.environment import describe

    devices = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    there = [describe(device) for device in devices]
    for device, one in zip(devices, there, strict=True):
        if one.device_type not in ("cpu", "cuda"):
            raise BenchError(f"--device {device}: only cuda and cpu are measured; name one of them.")
        if one.device_type == "cuda" and one.device_name is None:
            raise BenchError(f"--device {device}: torch finds no such GPU here; use --device cpu, or check the driver.")
    if len(devices) == 1:
        return devices
    if any(one.device_type != "cuda" for one in there):
        raise BenchError(f"--device {words}: only CUDA GPUs can be measured side by side; name one device.")
    if len({one.device for one in there}) > 1:
        raise BenchError(
            f"--device {words}: these are different GPUs: their rows belong in different columns; name one."
        )
    return devices


def _insist(word: str, device: str) -> DeviceSpec:
    from visionbench.machine.environment import describe, find_device

    wanted = select(word)
    if not device.startswith("cuda") or find_device() != "cuda":
        raise BenchError(
            f"--gpu {word}: there is no CUDA GPU here (torch finds only the CPU). "
            f"Run this on a machine with one, or leave --gpu away to measure this CPU."
        )
    name = describe(device).device_name or "unknown"
    found = identify(name)
    if found not in wanted:
        known = f"--gpu {found.key}" if found else "no --gpu (this GPU is not in the table of `list devices`)"
        raise BenchError(f"--gpu {word}: the GPU here is a {name}. Use {known}, or run this on a {word}.")
    assert found is not None
    return found


def _protocol(options: Namespace, default: Protocol) -> Protocol:
    """The protocol asked for. `--effort` without `--protocol` means ours."""
    protocol = PROTOCOLS[options.protocol] if options.protocol else STEADY if options.effort else default
    launches = options.launches or EFFORTS.get(options.effort, protocol.launches)
    return replace(protocol, launches=launches, target_rel_ci=options.target_ci)


def chosen(options: Namespace, here: Place) -> tuple[Spec, ...]:
    """The specs of `run`: models (with wildcards), tables and suites, each once, in the order given.

    A bare word may be any of the three: no table and no suite is called like a model.
    """
    from visionbench.reports import REPORTS

    words: list[str] = options.models
    tables = [*options.table, *(word for word in words if word in REPORTS)]
    suites = [*options.suite, *(word for word in words if word in SUITES)]
    named = _models((word for word in words if word not in REPORTS and word not in SUITES), options.image_size)
    rows = [*named, *_tables(tables, options.image_size)]
    rows += [(spec.model, options.image_size or spec.image_size) for name in suites for spec in SUITES[name]]
    if not rows:
        raise BenchError(
            "nothing to run: name a model, a table or a suite (`list models`, `list tables`, `list suites`)."
        )
    return tuple(_spec(model, size, options, here) for model, size in dict.fromkeys(rows))


CHECK = Protocol(name="check", metrics=(), warmup_iterations=1, blocks=0, block_iterations=1, max_seconds=60.0)
"""One step, untimed."""

CHECKED_AHEAD = 32
"""More models than this come from wildcards, where one that cannot be built is a row, not a mistake."""


def check(specs: Iterable[Spec], here: Place, options: Namespace) -> None:
    """Try user's factories, and image sizes that were asked for, with one image in a process of its own.

    Raises `BenchError` for a factory that is none and for a size that the model refuses: now, and not after an
    hour. What goes wrong in another way (it crashes, hangs, does not fit) is for the sweep to record.
    """
    from visionbench.measuring.process.launch import launch

    doubtful = {replace(s, batch_size=1) for s in specs if s.model.startswith("user:") or options.image_size}
    for spec in sorted(doubtful, key=str) if len(doubtful) <= CHECKED_AHEAD else ():
        failure = launch(spec, CHECK, here.devices[0], options.threads).failure
        if failure is None or failure.kind != "error":
            continue
        if failure.stage == "build":
            raise BenchError(failure.message)
        if options.image_size:
            remedy = "choose another --image-size, or mend the model."
            raise BenchError(f"{spec.model} does not run at {spec.image_size} px ({failure.message}): {remedy}")


def _spec(model: str, image_size: int, options: Namespace, here: Place) -> Spec:
    return Spec(
        model=model,
        task=options.task,
        # `max` is searched for later (`batches`); the spec needs some size until then
        batch_size=options.batch_size if isinstance(options.batch_size, int) else here.batch_size,
        image_size=image_size,
        precision=options.precision or here.precision,
        memory_format=options.memory_format or here.memory_format,
        compile_mode=options.compile_mode,
        attention=options.attention,
    )


def usual_batch(asked: int | None, device: str) -> int:
    """Images a step of what takes turns: as asked, else one on a CPU and the paper's batch on a GPU."""
    return asked or (1 if device.startswith("cpu") else PAPER_BATCH)


def gated(options: Namespace, device: str) -> tuple[Spec, ...]:
    """The specs of `gate`: models and suites as named, the suite `ci` if none is."""
    batch = usual_batch(options.batch_size, device)
    there = Place(devices=(device,), protocol=STEADY, precision="fp32", memory_format="contiguous", batch_size=batch)
    rows = _rows([*options.models, *options.model, *options.suite], options.image_size)
    return tuple(_spec(model, size, options, there) for model, size in rows)


def plain(options: Namespace, device: str) -> tuple[Spec, ...]:
    """The plain runs of `effects`, per model and task: fp32, contiguous, eager."""
    if not options.models:
        raise BenchError("nothing to compare: name models (`list models`), or a road with --roadmap t or --roadmap b.")
    batch = usual_batch(options.batch_size, device)
    rows = dict.fromkeys(_rows(options.models, options.image_size))
    return tuple(
        Spec(model=model, task=task, batch_size=batch, image_size=size, attention=options.attention)
        for task in tasks(options.task)
        for model, size in rows
    )


def tasks(word: str) -> tuple[Task, ...]:
    """`both` -> inference and train."""
    return ("inference", "train") if word == "both" else ("train",) if word == "train" else ("inference",)


def steps(options: Namespace, device: str) -> tuple[tuple[Spec, Spec], ...]:
    """`effects --roadmap`: the specs of every step of the road, before and after."""
    from visionbench.reports.paper import roadmap

    batch = usual_batch(options.batch_size, device)
    pairs = roadmap.steps({"t": "10", "b": "11"}[options.roadmap])

    def spec(row: PaperRow, task: Task) -> Spec:
        return Spec(
            model=row.model,
            task=task,
            batch_size=batch,
            image_size=options.image_size or row.image_size,
            precision=options.precision,
            memory_format=options.memory_format,
            attention=options.attention,
        )

    return tuple((spec(before, task), spec(row, task)) for task in tasks(options.task) for before, row in pairs)


def predicted(options: Namespace, batch_size: int) -> tuple[Spec, ...]:
    """The specs of `predict`: models and tables as named, Table 1 if none is."""
    from visionbench.reports import REPORTS

    words = [word for word in options.models if word not in REPORTS]
    tables = [*options.table, *(word for word in options.models if word in REPORTS)]
    rows = _models(words, options.image_size)
    rows += _tables(tables if tables or words else ["convnext_table1"], options.image_size)
    there = Place(devices=("cuda",), protocol=SWIN, precision="fp32", memory_format="contiguous", batch_size=batch_size)
    return tuple(_spec(model, size, options, there) for model, size in dict.fromkeys(rows))


def counted(words: Iterable[str], image_size: int | None) -> tuple[Spec, ...]:
    """The specs of `compare --exact`: one image, at the default of everything else."""
    return tuple(Spec(model=model, image_size=size) for model, size in _rows(words, image_size))


def _rows(words: Iterable[str], image_size: int | None) -> list[tuple[str, int]]:
    """Models and sizes as named, each once; those of the suite `ci` if none is."""
    wanted = list(words) or ["ci"]
    rows = _models((word for word in wanted if word not in SUITES), image_size)
    rows += [(spec.model, image_size or spec.image_size) for word in wanted for spec in SUITES.get(word, ())]
    return list(dict.fromkeys(rows))


def _models(words: Iterable[str], image_size: int | None) -> list[tuple[str, int]]:
    from visionbench import models

    cards = [models.resolve(name) for word in words for name in models.expand(word)]
    return [(card.name, image_size or card.image_size) for card in cards]


def _tables(names: Iterable[str], image_size: int | None) -> list[tuple[str, int]]:
    from visionbench.reports import REPORTS

    rows = [row for name in names for row in REPORTS[choose("table", name, REPORTS)].measured_rows()]
    return [(model, image_size or size) for model, size in rows]


def traced(options: Namespace) -> tuple[Spec, ...]:
    """The specs of `trace`: one per model."""
    anywhere = Place(devices=("meta",), protocol=SMOKE, precision="fp32", memory_format="contiguous", batch_size=1)
    return tuple(_spec(model, size, options, anywhere) for model, size in _models(options.models, options.image_size))
