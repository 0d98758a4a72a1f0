"""The verb `run`: measure models, tables or suites. `tables`, `effects --grid` and the Python API measure by it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import inputs, options, output, processes, progress, values
from visionbench.command.processes import Place
from visionbench.command.requests import LARGEST, HowLong, HowToRun, Queue, Selection, Where
from visionbench.command.runs_table import print_runs
from visionbench.command.selection import PAPER_BATCH, Defaults, specs_to_run
from visionbench.comparison.verdict import INTERRUPTED, NOT_MEASURED
from visionbench.record import store
from visionbench.record.devices import DeviceSpec, find
from visionbench.record.errors import BenchError, DeviceLostError
from visionbench.record.record import Failure, Record
from visionbench.record.spec import EFFORTS, PROTOCOLS, QUICK, SMOKE, STEADY, SWIN, Protocol, Spec
from visionbench.record.units import duration, plural

if TYPE_CHECKING:
    from visionbench.measuring.sweep import Network, Networks, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to measure, how, where, for how long, and the file to which records are appended.

    `batch_sizes` replace the one batch size: every row is measured at each of them.
    """

    selection: Selection
    how: HowToRun
    where: Where
    how_long: HowLong
    records: Path = inputs.RECORDS
    batch_sizes: tuple[int, ...] = ()
    dry_run: bool = False
    json: bool = False
    queue: Queue | None = None


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = (
        "Measure models, tables or suites on this machine. A row is one model with its settings, a launch is one new "
        "process that measures a row. What is already recorded is not measured again."
    )
    options.add_selection(parser)
    options.add_where(parser)
    options.add_queue(parser)
    options.add_measuring(parser)
    spec = options.add_spec(parser)
    spec.add_argument(
        "--batch-size",
        type=values.batch,
        metavar="N or max",
        help="images per step (default: 64 on a GPU, 1 on a CPU); max is the largest number that fits",
    )
    spec.add_argument(
        "--batch-sizes",
        type=values.batches,
        default=(),
        metavar="N,N,...",
        help="measure each, and say at which size images per second stop rising",
    )
    options.add_parallel(spec)
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    options.add_json(parser, "each new record is a line")
    parser.set_defaults(verb=lambda words: run(_request(words)), resumes=True)


def _request(words: Namespace) -> Request:
    words.queue = options.queue(words)
    return options.part(Request, words)


def run(request: Request) -> int:
    """Measure what was asked for, and print it as a table; or, with --json, the new records as lines."""
    processes.checked(request.how)
    if request.queue is not None:
        return _run_queued(request, request.queue)
    if not request.dry_run:
        # An optimizer needs torch's compiler, and would pay for its import in its first step.
        compiles = request.how.task != "inference" or request.how.compile_mode is not None
        start_early(light=request.how_long.effort == "quick" and not compiles)
    place = processes.placed(place_to_measure(request.where, request.how_long), request.how)
    specs = _specs(request, place)
    if request.dry_run:
        return _say_what_would_be_measured(specs, place, request)
    _refuse_everything(specs, request)
    specs, outcome = measure(request, specs, place)
    if request.json:
        output.print_records(outcome.records)
    else:
        _print_runs(specs, place, request.records, outcome.networks)
    if outcome.interrupted:
        return INTERRUPTED
    nothing = outcome.failed and not outcome.measured and not outcome.skipped
    return NOT_MEASURED if nothing or outcome.lost else 0


EVERYTHING = 200
"""Rows that wildcards may mean without a word about time: a day on a CPU."""


def _refuse_everything(specs: Sequence[Spec], request: Request) -> None:
    """Raise `BenchError` for wildcards that mean hundreds of rows, unless a budget says how long they may take."""
    wild = [word for word in request.selection.words if set(word) & set("*?[")]
    if wild and len(specs) > EVERYTHING and request.how_long.budget is None:
        raise BenchError(
            f"{' '.join(wild)} means {len(specs):,} rows, hours of measuring: say how long they may take, like "
            "--budget 8h, name fewer, or list them with --dry-run."
        )


def _run_queued(request: Request, queue: Queue) -> int:
    """The same on a cluster's nodes, printed when all of it is there."""
    from visionbench.command import queued

    if request.how.batch_size == LARGEST:
        raise BenchError("--batch-size max is searched for on one card: run it there, or name a number.")
    if request.how.processes is not None:
        raise BenchError("a job of --cluster has one GPU: leave --processes out, or train on a node by `run` there.")

    def rows(word: str) -> queued.Rows:
        place = queued.place_of_card(word, request.where, request.how_long)
        return ((place.protocol, _specs(request, place)),)

    folder = queued.folder_of(request.records)
    outcome = queued.run(queue, request.where, folder, rows, dry_run=request.dry_run)
    if outcome.records and request.json:
        output.print_records(outcome.records)
    elif outcome.records:
        print_runs(outcome.records)
        queued.print_nodes(outcome.records)
    if outcome.interrupted:
        return INTERRUPTED
    return 0 if request.dry_run or any(record.failure is None for record in outcome.records) else NOT_MEASURED


