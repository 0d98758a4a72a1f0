"""`--cluster`: what `run` and `tables` measure here is measured on a cluster's nodes.

Rows are chosen and mistakes are met before anything is queued. What needs torch for that is done in another
process, so that the one that waits for hours holds no torch.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from visionbench import ROOT
from visionbench.cluster import drive, ray, shifts, site, slurm
from visionbench.cluster.ray import Ray
from visionbench.cluster.shifts import Card, Part, Request
from visionbench.cluster.slurm import Slurm
from visionbench.command import inputs, output, progress
from visionbench.command.requests import HowLong, Queue, Where
from visionbench.command.selection import Defaults
from visionbench.record import store
from visionbench.record.devices import select
from visionbench.record.errors import BenchError
from visionbench.record.program import release
from visionbench.record.record import Record
from visionbench.record.spec import SMOKE, Protocol, Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.processes import Place

Value = TypeVar("Value")

Rows = Sequence[tuple[Protocol, Sequence[Spec]]]
"""Specs by the protocol that measures them."""

CHECK = """\
import json, torch, visionbench.cluster.job
flags = getattr(torch._C, "_cuda_getArchFlags", lambda: "")() or ""
print(json.dumps([torch.__version__, torch.version.cuda, torch.version.hip, flags.split()]))
"""

CHECK_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All measured records of the folder, and whether a Ctrl-C ended the waiting."""

    records: tuple[Record, ...]
    interrupted: bool = False


def folder_of(records: Path) -> Path:
    """The folder of a request: what `--records` names, if it was used."""
    if records == inputs.RECORDS:
        return shifts.FOLDER
    if records.exists() and not records.is_dir():
        raise BenchError(f"--records {records} is a file: with --cluster it names a folder.")
    return records


def run(
    queue: Queue,
    where: Where,
    folder: Path,
    rows: Callable[[str], Rows],
    *,
    dry_run: bool = False,
) -> Outcome:
    """Queue what the folder lacks, and wait until it is there. `rows` says what is measured on a card.

    Raises `BenchError` before anything is queued for whatever cannot be.
    """
    engine = _engine(queue, folder)
    on_cpu = where.device == "cpu"
    _check_words(queue, engine, on_cpu=on_cpu)
    try:
        nodes = {word: _nodes(engine, word, check=not on_cpu) for word in queue.gpus}
        request = apart(lambda: _request(queue, where, rows, nodes, engine.sites))
        if dry_run:
            for word in nodes:
                engine.test("test", word)
            _say_what_would_be_queued(
                request, replace(engine, name="visionbench"), nodes, spread=queue.nodes == "spread"
            )
            return Outcome(records=())
        shifts.check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with drive.alone(folder), _forgotten_if_refused(folder):
            request = shifts.keep(folder, request)
            engine = replace(engine, name=request.name)
            driver = drive.Driver(
                folder, shifts.shifts_of(request), engine, progress.say, spread=queue.nodes == "spread"
            )
            interrupted = _wait(driver, engine, request)
    except slurm.NoAnswerError as error:
        raise BenchError(f"{engine.called} does not answer ({error}): {engine.remedy}.") from error
    except OSError as error:
        raise BenchError(f"cannot write to {folder} ({error.strerror}): name another folder with --records.") from error
    progress.say(f"Records: {folder} (--records {shlex.quote(str(folder))} reads them).")
    log = store.read(folder) if any((folder / "records").glob("*.jsonl")) else store.Log(records=())
    inputs.report_problems(log.problems)
    measured = tuple(r for r in log.records if r.source == "measured")
    return Outcome(records=(*measured, *store.read_unfit(folder)), interrupted=interrupted)


def _engine(queue: Queue, folder: Path) -> Slurm | Ray:
    """The queue that was asked for. Raises `BenchError` where it is not here, or for a site file in another's words."""
    if queue.cluster == "slurm":
        slurm.check_here()
        sites = site.read_site(queue.site)
        return Slurm(name="", folder=folder, partition=queue.partition, sites=sites, options=queue.sbatch)
    ray.check_here()
    sites = site.read_site(queue.site)
    for word, its in sites.items():
        if its.gres or its.partition or its.sbatch:
            raise BenchError(
                f"{queue.site or site.SITE}, [{word}]: gres, partition and sbatch are Slurm's: for Ray, constraint is "
                "its accelerator type, and python the Python of its nodes."
            )
    return Ray(name="", folder=folder, sites=sites)


@contextmanager
def _forgotten_if_refused(folder: Path) -> Iterator[None]:
    """A request of which nothing was queued, because of a mistake, does not stand in the mended one's way."""
    known = shifts.request_file(folder).exists()
    try:
        yield
    except BenchError:
        if not known and not (folder / "jobs.jsonl").exists():
            shifts.request_file(folder).unlink(missing_ok=True)
        raise


