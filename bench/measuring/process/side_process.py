"""One side of a paired run, from inside: a process that builds rows, warms up, and takes a turn on request.

Between its turns it waits on its socket and uses no core, so the other side has the machine to itself. The engine
(`bench`) is the caller's on both sides; only what is measured comes from the side's own tree: the user's modules, and
our own `models` where the tree is a visionbench checkout. So a change of the clock can never look like a change of the
model.

The conversation, one JSON object per line; each order gets one answer, or `{"failed": {...}}`:

    {"do": "prepare", "spec": {...}, "seed": 0, "cores": [0, 1]}       {"done": true}              build, first call
    {"do": "warm", "cores": [1]}                                       {"seconds": 0.0123}         of one iteration
    {"do": "turn", "drop": 1, "readings": 5, "iterations": 2}          {"cpu": [...], "wall": [...], "device": [...]}
    {"do": "finish"}                                                   {"flags": [...], "sm_clock": 1.41e9}

At the end of the line the process ends.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import visionbench
from visionbench.machine import allocator, host
from visionbench.measuring.process.child import adopt_orphans, end_orphans, limit_memory, tell
from visionbench.record.collector import collector_paused
from visionbench.record.errors import BenchError
from visionbench.record.lifetime import die_with

WARM_UP = {"gpu": (10, 1.0), "cpu": (3, 0.3)}
"""Iterations and seconds of load before the first turn: an idle GPU takes most of a second to raise its clock."""

LONE = 2
"""Single iterations, and as many behind a spin of 50 ms, that say whether the host sets a row's pace."""


def serve(channel: int, parent: int, request: dict[str, Any]) -> None:
    """Be the side that talks on the socket `channel` until it is hung up.

    `request`: `tree` (the folder of this side's source, or None), `repository` (the checkout that the caller runs in,
    or None), `own` (whether this Python is not the caller's), `path` (put in front of its import path if so), `device`,
    `threads`.
    """
    die_with(parent)
    adopt_orphans()
    try:
        with socket.socket(fileno=channel) as line, line.makefile("r", encoding="utf-8") as orders:
            try:
                settle_in(request)
                side = LiveSide(request["device"], request["threads"], origin_of(request))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # It imports torch, and whose torch that is was to be settled first.
                from visionbench.measuring.failures import failure

                tell(line, {"failed": asdict(failure(error, "start"))})
                return
            tell(line, {"done": True})
            for order in orders:
                if order.strip():
                    tell(line, side.answer(json.loads(order)))
    finally:
        end_orphans(())


def is_ours(tree: Path) -> bool:
    """Whether that tree is a checkout of visionbench, whose `models` are then what is measured."""
    return (tree / "models" / "catalog.py").exists() and (tree / "bench" / "record" / "spec.py").exists()


def settle_in(request: dict[str, Any]) -> None:
    """Load the engine, then let the side's own tree come first for everything else."""
    allocator.settle()
    if request["device"].startswith("cpu"):
        limit_memory()
    origin = origin_of(request)
    if request["own"]:  # what is imported finds its own; beside an installed engine lies the caller's torch
        sys.path[:] = [entry for entry in sys.path if entry not in request["path"]]
    importlib.import_module("visionbench.measuring.workload")  # the caller's: what is imported stays imported
    if origin is not None and is_ours(origin.tree):
        _load_models(origin.tree / "models")
    if origin is not None:
        sys.path[:] = own_path(sys.path, origin.tree, origin.repository)
        os.chdir(_same_place(Path.cwd(), origin))
        importlib.invalidate_caches()