def start_early(*, light: bool = False) -> None:
    """Import torch and timm once, for this process and for the one that forks the launches; `light`: no compiler."""
    from visionbench.measuring.process.launch import prepare

    prepare(own=True, light=light)


def _specs(request: Request, place: Place) -> tuple[Spec, ...]:
    specs = specs_to_run(request.selection, request.how, place.defaults)
    sizes = request.batch_sizes
    return tuple(replace(spec, batch_size=size) for spec in specs for size in sizes) if sizes else specs


def measure(
    request: Request, specs: Sequence[Spec] | None = None, place: Place | None = None
) -> tuple[tuple[Spec, ...], Outcome]:
    """Measure what was asked for in fresh processes; the specs with their batch sizes, and what the sweep came to.

    Raises `BenchError` before the first launch for whatever cannot be, and for a record that cannot be written.
    """
    place = processes.placed(place or place_to_measure(request.where, request.how_long), request.how)
    specs = tuple(specs or _specs(request, place))
    store.check_writable(request.records)
    # The largest batch is still to be found: two images say whether a network works (batch norm needs them).
    tried = [replace(spec, batch_size=2) for spec in specs] if request.how.batch_size == LARGEST else specs
    networks = _try_ahead(tried, place, size_asked=request.selection.size is not None)
    if request.how.batch_size == LARGEST:
        return _measure_at_largest(request, specs, place, networks)
    return specs, sweep_rows(specs, place, request.records, request.how_long, networks)


ATTEMPTS = 4
"""Sweeps at the largest batch, each with some images fewer where the last one ran out of memory."""


def _measure_at_largest(
    request: Request, specs: Sequence[Spec], place: Place, networks: Networks
) -> tuple[tuple[Spec, ...], Outcome]:
    """Every row at the largest batch that fits; somewhat below where a measurement, which autotunes anew, needs more.

    The outcome is the last sweep's, with the records of all; a row of which nothing fits has failed.
    """
    from visionbench.command.batch_sizes import at_largest, ran_out

    earlier: tuple[Record, ...] = ()
    for _ in range(ATTEMPTS):
        sized = at_largest(specs, place.devices[0], place.threads, request.records, networks)
        outcome = sweep_rows(sized, place, request.records, request.how_long, networks)
        earlier += outcome.records
        if not any(map(ran_out, outcome.records)):
            break
    return sized, replace(outcome, records=earlier, failed=outcome.failed + len(specs) - len(sized))


def sweep_rows(
    specs: Sequence[Spec], place: Place, records: Path, how_long: HowLong, networks: Networks, *, say: bool = True
) -> Outcome:
    """Make the launches that the file of records lacks; says progress and the outcome on stderr.

    `networks` is as for `sweep`. With `say` also, on a GPU, how long it will take.
    """
    from visionbench.machine.neighbours import marked
    from visionbench.measuring.sweep import Budget, sweep

    if say and not place.on_cpu:
        announce([seconds_expected(specs, place, records, how_long, networks)], place, how_long)
    where = ", ".join(place.devices)
    progress.say(f"Measuring {plural(len(specs), 'row')} on {where}, protocol {place.protocol.name} ...")
    clocks = held_clocks(place.devices, locked=how_long.lock_clocks)
    with marked(place.devices, progress.say), clocks, progress.shown() as shown:
        outcome = sweep(
            specs,
            place.protocol,
            records,
            place.devices,
            threads=place.threads,
            budget=Budget(total=how_long.budget, row=how_long.row_time),
            retry_failures=how_long.retry_failures,
            progress=shown,
            networks=networks,
        )
    for remark in outcome.remarks:
        progress.complain(remark)
    progress.say(_summary(outcome, records))
    return outcome


def seconds_expected(
    specs: Sequence[Spec], place: Place, path: Path, how_long: HowLong, networks: Networks
) -> dict[Spec, float] | None:
    """Seconds of all launches of a spec that the file of records lacks; None for a card without a data sheet."""
    from visionbench.command import expected
    from visionbench.machine.environment import describe
    from visionbench.measuring.sweep import plan

    environment = describe(place.devices[0], place.threads)
    known = store.read_if_there(path).records
    retry = how_long.retry_failures
    missing = plan(specs, place.protocol, known, environment, retry_failures=retry, networks=networks)
    card = find(environment.device_key or "")
    if card is None:
        return None
    launches = Counter(missing)
    seconds = expected.by_launch(tuple(launches), place.protocol, card, known)
    return {spec: seconds[spec] * number for spec, number in launches.items()}


