"""The Python API: `from visionbench import trace, measure, predict, compare, report, read_records`.

Each function builds the request that the command line would, and calls the same functions below. What cannot be done is
a `visionbench.record.errors.BenchError`, or for a model's name a `visionbench.models.ModelError`: one sentence with its
remedy. Progress goes to stderr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, TypedDict, Unpack

from visionbench.command.requests import Format, HowLong, HowToRun, Output, Selection, Turns, Where
from visionbench.comparison.verdict import Judgement
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.inputs import texts_of
from visionbench.record.record import Record
from visionbench.record.spec import Attention, CompileMode, MemoryFormat, Parallel, Precision, Task

Inputs: TypeAlias = "str | Sequence[str]"
"""What networks are given, as `--input` takes it: "1x224x224", or several."""


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
    how = {name: value for name, value in settings.items() if name not in ("image_size", "inputs", "loss")}
    if unknown := sorted(set(how) - set(Settings.__annotations__)):
        raise BenchError(f"there is no setting {', '.join(unknown)}: choose of {', '.join(Settings.__annotations__)}.")
    selection = _selection(models, settings.get("image_size"), settings.get("inputs"), settings.get("loss"))
    return selection, HowToRun(**how)  # type: ignore[arg-type]


def _selection(
    models: Sequence[str], image_size: int | tuple[int, int] | None, inputs: Inputs | None, loss: str | None
) -> Selection:
    return Selection(words=tuple(models), image_size=image_size, inputs=texts_of(inputs), loss=loss)


Files: TypeAlias = "str | Path | Sequence[str | Path] | None"
"""One file, several, or None for the defaults."""


def trace(
    model: str,
    *,
    task: Task = "inference",
    batch_size: int = 1,
    image_size: int | tuple[int, int] | None = None,
    inputs: Inputs | None = None,
    loss: str | None = None,
    precision: Precision = "fp32",
    memory_format: MemoryFormat = "contiguous",
    attention: Attention = "fused",
    processes: int | None = None,
    parallel: Parallel | None = None,
) -> Record:
    """Count one model exactly: no weights, no hardware, nothing is run.

    Args:
        model: `convnext_tiny`, `timm:resnet50`, `paper:...`, or `user:package.module:factory`.
        task: `inference`, or `train` for a training step with its memory.
        batch_size: images per step.
        image_size: side of the square input in pixels, or (height, width); None is the model's own.
        inputs: what the network is given, as `--input` takes it: `"1x224x224"`, or several; None is images.
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
    from visionbench.command.verbs.trace import Request, traces

    how = HowToRun(
        task=task,
        batch_size=batch_size,
        precision=precision,
        memory_format=memory_format,
        attention=attention,
        processes=processes,
        parallel=parallel,
    )
    [(_, record)] = traces(Request(selection=_selection((model,), image_size, inputs, loss), how=how))
    return record


def measure(
    *models: str,
    device: str | None = None,
    threads: int | None = None,
    protocol: str | None = None,
    launches: int | None = None,
    budget: float | None = None,
    records: str | Path | None = None,
    **settings: Unpack[Settings],
) -> list[Record]:
    """Measure models on this machine, each launch in a fresh process.

    Args:
        models: names as for `trace`, wildcards (`timm:swin_*`), or names of tables and suites.
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
    from visionbench.command.verbs.run import Request, measure, place_to_measure

    selection, how = _asked(models, settings)
    how_long = HowLong(protocol=protocol, launches=launches, budget=budget)
    where = Where(device=device, threads=threads)
    with TemporaryDirectory() as folder:
        path = Path(records) if records is not None else Path(folder) / "records.jsonl"
        request = Request(selection=selection, how=how, where=where, how_long=how_long, records=path)
        place = place_to_measure(where, how_long)
        specs, _ = measure(request, place=place)
        known = store.read_if_there(path).records
    name = place.protocol.name
    measured = [record for record in known if record.protocol is not None and record.protocol.name == name]
    return [record for record in measured if record.spec in specs]


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
) -> list[Record]:
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

    how = HowToRun(
        task=task, batch_size=batch_size, precision=precision, memory_format=memory_format, attention=attention
    )
    selection = _selection(models, image_size, inputs, loss)
    _, predicted = predict_rows(Request(gpu=gpu, selection=selection, how=how, records=_paths(records)))
    return predicted


def compare(
    *models: str,
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
        models: names as for `measure`, or names of suites.
        base: the baseline, a git revision of the repository that the working folder is in; None is HEAD.
        head: the candidate, a git revision; None is the working tree.
        vary: settings that the candidate has instead, for example `{"memory_format": "channels_last"}`; both sides then
            have the same code, so leave `base` and `head` away.
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
    selection, how = _asked(models, settings)
    path = Path(keep) if keep is not None else None
    turns = Turns(
        device=device, threads=threads, launches=launches, rounds=rounds, budget=budget, seed=seed, keep=path
    )  # fmt: skip
    varied = tuple((vary or {}).items())
    return judge_sides(Request(selection=selection, how=how, turns=turns, base=base, head=head, vary=varied))


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


def read_records(path: str | Path) -> list[Record]:
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
    return list(log.records)


def _paths(files: Files) -> tuple[Path, ...]:
    """None -> (); one file -> a tuple of it."""
    if files is None:
        return ()
    return (Path(files),) if isinstance(files, str | Path) else tuple(Path(file) for file in files)