def _load_models(folder: Path) -> None:
    """Make `folder` the package `visionbench.models`, in place of the engine's own."""
    name = "visionbench.models"
    for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[loaded]
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    models = sys.modules[name] = module_from_spec(spec)
    vars(visionbench)["models"] = models
    spec.loader.exec_module(models)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a side's code must come from, and the caller's checkout, from where it must not (unless that is it)."""

    tree: Path
    repository: Path | None


def origin_of(request: dict[str, Any]) -> Origin | None:
    """Where the code of the side that asks must come from; None where it has no tree."""
    if request["tree"] is None:
        return None
    return Origin(Path(request["tree"]), Path(request["repository"]) if request["repository"] else None)


def _same_place(directory: Path, origin: Origin) -> Path:
    """The caller's directory in this side's tree, where users' modules are looked for last; else the tree's top."""
    if origin.repository is None or not directory.is_relative_to(origin.repository):
        return origin.tree
    found = origin.tree / directory.relative_to(origin.repository)
    return found if found.is_dir() else origin.tree


def own_path(path: Sequence[str], tree: Path, repository: Path | None) -> list[str]:
    """An import path on which everything of `repository`, the caller's checkout, is replaced by the same place in
    `tree`, and the tree itself (and its `src`) comes first. Installed packages stay.
    """
    first = [str(tree), *([str(tree / "src")] if (tree / "src").is_dir() else [])]
    rest = [_moved(entry, tree, repository) if repository is not None else entry for entry in path]
    return list(dict.fromkeys([*first, *rest]))


def _moved(entry: str, tree: Path, repository: Path) -> str:
    place = Path(entry).resolve()  # links: a repository is often reached through one
    if not place.is_relative_to(repository) or _is_installed(place, repository):
        return entry
    return str(tree / place.relative_to(repository))


def _is_installed(place: Path, repository: Path) -> bool:
    """Whether a path in the repository belongs to a Python installed there, and so to no revision."""
    prefixes = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    pythons = [prefix for prefix in prefixes if prefix != repository and prefix.is_relative_to(repository)]
    packages = {"site-packages", "dist-packages"} & set(place.relative_to(repository).parts)
    return bool(packages) or any(place.is_relative_to(python) for python in pythons)


def check_origin(model: str, origin: Origin) -> None:
    """Raise `BenchError` unless what that model loaded is this side's: else both sides are one, and the verdict is
    false.

    A path cannot promise it: an editable install may answer for a module before, or after, the path is asked.
    """
    files = {
        name: Path(file)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and isinstance(file := vars(module).get("__file__"), str)
    }
    remedy = "put the folder that holds it on PYTHONPATH, and no other one"
    from visionbench.models.building import module_name

    module = module_name(model.split(":")[1])
    if model.startswith("user:") and not files.get(module, origin.tree).resolve().is_relative_to(origin.tree.resolve()):
        raise BenchError(f"{module} comes from {files[module]}, not from this side's tree {origin.tree}: {remedy}.")
    if origin.repository in (None, origin.tree):
        return
    ours = is_ours(origin.tree)
    for name, file in files.items():
        if not file.is_relative_to(origin.repository) or file.is_relative_to(origin.tree):
            continue
        if _is_engine(name, models=not ours) or _is_installed(file, origin.repository):
            continue
        raise BenchError(f"{name} comes from {file}, not from this side's tree {origin.tree}: {remedy}.")


def _is_engine(name: str, *, models: bool) -> bool:
    """Whether a module is of the engine, which is the caller's on both sides; `models` says whether our models are."""
    if name.partition(".")[0] != "visionbench":
        return False
    return models or name.split(".")[1:2] != ["models"]


@contextmanager
def undisturbed(device: str) -> Iterator[None]:
    """Put torch's flags, its threads and all random states back: two sides in one process do not close in order."""
    from visionbench.machine import accelerator
    from visionbench.measuring import torch_flags
    from visionbench.models.randomness import seeded

    with torch_flags.kept(), seeded(0, accelerator.generators(device), device.partition(":")[0]):
        yield


ANSWER = 0.003
"""CPU seconds that to answer one order and to read the next may take, on a busy machine."""

RESTLESS = 0.05
"""What a side of one thread may use of a core between its turns, in which it waits for the other side's."""


