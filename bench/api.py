"""The Python API: `from visionbench import trace, measure, predict, compare, report, read_records`.

`trace`, `measure` and `compare` take names, modules, and functions that return a module. Each function builds the
request that the command line would, and calls the same functions below. What cannot be done is a
`visionbench.record.errors.BenchError`, or for a model's name a `visionbench.models.ModelError`: one sentence with its
remedy. Progress goes to stderr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack

from visionbench.command.requests import Format, HowLong, HowToRun, Output, Selection, Turns, Where
from visionbench.command.runs_table import html_of_judgement, html_of_records
from visionbench.command.spoken import in_python
from visionbench.comparison.verdict import Judgement
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.inputs import texts_of
from visionbench.record.record import Record
from visionbench.record.spec import Attention, CompileMode, MemoryFormat, Parallel, Precision, Task
from visionbench.record.units import first_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from visionbench.command.objects import Handed

Inputs: TypeAlias = "str | Sequence[str] | Tensor | Sequence[Tensor] | Mapping[str, Any]"
"""What networks are given, as `--input` takes it: "1x224x224", or several. A module takes tensors, too: one, several by
position, or a mapping by keyword."""

Network: TypeAlias = "str | nn.Module | Callable[..., nn.Module]"
"""A name, a module, or a function that returns one."""


class Records(list[Record]):
    """Records as a list, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return html_of_records(self)


# What a notebook shows is made by the rooms above the data, so they are told here: the data know nothing of tables.
setattr(Record, "_repr_html_", lambda record: html_of_records([record]))  # noqa: B010 -- mypy knows no such attribute
setattr(Judgement, "_repr_html_", html_of_judgement)  # noqa: B010


class Settings(TypedDict, total=False):
    """How models are run, by keyword: `task` (inference or train), `batch_size` (images per step, or "max"),
    `image_size` (pixels of the square input, or height and width), `inputs` (as `--input`), `loss` (as `--loss`),
    `precision`, `memory_format`, `compile_mode` (torch.compile's mode) and `attention` (fused or math); `processes`
    train together by `parallel` (ddp or ddp_views; `measure` only), and the batch is then each process's. What is left
    out is each model's own, fp32, contiguous, eager, fused.
    """

    task: Task
    batch_size: int | Literal["max"]
    image_size: int | tuple[int, int]
    inputs: Inputs
    loss: str
    precision: Precision
    memory_format: MemoryFormat
    compile_mode: CompileMode
    attention: Attention
    processes: int
    parallel: Parallel


def _asked(models: Sequence[str], settings: Settings) -> tuple[Selection, HowToRun]:
    """What is run, and how, as a request has it."""
    _refuse_unknown(settings)
    how = {name: value for name, value in settings.items() if name not in ("image_size", "inputs", "loss")}
    selection = _selection(models, settings.get("image_size"), settings.get("inputs"), settings.get("loss"))
    return selection, HowToRun(**how)  # type: ignore[arg-type]


def _refuse_unknown(settings: Settings) -> None:
    if unknown := sorted(set(settings) - set(Settings.__annotations__)):
        raise BenchError(f"there is no setting {', '.join(unknown)}: choose of {', '.join(Settings.__annotations__)}.")


def _selection(
    models: Sequence[str], image_size: int | tuple[int, int] | None, inputs: Inputs | None, loss: str | None
) -> Selection:
    several: Any = inputs.values() if isinstance(inputs, Mapping) else inputs
    given = several if isinstance(inputs, (Mapping, tuple, list)) else (several,)
    if any(hasattr(value, "shape") and hasattr(value, "dtype") for value in given):
        raise BenchError('the inputs of a name are described, as in inputs="1x224x224": tensors go with a module.')
    return Selection(words=tuple(models), image_size=image_size, inputs=texts_of(inputs), loss=loss)


def _objects(models: Sequence[Any], settings: Settings, device: str | None = None) -> tuple[Handed, ...]:
    """Networks that were handed over as objects, and perhaps their inputs behind them; () where all are names.

    Raises `BenchError` for names among objects, and for what is no network.
    """
    from visionbench.command import objects

    if all(isinstance(model, str) for model in models):
        return ()
    networks = [model for model in models if not _is_input(model)]
    if not networks:
        first = models[0]
        if isinstance(first, (list, tuple)) and first and all(isinstance(name, str) for name in first):
            raise BenchError(f"names are handed over one by one, and not as a {type(first).__name__}: unpack it.")
        raise BenchError("there is only an input: hand over a network before it.")
    inputs: Any = [model for model in models if _is_input(model)] or settings.get("inputs")
    if len(models) > len(networks):
        inputs = inputs[0]
        if models[-1] is not inputs or settings.get("inputs") is not None:
            raise BenchError("inputs come once, behind the networks or as inputs=.")
    kinds = {objects.is_object(network) for network in networks}  # each is looked at: one may be nothing of the kind
    if False in kinds:
        raise BenchError("names and objects are not mixed: hand over the function instead of its name.")
    _refuse_unknown(settings)
    if settings.get("processes") or settings.get("parallel"):
        raise BenchError(
            "several processes cannot have one object: name a function, or leave processes and parallel out."
        )
    if settings.get("batch_size") == "max":
        raise BenchError("the largest batch is searched for in fresh processes: give an object a number of images.")
    from visionbench.machine.environment import find_device

    on_gpu = (device or find_device()) != "cpu"
    return objects.together([objects.handed(network, inputs, settings, on_gpu=on_gpu) for network in networks])