def announce(sweeps: Sequence[dict[Spec, float] | None], place: Place, how_long: HowLong) -> None:
    """Say what these sweeps on a GPU will take, by what `seconds_expected` says of each; nothing where all is made."""
    known = [sum(seconds.values()) for seconds in sweeps if seconds is not None]
    budget = f"--budget ends it after {duration(how_long.budget)}" if how_long.budget else "--budget 10m would end it"
    if not known:
        progress.say(f"How long this will take is not known: this card has no data sheet here; {budget}.")
    elif any(known):
        progress.say(f"This will take about {duration(sum(known) / len(place.devices))}, by predicted times; {budget}.")


def _summary(outcome: Outcome, path: Path) -> str:
    parts = [f"{plural(outcome.measured, 'launch', 'launches')} measured"]
    parts += [f"{outcome.failed} failed (--retry-failures tries again)"] if outcome.failed else []
    parts += [f"{outcome.skipped} were recorded before"] if outcome.skipped else []
    if outcome.lost:
        gone = ", ".join(outcome.lost)
        parts.append(f"{gone} {progress.STOPPED}")
    if outcome.left:
        cut_off = outcome.interrupted or outcome.cut_off or outcome.lost
        why = "the same command goes on from here" if cut_off else "of rows that failed or have had their time"
        parts.append(f"{outcome.left} {'is' if outcome.left == 1 else 'are'} left: {why}")
    return f"{', '.join(parts)}. Records: {path}"


@contextmanager
def held_clocks(devices: Sequence[str], *, locked: bool) -> Iterator[None]:
    """The GPUs' clocks fixed meanwhile, if asked; nothing is changed otherwise. Raises `BenchError` if refused."""
    with ExitStack() as stack:
        if locked:
            from visionbench.machine.telemetry import locked_clocks

            for device in devices:
                stack.enter_context(locked_clocks(device))
        yield


CHECK = Protocol(name="check", metrics=(), warmup_iterations=1, blocks=0, block_iterations=1, max_seconds=60.0)
"""One step, untimed."""

CHECKED_AHEAD = 32
"""More models than this come from wildcards, where one that cannot be built is a row, not a mistake."""


def _try_ahead(specs: Sequence[Spec], place: Place, *, size_asked: bool) -> Networks:
    """Launch user's factories once as asked, and image sizes that were asked for once with one image; eagerly, each in
    a process: a compiler's trouble is no fault of the size. Returns what users' names stand for now.

    Raises `BenchError` where no network works, with the first reason: now, and not after an hour. One of several that
    does not work, or goes wrong in another way (it crashes, hangs, does not fit), is for the sweep to record.
    """
    alone = (replace(spec, processes=None, parallel=None) for spec in specs if not _is_users(spec))
    plain = {replace(spec, batch_size=1, compile_mode=None, task="inference") for spec in alone}
    sizes = sorted(plain, key=str) if size_asked and len(plain) <= CHECKED_AHEAD else []
    networks, mistakes = _first_launches([*filter(_is_users, specs), *sizes], place)
    if specs and all(spec.network in mistakes for spec in specs):
        raise BenchError(next(iter(mistakes.values())))
    return networks


def networks_now(specs: Iterable[Spec], place: Place) -> Networks:
    """What users' names stand for now: their factories are called, each in a process."""
    return _first_launches(filter(_is_users, specs), place)[0]


def _is_users(spec: Spec) -> bool:
    return spec.model.startswith("user:")


def _first_launches(specs: Iterable[Spec], place: Place) -> tuple[Networks, dict[Network, str]]:
    """Launch each network eagerly, untimed, until one way of running it makes no mistake: hashes and mistakes.

    Raises `BenchError` where the device is gone.
    """
    from visionbench.measuring.process.launch import launch
    from visionbench.measuring.sweep import answers, is_gone

    device = place.devices[0]
    answered = answers(device)
    networks: dict[Network, str] = {}
    mistakes: dict[Network, str] = {}
    tried: set[Network] = set()
    for spec in dict.fromkeys(replace(spec, compile_mode=None) for spec in specs):
        if spec.network in tried and spec.network not in mistakes:
            continue
        record = launch(spec, CHECK, device, place.threads)
        if is_gone(record.failure, device, answered):
            raise DeviceLostError(f"{device} {progress.STOPPED}; the same command goes on from here.")
        tried.add(spec.network)
        if record.network is not None:
            networks[spec.network] = record.network
        if mistake := _mistake(spec, record.failure):
            mistakes.setdefault(spec.network, mistake)
        else:
            mistakes.pop(spec.network, None)
    return networks, mistakes