class _Rest:
    """What this process does between its turns: a model's own threads may go on, and take the other side's time.

    Where torch has several threads, all but one look for work for some ms after each turn, which is most of a rest. So
    such a side is asked once, after its last turn, whether it comes to rest at all.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._cpu = self._wall = 0.0
        self._since: tuple[float, float] | None = None

    def begin(self) -> None:
        """A turn is over."""
        self._since = time.process_time(), time.perf_counter()

    def end(self) -> None:
        """The next turn begins."""
        if self._since is not None:
            self._cpu += max(0.0, time.process_time() - self._since[0] - ANSWER)
            self._wall += time.perf_counter() - self._since[1]

    def flags(self) -> tuple[str, ...]:
        """`busy_between_turns`, where it used more of a core than it may."""
        if self._threads == 1:
            restless = self._cpu > RESTLESS * self._wall > 0.0
        else:
            from visionbench.measuring import rest

            restless = bool(self._since and rest.flags(self._threads))
        return ("busy_between_turns",) if restless else ()


class LiveSide:
    """The row that is being measured: state between orders is what a side has a process for.

    Two sides in one process are not `alone`: what it does between one's turns are the other's turns.
    """

    def __init__(self, device: str, threads: int | None, origin: Origin | None, *, alone: bool = True) -> None:
        from visionbench.machine import telemetry
        from visionbench.machine.device_clock import device_clock

        self._device, self._threads, self._origin = device, threads, origin
        self._watch, self._clock = telemetry.Watch(device), device_clock(device)
        self._workload: Any = None
        self._first: Any = None
        self._weather: list[Any] = []
        self._times: list[float] = []  # of an iteration, by the device's clock, reading by reading
        self._alone, self._rest = alone, _Rest(threads)

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what is ordered. What a model raises is an answer too."""
        from visionbench.measuring.failures import failure

        do = order.pop("do")
        orders: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": self._prepare,
            "warm": self._warm,
            "turn": self._turn,
            "finish": self._finish,
        }
        try:
            return orders[do](**order)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._forget()
            return {"failed": asdict(failure(error, {"prepare": "build", "warm": "warm-up"}.get(do, "time")))}

    def _prepare(self, spec: dict[str, Any], seed: int, cores: list[int]) -> dict[str, Any]:
        from visionbench.machine import support
        from visionbench.measuring import timing, workload
        from visionbench.record.spec import Spec

        self._forget()
        bind(cores)
        asked = Spec(**spec)
        support.check(asked, self._device)
        self._workload = workload.build(asked, self._device, seed=seed, threads=self._threads)
        self._first = timing.first_call(self._workload, time.perf_counter)
        self._workload.check()
        if self._origin is not None:
            check_origin(asked.model, self._origin)
        return {"done": True}

    def _warm(self, cores: list[int]) -> dict[str, Any]:
        from visionbench.measuring import timing
        from visionbench.record.spec import Protocol

        bind(cores)
        iterations, seconds = WARM_UP["cpu" if self._device.startswith("cpu") else "gpu"]
        protocol = Protocol(name="duet", warmup_iterations=iterations, warmup_seconds=seconds, blocks=0)
        warm = timing.warm_up(self._workload, protocol, self._first, time.perf_counter)
        return {"seconds": warm.iteration_seconds, "finite": warm.finite}

    def _turn(self, drop: int, readings: int, iterations: int) -> dict[str, Any]:
        self._rest.end()
        step, synchronize = self._workload.step, self._workload.synchronize
        for _ in range(drop):  # the caches are full of what the other side left in them
            step()
        synchronize()
        self._watch.before()
        with collector_paused():
            taken = [self._reading(step, synchronize, iterations) for _ in range(readings)]
        self._weather.append(self._watch.after())
        cpu, wall, device = zip(*taken, strict=True)
        self._times += [seconds for seconds in device if seconds is not None]
        self._rest.begin()
        return {"cpu": cpu, "wall": wall, "device": device if None not in device else []}

    def _reading(self, step: Any, synchronize: Any, iterations: int) -> tuple[float, float, float | None]:
        """CPU, wall and device seconds of one iteration, over `iterations` of them back to back."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._clock.start()
        for _ in range(iterations):
            step()
        self._clock.stop()
        synchronize()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        device = self._clock.seconds()
        return cpu / iterations, wall / iterations, None if device is None else device / iterations

    def _finish(self) -> dict[str, Any]:
        from visionbench.machine import telemetry

        pace = self._pace()
        clocks = [weather.sm_clock for weather in self._weather if weather.sm_clock]
        self._workload.check()
        flags = (*telemetry.flags(self._weather, threads=self._threads), *self._workload.doubts())
        restless = self._rest.flags() if self._alone else ()
        self._forget()
        return {"flags": (*flags, *pace, *restless), "sm_clock": median(clocks) if clocks else None}

    def _pace(self) -> tuple[str, ...]:
        """`host_bound`, where the host and not the GPU set the pace of the turns: then the ratio is one of hosts."""
        from visionbench.machine import device_clock

        if not self._times:
            return ()
        alone = device_clock.lone(self._workload.step, self._device, repeats=LONE)
        return tuple(flag for flag in device_clock.flags(self._times, (), alone, iterations=1) if flag == "host_bound")

    def _forget(self) -> None:
        """Let the row go: its memory is the next one's."""
        workload, self._workload, self._first, self._weather, self._times = self._workload, None, None, [], []
        self._rest = _Rest(self._threads)
        if workload is not None:
            from visionbench.machine import accelerator

            with suppress(Exception):  # on a dead device closing fails too
                workload.close()
            del workload
            accelerator.empty_cache(self._device)


def bind(cores: Sequence[int]) -> None:
    """Bind every thread of this process to those cores; () leaves them as they are."""
    if not cores or not host.can_bind():
        return
    try:
        threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    except OSError:  # no such folder: the calling thread alone
        threads = [0]
    for thread in threads:
        with suppress(OSError):  # it ended meanwhile
            os.sched_setaffinity(thread, cores)