def _is_input(value: object) -> bool:
    import torch

    return isinstance(value, (torch.Tensor, tuple, list, Mapping))


Files: TypeAlias = "str | Path | Sequence[str | Path] | None"
"""One file, several, or None for the defaults."""


@in_python
def trace(
    model: Network,
    inputs: Inputs | None = None,
    *,
    task: Task = "inference",
    batch_size: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    loss: str | None = None,
    precision: Precision = "fp32",
    memory_format: MemoryFormat = "contiguous",
    attention: Attention = "fused",
    processes: int | None = None,
    parallel: Parallel | None = None,
) -> Record:
    """Count one model exactly: no weights, no hardware, nothing is run.

    Args:
        model: `convnext_tiny`, `timm:resnet50`, `paper:...`, or `user:package.module:factory`; or a module, or a
            function that returns one. An object is counted in a fork of this process, and stays as it is.
        inputs: what the network is given, as `--input` takes it: `"1x224x224"`, or several; None is images. With an
            object also tensors, which say the batch size.
        task: `inference`, or `train` for a training step with its memory.
        batch_size: images per step; None is one.
        image_size: side of the square input in pixels, or (height, width); None is the model's own.
        loss: what a training step minimises, as `--loss`: `"user:my.nets:loss"`; None is the rule for outputs.
        precision: `fp32`, `tf32`, `fp16`, `bf16`, `amp_fp16` or `amp_bf16`.
        memory_format: `contiguous` or `channels_last`.
        attention: `fused`, or `math` for the kernels of 2022.
        processes: how many train together, each with this batch; for the memory of one of them.
        parallel: `ddp`, `ddp_views` (with `gradient_as_bucket_view`) or `fsdp2`; None is `ddp` for several processes.

    Returns:
        A computed record. `record.value("params")`, `("macs")` and other counts are of one step of the whole batch, in
        base units (counts, bytes).

    Raises:
        BenchError: the model cannot be traced, or a word is unknown.
        ModelError: there is no such model.

    Example:
        >>> from visionbench import trace
        >>> int(trace("resnet18").value("params"))
        11689512
    """
    settings: dict[str, Any] = {"task": task, "precision": precision, "memory_format": memory_format}
    settings |= {"attention": attention, "batch_size": batch_size, "image_size": image_size, "inputs": inputs}
    settings |= {"loss": loss, "processes": processes, "parallel": parallel}
    from visionbench.command.selection import specs_to_trace
    from visionbench.command.verbs.trace import counted

    if not isinstance(model, str):
        from visionbench.models.given import known

        [network] = _objects([model], settings, "cpu")  # type: ignore[arg-type]
        with known(*filter(None, (network.given,))):
            return counted(network.spec)
    specs = specs_to_trace(*_asked((model,), settings))  # type: ignore[arg-type]
    if len(specs) > 1:
        raise BenchError(f"'{model}' is {len(specs)} models: name one of {first_of([spec.model for spec in specs])}.")
    return counted(specs[0])