def _mistake(spec: Spec, failure: Failure | None) -> str:
    """What a user can mend, with the remedy; "" for what is no mistake."""
    from visionbench.models.reasons import reason_of_text

    if failure is not None and failure.kind == "unsupported" and spec.processes is not None:
        return f"{spec.model}: {failure.message}."
    if failure is None or failure.kind != "error":
        return ""
    if failure.stage == "build":
        return failure.message
    remedy = reason_of_text(failure.message).remedy
    return f"{spec.model} does not run {spec.fed} ({failure.message}): {remedy}."


# --- where ---


def place_to_measure(where: Where, how_long: HowLong) -> Place:
    """The devices that were named or are here, and how numbers are made there.

    `--gpu a100` insists: another GPU, or none, is a `BenchError` that says what was found. On it rows are measured
    as the paper's Table 12 was (TF32, channels_last), or, where the GPU has no TF32, as its Table 1 (fp32,
    contiguous).
    """
    from visionbench.machine.environment import describe

    words = where.device or ("cuda" if where.gpu else processes.device_or_usual(None))
    cards = [processes.insist(where.gpu, word.strip()) for word in words.split(",")] if where.gpu else []
    devices = _devices(words)
    if cards:
        return as_the_paper(devices, cards[-1], where, how_long)
    on_gpu = describe(devices[0]).device_type != "cpu"
    usual, defaults = STEADY if on_gpu else SMOKE, Defaults(batch_size=PAPER_BATCH if on_gpu else 1)
    return Place(devices=devices, threads=where.threads, protocol=protocol_asked(how_long, usual), defaults=defaults)


def as_the_paper(devices: tuple[str, ...], card: DeviceSpec, where: Where, how_long: HowLong) -> Place:
    """As the paper's Table 12 was measured, or, on a card without TF32, as its Table 1."""
    defaults = Defaults(batch_size=PAPER_BATCH)
    if card.tf32 is not None:
        defaults = Defaults(precision="tf32", memory_format="channels_last", batch_size=PAPER_BATCH)
    return Place(devices=devices, threads=where.threads, protocol=protocol_asked(how_long, SWIN), defaults=defaults)


def _devices(words: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` -> both. Workers beside each other are for GPUs alone: on one CPU they would time each other."""
    from visionbench.machine import nvml, unseen
    from visionbench.machine.doctor import check_that_it_waits
    from visionbench.machine.environment import describe

    environments = {}
    for device in dict.fromkeys(word.strip() for word in words.split(",")):
        unseen.check(device)
        if device.startswith("cuda") and nvml.compute_mode(device) == "prohibited":
            raise BenchError(
                f"--device {device}: its compute mode is prohibited, so no program may use it: "
                "`sudo nvidia-smi -c DEFAULT` lets them."
            )
        check_that_it_waits(device)
        environments[device] = describe(device)
    devices: dict[tuple[str, int | None], str] = {}
    for device, environment in environments.items():  # `cuda` and `cuda:0` are one
        devices.setdefault((environment.device_type, environment.device_index), device)
    if len(devices) > 1:
        processes.check_alike(words, list(environments.values()))
    return tuple(devices.values())


def protocol_asked(how_long: HowLong, usual: Protocol) -> Protocol:
    """The protocol asked for. `--effort` without `--protocol` means ours."""
    ours = QUICK if how_long.effort == "quick" else STEADY
    protocol = PROTOCOLS[how_long.protocol] if how_long.protocol else ours if how_long.effort else usual
    launches = how_long.launches or EFFORTS.get(how_long.effort or "", protocol.launches)
    return replace(protocol, launches=launches, target_rel_ci=how_long.target_ci)


# --- what is printed ---


def _say_what_would_be_measured(specs: Sequence[Spec], place: Place, request: Request) -> int:
    from visionbench.machine.environment import describe
    from visionbench.measuring.sweep import plan

    environment = describe(place.devices[0], place.threads)
    records = store.read_if_there(request.records).records
    retry, networks = request.how_long.retry_failures, networks_now(specs, place)
    missing = plan(specs, place.protocol, records, environment, retry_failures=retry, networks=networks)
    for spec, launches in Counter(missing).items():
        print(f"{spec} x{launches}")
    progress.say(f"{plural(len(missing), 'launch', 'launches')} to make, by protocol {place.protocol.name}.")
    return 0


def _print_runs(specs: Sequence[Spec], place: Place, path: Path, networks: Networks) -> None:
    """The table of these specs' launches, those of earlier sweeps included, but not what a user's name stood for."""
    from visionbench.measuring.sweep import of_now

    wanted, name = set(specs), place.protocol.name
    records = of_now(inputs.read_kept(path), networks)
    computed = [record for record in records if record.source == "computed"]
    mine = [record for record in records if record.spec in wanted and record.source == "measured"]
    measured = [record for record in mine if record.protocol and record.protocol.name == name]
    print_runs(measured, computed, threads=place.threads)
