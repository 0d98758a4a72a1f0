"""pytest's face of visionbench: options, markers and fixtures of this repository's own tests.

The hooks named `pytest_benchmark_*` are called by pytest-benchmark where it is installed. They close two of its holes:
numbers of another machine are compared with a warning, and a benchmark that is gone is not mentioned at all. Here the
one ends the run before it begins, the other is a failing test of the name that the benchmark had.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent
GOLDEN = ROOT / "tests" / "golden"

ASKS_FOR_BENCHMARKS = ("only", "enable", "compare", "save", "autosave", "json")
"""Options of pytest-benchmark that mean nothing unless benchmarks run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what the tests see instead of comparing it."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files of tests/golden, to be read in a diff"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Without `--benchmark-only`, or another option that asks for it, a benchmark runs once: does it still work?"""
    if not _asks_for_benchmarks(config):
        config.option.benchmark_disable = True
    if hasattr(config, "workerinput"):
        _stand_apart(config)


def _asks_for_benchmarks(config: pytest.Config) -> bool:
    return any(config.getoption(f"benchmark_{name}", default=True) for name in ASKS_FOR_BENCHMARKS)


@pytest.hookimpl(tryfirst=True)  # what -k, -m and --deselect leave out, they leave out of the vanished, too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """A vanished benchmark fails; a test marked `gpu` is skipped, and says so, where torch finds no CUDA device."""
    items += _vanished(session, getattr(config, "_benchmarksession", None), items)
    if hasattr(config, "workerinput"):
        _sort_longest_first(items)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("table1.md", text)`: `text` must equal the file of that name, or becomes it under `--update-golden`."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"tests/golden/{name} is missing: run pytest with --update-golden and read the diff"
        assert path.read_text(encoding="utf-8") == text

    return check


# --- several processes -------------------------------------------------------------------------------------------

MOST_PROCESSES = 4
"""Each takes one to two GB of memory."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in a process per core, file by file; `-n 0` runs it in one.

    Single files and folders stay in one process, because starting others would take longer. So do benchmarks, which
    must have the machine to themselves, a debugger, and what rewrites the files that other tests read.
    """
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return
    option = config.option
    if option.numprocesses is not None or option.tx or option.usepdb or option.collectonly or option.update_golden:
        return
    places = [(config.invocation_params.dir / word).resolve() for word in config.args]
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    if processes > 1 and not _asks_for_benchmarks(config) and ROOT / "tests" in places:
        option.numprocesses, option.dist, option.loadscopereorder = processes, "loadfile", False
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores


def _stand_apart(config: pytest.Config) -> None:
    """A temporary folder of its own for each process: the marks "I am measuring on this device" are files in it.

    pytest-xdist's variables must not reach a pytest that a test starts, which is not distributed.
    """
    folder = tempfile.mkdtemp(prefix="suite-")
    Path(folder).chmod(0o755)  # tests become another user
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        del os.environ[name]


def _sort_longest_first(items: list[pytest.Item]) -> None:
    """Begin with the files that have most slow tests: else one process would end with them while the other waits."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


# --- pytest-benchmark --------------------------------------------------------------------------------------------


def _device() -> tuple[str, int | None]:
    """Where the suite `ci` is measured: on the GPU if there is one, else by one thread, as the gate does."""
    from visionbench.machine.environment import find_device

    device = find_device()
    return device, 1 if device == "cpu" else None


@pytest.fixture(scope="session")
def place() -> tuple[str, int | None]:
    """Device and threads of the suite `ci`: those that `machine_info` tells of."""
    return _device()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What a time depends on beside the processor: GPU, driver, clocks, power limit, threads, torch, timm."""
    from visionbench.machine.environment import describe
    from visionbench.record.fingerprint import fingerprint, fingerprint_id

    device, threads = _device()
    here = describe(device, threads)
    clock = _highest_clock(device) if device != "cpu" else None
    machine_info["visionbench"] = {"id": fingerprint_id(here), **fingerprint(here), "highest_sm_clock": clock}


def _highest_clock(device: str) -> float | None:
    """The highest clock of the GPU's multiprocessors in Hz; that of the moment is no property of the machine."""
    from visionbench.machine import nvml

    gpu = nvml.open_gpu(device)
    if gpu is None:
        return None
    try:
        megahertz = nvml.ask(gpu, "nvmlDeviceGetMaxClockInfo", nvml.CLOCK_SM)
        return None if megahertz is None else megahertz * 1e6
    finally:
        nvml.close(gpu)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_compare_machine_info(machine_info: dict[str, Any], compared_benchmark: dict[str, Any]) -> None:
    """Numbers of another machine are not compared: the run ends before anything is measured, with exit code 4."""
    from visionbench.record.fingerprint import differing
    from visionbench.record.pytest_benchmark import machine

    differences = differing(machine(compared_benchmark["machine_info"] or {}), machine(machine_info))
    if differences:
        raise pytest.UsageError(
            f"--benchmark-compare: the saved numbers are of another machine ({'; '.join(map(str, differences))}): "
            "compare on the machine that they were saved on, or save new ones here (--benchmark-save)."
        )


class Vanished(pytest.Item):
    """A benchmark of the compared file that is there no more: a test of its name, which fails."""

    fixturenames = ("benchmark",)
    """Makes it a benchmark to `--benchmark-only` and `--benchmark-skip`."""

    def __init__(self, files: Iterable[str], **options: Any) -> None:
        super().__init__(**options)
        self._files = ", ".join(files)

    def runtest(self) -> None:
        """Fail, without a traceback: there is no code to point at."""
        pytest.fail(
            f"this benchmark vanished: {self._files} has it, and it is gone or no benchmark any more. Bring it back, "
            "or compare with numbers that were saved without it.",
            pytrace=False,
        )

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it was."""
        return ROOT / self.nodeid.partition("::")[0], None, self.name


def _vanished(session: pytest.Session, benchmarks: Any, items: list[pytest.Item]) -> list[pytest.Item]:
    """One failing test for each benchmark that the compared files have, this run was asked for, and nobody wrote."""
    if benchmarks is None or benchmarks.disabled or not benchmarks.compare:
        return []
    if not benchmarks.compared_mapping:
        raise pytest.UsageError(
            f"--benchmark-compare: {benchmarks.storage} has no such file: save one first (--benchmark-save). A file or "
            "a folder of tests that follows the option is taken for its name: put it in front."
        )
    here = {item.nodeid for item in items if "benchmark" in getattr(item, "fixturenames", ())}
    gone: dict[str, list[str]] = {}
    for file, names in benchmarks.compared_mapping.items():
        for name in names:
            if name not in here and _is_asked_for(name, session.config):
                gone.setdefault(name, []).append(str(file))
    return [
        Vanished.from_parent(session, name=name.rpartition("::")[2], nodeid=name, files=files)
        for name, files in gone.items()
    ]


def _is_asked_for(name: str, config: pytest.Config) -> bool:
    """Whether one of the command line's files, folders or tests covers the benchmark of that full name."""
    path, *parts = name.split("::")
    for word in config.args:
        wanted, *wanted_parts = word.split("::")
        place = (config.invocation_params.dir / wanted).resolve()
        covered = (config.rootpath / path).resolve().is_relative_to(place)
        inside = "::".join(parts)
        chosen = "::".join(wanted_parts)
        if covered and (not chosen or inside == chosen or inside.startswith((f"{chosen}[", f"{chosen}::"))):
            return True
    return False