@in_python
def measure(
    *models: Network | Inputs,
    device: str | None = None,
    threads: int | None = None,
    protocol: str | None = None,
    launches: int | None = None,
    budget: float | None = None,
    records: str | Path | None = None,
    **settings: Unpack[Settings],
) -> Records:
    """Measure models on this machine, each launch in a fresh process.

    Args:
        models: names as for `trace`, wildcards (`timm:swin_*`), or names of tables and suites. Or a module, or a
            function that returns one, and perhaps its inputs. A function that can be imported is measured in fresh
            processes; any other object in this one, on a copy, once, and the record says so.
        device: `cuda`, `cuda:1` or `cpu`; None is the GPU if there is one.
        threads: CPU threads; None is torch's choice.
        protocol: `swin`, `steady` or `smoke`; None is `steady` on a GPU and `smoke` on a CPU.
        launches: fresh processes per row; an interval needs 7.
        budget: seconds after which no launch is started.
        records: a file that records are appended to, so that the same call goes on where it stopped; None keeps none.
        settings: see `Settings`; the batch size is 64 on a GPU and 1 on a CPU unless it is given.

    Returns:
        The records of these rows by this protocol, one per launch, in the file's order: with a file, earlier launches,
        too. A launch that failed is a record with a `failure`. Values are in base units (seconds, bytes).
        `visionbench.record.statistics.throughput(records)` makes images per second of them, with an interval.

    Raises:
        BenchError: before the first launch for what cannot be measured, and for a file that cannot be written.
        ModelError: there is no such model.

    Example:
        >>> from visionbench import measure
        >>> [record] = measure("resnet18", image_size=64, device="cpu", launches=1)
        >>> record.source
        'measured'
    """
    path = Path(records) if records is not None else None
    where = Where(device=device, threads=threads)
    how_long = HowLong(protocol=protocol, launches=launches, budget=budget)
    if networks := _objects(models, settings, device):
        if any(network.given for network in networks):
            from visionbench.command import objects

            return Records(objects.measure(network, where, how_long, path) for network in networks)
        models = tuple(network.spec.model for network in networks)
        settings |= {"inputs": networks[0].spec.inputs or (), "batch_size": networks[0].spec.batch_size}
    selection, how = _asked(models, settings)  # type: ignore[arg-type]
    return _launched(selection, how, where, how_long, path)


def _launched(selection: Selection, how: HowToRun, where: Where, how_long: HowLong, path: Path | None) -> Records:
    from visionbench.command.verbs.run import Request, measure, place_to_measure

    with TemporaryDirectory() as folder:
        path = path or Path(folder) / "records.jsonl"
        request = Request(selection=selection, how=how, where=where, how_long=how_long, records=path)
        place = place_to_measure(where, how_long)
        specs, _ = measure(request, place=place)
        known = store.read_if_there(path).records
    name = place.protocol.name
    measured = [record for record in known if record.protocol is not None and record.protocol.name == name]
    return Records(record for record in measured if record.spec in specs)


@in_python
def predict(
    *models: str,
    gpu: str,
    task: Task = "inference",
    batch_size: int | Literal["max"] | None = None,
    image_size: int | tuple[int, int] | None = None,
    inputs: Inputs | None = None,
    loss: str | None = None,
    precision: Precision | None = None,
    memory_format: MemoryFormat | None = None,
    attention: Attention = "fused",
    records: Files = None,
) -> Records:
    """Estimate speed and memory on a GPU that is not here.

    Args:
        models: names as for `measure`; none is Table 1 of the ConvNeXt paper.
        gpu: `v100`, `a100`, `h100-sxm5-80gb`, ..., or the path of a TOML file that describes a card.
        task: as for `trace`.
        image_size: as for `trace`.
        inputs: as for `trace`.
        loss: as for `trace`.
        attention: as for `trace`.
        batch_size: images per step; None is 64, `max` the largest training step that fits the card's memory.
        precision: None is TF32 on a card with TF32, else fp32.
        memory_format: None is channels_last on a card with TF32 if no precision is named, else contiguous.
        records: files of rows measured on other cards, used as ratios.

    Returns:
        A predicted record per card of that name and row. `visionbench.record.prediction.prediction(record)` gives
        seconds per step with the 80 % interval and what they rest on. What is refused is a record with a `failure`.

    Raises:
        BenchError: no such card, or a file cannot be read.
        ModelError: there is no such model.

    Example:
        >>> from visionbench import predict
        >>> [record] = predict("convnext_tiny", gpu="a100-sxm4-80gb")
        >>> record.source
        'predicted'
    """
    from visionbench.command.verbs.predict import Request, predict_rows

    if not all(isinstance(model, str) for model in models):
        raise BenchError("a prediction needs names: put a function that returns the network into a module.")
    how = HowToRun(
        task=task, batch_size=batch_size, precision=precision, memory_format=memory_format, attention=attention
    )
    selection = _selection(models, image_size, inputs, loss)
    _, predicted = predict_rows(Request(gpu=gpu, selection=selection, how=how, records=_paths(records)))
    return Records(predicted)