def apart(work: Callable[[], Value]) -> Value:
    """The result of `work`, done in a process that ends with it."""
    with ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("fork"), initializer=_keep, initargs=(work,)
    ) as pool:
        return cast(Value, pool.submit(_kept).result())


_WORK: list[Callable[[], object]] = []


def _keep(work: Callable[[], object]) -> None:
    """Runs in the child: a fork passes a function as it is, and needs no name to find it by."""
    _WORK.append(work)


def _kept() -> object:
    return _WORK[-1]()


def print_nodes(records: Sequence[Record]) -> None:
    """Which card is the odd one, where there are several."""
    from visionbench.reports import render
    from visionbench.reports.results import nodes

    table = nodes.layout(records)
    if len(table.rows) > 1:
        print()
        print(render(table, "terminal", output.width(None), colour=output.colour()), end="")


# --- before anything is queued ---


def place_of_card(word: str, where: Where, how_long: HowLong) -> Place:
    """As `place_to_measure` for a card that is not here but on some node; with --device cpu, for a node's CPU.

    Raises `BenchError` for a word that is no card, or for cards that are not run alike.
    """
    from visionbench.command.processes import Place
    from visionbench.command.verbs.run import as_the_paper, protocol_asked

    if where.device == "cpu":
        usual, defaults = protocol_asked(how_long, SMOKE), Defaults(batch_size=1)
        return Place(devices=("cpu",), threads=where.threads, protocol=usual, defaults=defaults)
    if where.device not in (None, "cuda"):
        raise BenchError(f"--device {where.device}: a job's one GPU is cuda; leave --device out.")
    cards = select(word)
    if len({card.tf32 is not None for card in cards}) > 1:
        raise BenchError(
            f"--gpu {word} means cards that are not run alike: name one of {', '.join(card.key for card in cards)}."
        )
    return as_the_paper(("cuda",), cards[0], where, how_long)


def _check_words(queue: Queue, engine: Slurm | Ray, *, on_cpu: bool) -> None:
    """Raise `BenchError` for two words that mean one card, for a section of the site file that is no card, and for
    options of `sbatch` that no shift can have.
    """
    site.check_options(queue.sbatch, "--sbatch")
    for word in () if on_cpu else engine.sites:
        try:
            select(word)
        except BenchError as error:
            raise BenchError(f"{queue.site or site.SITE}, [{word}]: {error}") from error
    cards: dict[str, str] = {}
    for word in queue.gpus:
        for key in [word] if on_cpu else [card.key for card in select(word)]:
            if key in cards:
                raise BenchError(f"--gpu {cards[key]} --gpu {word}: both mean {key}; name one of them.")
            cards[key] = word


def _nodes(engine: Slurm | Ray, word: str, *, check: bool) -> tuple[slurm.Node, ...]:
    """The nodes that have a card. Raises `BenchError` for an unknown card or partition, or where no node has it."""
    if check:
        select(word)
    engine.check_partition(word)
    nodes = engine.nodes(word)
    if not nodes:
        partition = engine.partition if isinstance(engine, Slurm) else None
        where = f"partition {partition}" if partition else "the cluster"
        kinds = ", ".join(engine.kinds(word)) or f"no GPUs that {engine.called} has names for"
        names = 'gres = "gpu:NAME:1" or constraint = "FEATURE"' if isinstance(engine, Slurm) else 'constraint = "NAME"'
        raise BenchError(
            f"--gpu {word}: no node of {where} has it (there: {kinds}). Say in cluster.toml what it is called there: "
            f"[{word}] and {names}."
        )
    return nodes


def _request(
    queue: Queue,
    where: Where,
    rows: Callable[[str], Rows],
    nodes: Mapping[str, Sequence[slurm.Node]],
    sites: Mapping[str, site.Site],
) -> Request:
    """Every card's rows, in pieces that fit its queue. Imports torch."""
    on_cpu = where.device == "cpu"
    cards, launches = [], 1
    for word in queue.gpus:
        parts = []
        for protocol, specs in rows(word):
            launches = max(launches, protocol.launches)
            # How often a row is launched is the request's; one shift launches it once.
            once = replace(protocol, launches=1, target_rel_ci=None)
            parts += [Part(protocol=once, specs=tuple(specs))] if specs else []
        limit = min((node.limit for node in nodes[word] if node.limit is not None), default=None)
        options = " ".join((*sites.get(word, site.Site()).sbatch, *queue.sbatch))
        asked = re.findall(r"(?:^|\s)(?:--time[= ]|-t ?)(\S+)", options)
        limit = (slurm.seconds_of(asked[-1]) if asked else None) or limit
        seconds = {} if on_cpu or limit is None else _seconds(parts, word)
        cards.append(Card(word=word, pieces=shifts.pieces_of(parts, seconds, limit)))
    if not any(part.specs for card in cards for piece in card.pieces for part in piece):
        raise BenchError("there is nothing to measure: name models or tables.")
    return Request(
        cards=tuple(cards),
        launches=launches,
        device=where.device or "cuda",
        threads=where.threads,
        release=release(),
        salt="asked" if queue.anonymous_nodes else None,
        cluster=queue.cluster,
        user=_user(),
    )