@in_python
def compare(
    *models: Network | Inputs,
    base: str | None = None,
    head: str | None = None,
    vary: Mapping[str, str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    launches: int | None = None,
    rounds: int | None = None,
    budget: float | None = None,
    seed: int | None = None,
    keep: str | Path | None = None,
    **settings: Unpack[Settings],
) -> Judgement:
    """Gate: is the candidate slower than the baseline? Two processes live beside each other and take turns.

    Args:
        models: names as for `measure`, or names of suites, each compared with itself at another revision or setting.
            Or two objects and perhaps their inputs: one process is `inconclusive`, and `remarks` say the ratio.
        base: the baseline, a git revision of the repository that the working folder is in; None is HEAD.
        head: the candidate, a git revision; None is the working tree.
        vary: settings that the candidate has instead, as in `{"precision": "bf16"}`, without `base` and `head`.
        device: as for `measure`.
        threads: CPU threads; None is 1, which is timed by CPU time.
        launches: process pairs per look; None is 10.
        rounds: turns of each side in a launch; None is 10 to 40.
        budget: seconds after which measuring stops.
        seed: the random seed of orders; None is random.
        keep: a file that the raw turns are appended to.
        settings: see `Settings`; the batch size is 1 on a CPU and 64 on a GPU unless it is given.

    Returns:
        A judgement with a verdict per row: `verdict.word` is `ok`, `improved`, `regressed`, `inconclusive` or
        `not measured`, and `verdict.ratio` is of time, candidate over baseline, with its interval.

    Raises:
        BenchError: nothing to compare, no such revision, or a setting that changes nothing.
        ModelError: there is no such model.

    Example:
        >>> from visionbench import compare
        >>> judgement = compare("ladder:mlp_1", vary={"precision": "bf16"}, device="cpu", launches=1, rounds=2)
        >>> len(judgement.verdicts)
        1
    """
    from visionbench.command.verbs.gate import Request, judge_sides

    if "processes" in settings or "parallel" in settings:
        raise BenchError("two sides in turns are one process each: leave processes and parallel out.")
    if not models:
        raise BenchError('nothing to compare: name a model or a suite, for example "ci".')
    path = Path(keep) if keep is not None else None
    turns = Turns(
        device=device, threads=threads, launches=launches, rounds=rounds, budget=budget, seed=seed, keep=path
    )  # fmt: skip
    if networks := _objects(models, settings, device):
        return _compare_objects(networks, turns, varied=bool(base or head or vary))
    selection, how = _asked(models, settings)  # type: ignore[arg-type]
    varied = tuple((vary or {}).items())
    return judge_sides(Request(selection=selection, how=how, turns=turns, base=base, head=head, vary=varied))


def _compare_objects(networks: Sequence[Handed], turns: Turns, *, varied: bool) -> Judgement:
    from visionbench.command import objects

    if len(networks) != 2 or varied:
        raise BenchError("two objects are compared with each other, without base, head or vary: hand over two.")
    baseline, candidate = networks
    if not (baseline.given or candidate.given):
        from visionbench.command.verbs.gate import judge_two

        return judge_two(baseline.spec, candidate.spec, turns)
    if turns.launches not in (None, 1) or turns.budget is not None or turns.keep is not None:
        raise BenchError(
            "launches are fresh processes, which cannot have these objects: put functions that return them into a "
            "module, or leave launches, budget and keep out."
        )
    where = Where(device=turns.device, threads=turns.threads)
    return objects.compare(baseline, candidate, where, turns.rounds, turns.seed)


def report(
    *tables: str,
    format: Format = "markdown",  # noqa: A002 -- the option's name
    records: Files = None,
    comparisons: Files = None,
    width: int | None = None,
) -> str:
    """A table from recorded numbers, as text. Needs no torch and no GPU.

    Args:
        tables: `convnext_table1`, `effects`, ... (`visionbench list tables`).
        format: `terminal`, `markdown`, `latex`, `csv`, `json` or `html`.
        records: files of records; None is `visionbench.jsonl` here. The counts that come with visionbench are added.
        comparisons: files that `effects` has kept; None is `visionbench-effects.jsonl` here.
        width: columns, for `terminal`.

    Returns:
        The tables, one after another.

    Raises:
        BenchError: no table is named, there is none of that name, or a file cannot be read.

    Example:
        >>> from visionbench import report
        >>> "ConvNeXt-T" in report("convnext_table1", format="markdown")
        True
    """
    from visionbench.command.output import text_of
    from visionbench.command.verbs.report import Request, tables_and_page

    output = Output(format=format, width=width)
    laid_out, page = tables_and_page(
        Request(tables=tables, records=_paths(records), comparisons=_paths(comparisons), output=output)
    )
    return text_of(laid_out, output, page)


def read_records(path: str | Path) -> Records:
    """The records of a file, in its order.

    Args:
        path: a file that `run` or `measure` has written.

    Returns:
        One record per launch, count or prediction. Torn lines are left out, and reported on stderr.

    Raises:
        BenchError: the file is missing, or holds something else.

    Example:
        >>> from visionbench import read_records
        >>> records = read_records("visionbench.jsonl")  # doctest: +SKIP
    """
    from visionbench.command.inputs import report_problems

    log = store.read(path)
    report_problems(log.problems)
    return Records(log.records)


def _paths(files: Files) -> tuple[Path, ...]:
    """None -> (); one file -> a tuple of it."""
    if files is None:
        return ()
    return (Path(files),) if isinstance(files, str | Path) else tuple(Path(file) for file in files)