def _user() -> str:
    """Who asks: a queue shows everybody their own jobs only."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _seconds(parts: Sequence[Part], word: str) -> dict[Spec, float]:
    from visionbench.command import expected

    card = select(word)[0]
    return {
        spec: time for part in parts for spec, time in expected.by_launch(part.specs, part.protocol, card, ()).items()
    }


def _check(engine: Slurm | Ray, request: Request) -> None:
    """Raise `BenchError` for a Python that cannot serve its card, and for options that Slurm refuses."""

    def check_pythons() -> None:
        for card in request.cards:
            python = engine.sites.get(card.word, site.Site()).python
            _check_python(card.word, python, on_cpu=request.device == "cpu")

    for card in request.cards:
        engine.test("test", card.word)
    apart(check_pythons)


def _check_python(word: str, python: str | None, *, on_cpu: bool) -> None:
    """Raise `BenchError` where the Python that serves a card lacks visionbench, or its torch has no kernels for it.

    A Python that only nodes see cannot be asked here; then the job says it.
    """
    from visionbench.machine.support import has_kernels

    if python is not None and not Path(python).exists() and not shutil.which(python):
        progress.say(f"{python} is not here: whether it has visionbench, only a node can tell.")
        return
    environ = dict(os.environ)
    if python is None and release() is None:  # as the job's script: a checkout is found from any folder
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    words = [python or sys.executable, "-c", CHECK]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=CHECK_SECONDS, env=environ)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{python}, the Python for {word}, does not run ({error}): mend cluster.toml.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise BenchError(
            f"{python or sys.executable} cannot serve {word} ({last}): install visionbench for it, or name another "
            "Python in cluster.toml."
        )
    try:
        version, cuda, hip, flags = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError, TypeError) as error:
        raise BenchError(
            f"{python or sys.executable}, the Python for {word}, does not answer as a Python does "
            f"({done.stdout.strip()[-60:]!r}): name another in cluster.toml."
        ) from error
    if on_cpu or hip:
        return
    remedy = f'name a Python that has one in cluster.toml: [{word}] and python = "/path/to/python".'
    if cuda is None:
        raise BenchError(f"--gpu {word}: torch {version} is built without CUDA: {remedy}")
    card = select(word)[0]
    if flags and not has_kernels(card.capability, flags):
        raise BenchError(f"--gpu {word}: torch {version} has no kernels for {card.names[0]}: {remedy}")


def _say_what_would_be_queued(
    request: Request, engine: Slurm | Ray, nodes: Mapping[str, Sequence[slurm.Node]], *, spread: bool
) -> None:
    """Shifts by card, the nodes they would go to, and one line of `sbatch` for each card."""
    every = shifts.shifts_of(request)
    good = {word: [node.name for node in its if node.takes_jobs] for word, its in nodes.items()}
    pins = shifts.Spread(good)
    pinned = {shift.name: pins.next(shift.card) if spread else None for shift in every}
    for card in request.cards:
        its = [shift for shift in every if shift.card == card.word]
        rows = sum(len(part.specs) for piece in card.pieces for part in piece)
        print(
            f"{card.word}: {plural(rows, 'row')} x {request.launches} = {plural(len(its), 'shift')} "
            f"on {plural(len(good[card.word]), 'node')} ({', '.join(good[card.word][:8]) or 'none takes jobs now'})"
        )
        first = its[0]
        print(f"  {' '.join(engine.command(first.name, card.word, pinned[first.name], ()))}")
    progress.say(f"{plural(len(every), 'shift')} to queue; nothing was queued.")


# --- while it waits ---


def _wait(driver: drive.Driver, engine: Slurm | Ray, request: Request) -> bool:
    """Drive until all is done; True if a Ctrl-C came first."""
    try:
        if driver.look_at_records():
            progress.say(f"All {plural(len(shifts.shifts_of(request)), 'shift')} are done: there is nothing to queue.")
        else:
            _check(engine, request)
            driver.run()
            progress.say("All shifts are done.")
    except KeyboardInterrupt:
        jobs = driver.active()
        progress.say("")
        stay, them = ("stays", "it") if len(jobs) == 1 else ("stay", "them")
        progress.say(
            f"{plural(len(jobs), 'job')} {stay} queued, and the same command attaches to {them}."
            + (f" `{engine.how_to_cancel(jobs)}` cancels {them}." if jobs else "")
        )
        return True
    for sentence in driver.split_cards():
        progress.say(sentence)
    return False
