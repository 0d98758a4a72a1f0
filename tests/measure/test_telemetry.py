"""What the machine did meanwhile: read around a block, and turned into flags that are neither silent nor shrill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import psutil
import pytest

from tests.pretended.nvml import NO_PERMISSION, NOT_SUPPORTED, WIDE, FakeNvml, FakeNVMLError, process
from tests.pretended.nvml import pretend_cuda as pretend
from visionbench.machine import host, linux, nvml
from visionbench.machine.environment import describe
from visionbench.machine.telemetry import Watch, Weather, flags, locked_clocks, measurements, surroundings
from visionbench.record.errors import BenchError
from visionbench.record.record import Record, from_json, to_json
from visionbench.record.spec import Spec

QUIET = Weather(
    wall=1.0,
    cpu=1.0,
    steal=0.0,
    idle=0.5,
    involuntary_switches=0,
    load=1.0,
    slowdowns=None,
    sm_clock=None,
    temperature=None,
    power=None,
)
COOL = replace(QUIET, cpu=None, slowdowns=frozenset(), sm_clock=1.98e9, temperature=60.0, power=600.0)
"""A quiet block on a CPU, of one thread on two cores, and one on a GPU."""


def stat(user: int = 0, system: int = 0, idle: int = 0, iowait: int = 0, steal: int = 0) -> str:
    return f"cpu  {user} 0 {system} {idle} {iowait} 0 0 {steal} 0 0\ncpu0 1 2 3\nintr 1\n"


def proc(folder: Path, text: str, loadavg: str = "0.50 0.40 0.30 1/200 4242\n") -> Path:
    (folder / "stat").write_text(text)
    (folder / "loadavg").write_text(loadavg)
    return folder


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeNvml], nvml.Gpu]:
    pretend(monkeypatch)

    def opened(library: FakeNvml) -> nvml.Gpu:
        found = nvml.open_gpu("cuda", library)
        assert found is not None
        return found

    return opened


def counting() -> FakeNvml:
    library = FakeNvml()
    library.fields = dict.fromkeys((74, 269, 270, 271), (WIDE, 0))
    return library


# --- the watch --------------------------------------------------------------------------------------------------------


def test_a_block_on_a_cpu(tmp_path: Path) -> None:
    walls, cpus = iter((10.0, 12.0)), iter((5.0, 6.5))
    proc(tmp_path, stat(user=100, idle=100))
    watch = Watch("cpu", proc=tmp_path, now=lambda: next(walls), cpu_now=lambda: next(cpus))
    watch.before()
    proc(tmp_path, stat(user=150, system=10, idle=120, iowait=10, steal=10))
    seen = watch.after()
    assert (seen.wall, seen.cpu, seen.steal, seen.idle) == (2.0, 1.5, 0.1, 0.3)
    assert (seen.slowdowns, seen.sm_clock, seen.temperature, seen.power) == (None, None, None, None)
    assert seen.load is not None
    assert seen.involuntary_switches is not None
    assert seen.involuntary_switches >= 0
    assert seen.page_faults is not None
    assert seen.page_faults >= 0
    assert not seen.discard


def test_the_clocks_are_read_next_to_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(linux, "ticks", lambda _: order.append("ticks"))
    watch = Watch("cpu", now=lambda: order.append("wall") or 0.0, cpu_now=lambda: order.append("cpu") or 0.0)
    watch.before()
    order.append("block")
    watch.after()
    assert order == ["ticks", "cpu", "wall", "block", "wall", "cpu", "ticks"]


def test_where_there_is_no_proc_the_shares_are_unknown(tmp_path: Path) -> None:
    watch = Watch("cpu", proc=tmp_path)
    watch.before()
    seen = watch.after()
    assert (seen.steal, seen.idle) == (None, None)


def test_a_block_shorter_than_a_tick_has_unknown_shares(tmp_path: Path) -> None:
    watch = Watch("cpu", proc=proc(tmp_path, stat(user=5)))
    watch.before()
    assert watch.after().steal is None


def test_a_block_on_a_gpu(gpu: Callable[[FakeNvml], nvml.Gpu]) -> None:
    library = counting()
    watch = Watch("cuda", gpu=gpu(library))
    watch.before()
    seen = watch.after()
    assert (seen.cpu, seen.slowdowns, seen.sm_clock, seen.temperature, seen.power) == (
        None,
        frozenset(),
        1.98e9,
        61,
        650,
    )
    watch.before()
    library.fields[74] = (WIDE, 10**7)
    seen = watch.after()
    assert seen.slowdowns == {"power_cap"}
    assert not seen.discard  # the steady state of a big model
    watch.before()
    library.fields[269] = (WIDE, 10**7)
    seen = watch.after()
    assert seen.slowdowns == {"thermal"}
    assert seen.discard
    assert watch.energy() == 1000.0
    watch.close()
    watch.close()
    assert library.open == 0
    assert watch.energy() is None


def test_a_gpu_without_nvidia_ml_py_is_unknown_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    watch = Watch("cuda")
    watch.before()
    seen = watch.after()
    assert (seen.slowdowns, seen.sm_clock, seen.temperature, seen.power, watch.energy()) == (None,) * 5
    assert not seen.discard
    assert flags([seen]) == ("throttle_unknown",)


@pytest.mark.parametrize(
    ("causes", "worthless"),
    [(None, False), ((), False), (("power_cap",), False), (("thermal",), True), (("hw_slowdown",), True)],
)
def test_what_a_block_is_discarded_for(causes: tuple[nvml.Cause, ...] | None, worthless: bool) -> None:
    assert replace(COOL, slowdowns=None if causes is None else frozenset(causes)).discard is worthless


def test_the_real_machine_is_seen_at_work() -> None:
    watch = Watch("cpu")
    watch.before()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    seen = watch.after()
    assert seen.cpu is not None
    assert seen.cpu >= 0.1
    assert seen.wall > 0.09
    if sys.platform == "linux":
        assert seen.idle is not None
        assert 0 <= seen.idle <= 1


# --- flags ------------------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_nothing_or_of_quiet() -> None:
    assert flags([]) == flags([QUIET] * 3, threads=1, cores=2) == flags([COOL] * 3) == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"slowdowns": frozenset({"thermal"})}, ("throttled",)),
        ({"slowdowns": frozenset({"power_brake", "power_cap"})}, ("throttled", "power_capped")),
        ({"slowdowns": frozenset({"power_cap"})}, ("power_capped",)),
        ({"slowdowns": None}, ("throttle_unknown",)),
        ({"sm_clock": 1.95e9}, ("clock_unsteady",)),
        ({"sm_clock": 1.97e9}, ()),
        ({"sm_clock": None}, ()),
        ({"wall": 9.0, "steal": 0.5}, ()),  # a host's trouble is seen elsewhere, as `host_bound`
    ],
)
def test_what_one_block_of_three_says_of_a_gpu(change: dict[str, object], told: tuple[str, ...]) -> None:
    assert flags([COOL, replace(COOL, **change), COOL], threads=1, cores=2) == told


def test_one_reading_among_hundreds_does_not_make_a_clock_unsteady() -> None:
    slow = replace(COOL, sm_clock=1.95e9)
    assert flags([*[COOL] * 99, slow]) == ()
    assert flags([*[COOL] * 94, *[slow] * 6]) == ("clock_unsteady",)
    assert flags([COOL, slow] * 50) == ("clock_unsteady",)


@pytest.mark.parametrize("capped", [1, 50, 100])
def test_a_clock_that_moves_at_the_power_limit_is_explained_by_it(capped: int) -> None:
    low, high = replace(COOL, sm_clock=1.2e9), replace(COOL, sm_clock=1.5e9)
    at_the_limit = replace(low, slowdowns=frozenset({"power_cap"}))
    assert flags([*[high] * 100, *[at_the_limit] * capped]) == ("power_capped",)
    assert flags([*[high] * 100, *[low] * 50]) == ("clock_unsteady",)


@pytest.mark.parametrize(
    ("wall", "threads", "noisy"),
    [(1.04, 1, False), (1.06, 1, True), (2.0, 2, False)],  # two threads may wait for each other
)
def test_waiting_is_told_for_one_thread(wall: float, threads: int, noisy: bool) -> None:
    assert flags([replace(QUIET, wall=wall, idle=None, steal=None)] * 3, threads=threads, cores=2) == (
        ("noisy_env",) if noisy else ()
    )


@pytest.mark.parametrize(
    ("threads", "cores", "steal", "noisy"),
    [(1, 2, 0.02, False), (1, 2, 0.03, True), (2, 2, 0.04, False), (2, 2, 0.06, True), (1, 16, 0.004, True)],
)
def test_stolen_time_is_told_by_what_it_may_have_cost(threads: int, cores: int, steal: float, noisy: bool) -> None:
    busy = threads / cores
    block = replace(QUIET, cpu=float(threads), steal=steal, idle=1 - busy - steal)
    assert flags([block], threads=threads, cores=cores) == (("noisy_env",) if noisy else ())


@pytest.mark.parametrize(
    ("cpu", "idle", "noisy"),
    [
        (8.0, 0.5, False),  # eight of sixteen cores ours, eight idle
        (8.0, 0.1, False),  # others took six: there was room
        (6.0, 0.0, True),  # others took ten: eight threads and ten do not fit
        (3.0, 0.8, False),  # our threads waited for each other
    ],
)
def test_several_threads_compete_only_where_cores_run_out(cpu: float, idle: float, noisy: bool) -> None:
    assert flags([replace(QUIET, cpu=cpu, idle=idle)], threads=8, cores=16) == (("noisy_env",) if noisy else ())


def test_shares_are_weighed_by_time() -> None:
    blocks = [replace(QUIET, steal=0.2, idle=0.3, wall=0.01, cpu=0.01), QUIET]
    assert flags(blocks, threads=1, cores=2) == ()


# --- raw values -------------------------------------------------------------------------------------------------------


def test_raw_values_are_told_per_block_and_only_where_known() -> None:
    found = {one.metric: one for one in measurements([QUIET, replace(QUIET, cpu=2.0)], iterations=7)}
    assert list(found) == ["cpu_time", "steal", "idle", "involuntary_switches", "load"]
    assert (found["cpu_time"].values, found["cpu_time"].unit, found["cpu_time"].iterations) == ((1.0, 2.0), "s", 7)
    assert (found["cpu_time"].better, found["cpu_time"].assume) == ("lower", "nothing")
    assert found["load"].iterations == 1
    [faults] = measurements([replace(QUIET, cpu=None, steal=None, idle=None, page_faults=70)] * 2, iterations=7)[1:-1]
    assert (faults.metric, faults.values, faults.iterations) == ("page_faults", (70, 70), 7)
    found = {one.metric: one for one in measurements([COOL])}
    assert {
        m.metric: (m.unit, m.values) for m in found.values() if m.metric in {"sm_clock", "temperature", "power"}
    } == {
        "sm_clock": ("Hz", (1.98e9,)),
        "temperature": ("degC", (60.0,)),
        "power": ("W", (600.0,)),
    }
    assert "cpu_time" not in found
    assert measurements([]) == ()


def test_a_gap_hides_the_series() -> None:
    assert not any(one.metric == "sm_clock" for one in measurements([COOL, replace(COOL, sm_clock=None)]))


def test_raw_values_survive_a_line_of_json() -> None:
    record = Record(
        spec=Spec(model="timm:resnet50"),
        protocol=None,
        environment=describe("cpu"),
        measurements=measurements([QUIET, QUIET]),
        source="measured",
    )
    assert from_json(to_json(record)) == record


# --- surroundings -----------------------------------------------------------------------------------------------------


def governor(folder: Path, name: str) -> Path:
    for core in ("cpu0", "cpu1"):
        (folder / core / "cpufreq").mkdir(parents=True)
        (folder / core / "cpufreq" / "scaling_governor").write_text(f"{name}\n")
    return folder


@pytest.mark.parametrize(("running", "busy"), [("1/200", False), ("2/200", False), ("3/200", True), ("9/200", True)])
def test_a_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, busy: bool) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    folder = proc(tmp_path, stat(), f"0.1 0.1 0.1 {running} 99\n")
    found = surroundings("cpu", threads=1, proc=folder, cpus=tmp_path)
    assert found == (("busy_machine",) if busy else ())


@pytest.mark.parametrize(("name", "told"), [("powersave", ("powersave_governor",)), ("performance", ())])
def test_a_governor_that_saves_power(tmp_path: Path, name: str, told: tuple[str, ...]) -> None:
    folder = proc(tmp_path, stat(), "0.1 0.1 0.1 1/200 99\n")
    assert surroundings("cpu", threads=1, proc=folder, cpus=governor(tmp_path / "cpus", name)) == told


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    assert surroundings("cpu", threads=1, proc=tmp_path, cpus=tmp_path) == ()


@pytest.mark.parametrize(
    ("library", "told"),
    [
        (FakeNvml(), ()),
        (FakeNvml(nvmlDeviceGetComputeRunningProcesses=[process(10**8)]), ("other_gpu_processes",)),
        (FakeNvml(nvmlDeviceGetComputeRunningProcesses=FakeNVMLError(NOT_SUPPORTED)), ()),
        (FakeNvml(mig=True), ("mig",)),
        (FakeNvml(nvmlDeviceGetName="NVIDIA L4"), ("ecc",)),
        (FakeNvml(nvmlDeviceGetPersistenceMode=0), ("persistence_off",)),
        (FakeNvml(nvmlDeviceGetEnforcedPowerLimit=400_000), ("power_limit_lowered",)),
    ],
)
def test_the_surroundings_of_a_gpu(
    gpu: Callable[[FakeNvml], nvml.Gpu], library: FakeNvml, told: tuple[str, ...]
) -> None:
    assert surroundings("cuda", gpu=gpu(library)) == told


def test_a_gpu_that_cannot_be_asked_has_no_surroundings() -> None:
    assert surroundings("cuda") == () or Path("/dev/nvidiactl").exists()


def test_the_real_machine_has_surroundings() -> None:
    assert set(surroundings("cpu")) <= {"busy_machine", "powersave_governor"}


# --- the clock, on request --------------------------------------------------------------------------------------------


def story(library: FakeNvml) -> list[str]:
    return [name.removeprefix("nvmlDevice") for name, _ in library.calls if "Locked" in name]


def test_the_clock_is_let_go_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    library = FakeNvml()
    with locked_clocks("cuda", library=library):
        assert story(library) == ["SetGpuLockedClocks"]
    assert story(library) == ["SetGpuLockedClocks", "ResetGpuLockedClocks"]
    assert library.open == 0


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_the_clock_is_let_go_whatever_happens(monkeypatch: pytest.MonkeyPatch, leave: type[BaseException]) -> None:
    pretend(monkeypatch)
    library = FakeNvml()
    with pytest.raises(leave), locked_clocks("cuda", library=library):
        raise leave
    assert story(library)[-1] == "ResetGpuLockedClocks"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_clock_is_let_go_when_the_process_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    pretend(monkeypatch)
    library = FakeNvml()

    def ended() -> None:
        with locked_clocks("cuda", library=library):
            os.kill(os.getpid(), number)
            time.sleep(1)

    with pytest.raises(SystemExit) as left:
        ended()
    assert left.value.code == 128 + number
    assert story(library)[-1] == "ResetGpuLockedClocks"
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_refusal_is_told_and_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    library = FakeNvml(nvmlDeviceSetGpuLockedClocks=FakeNVMLError(NO_PERMISSION))
    with pytest.raises(BenchError, match="sudo"), locked_clocks("cuda", library=library):
        pytest.fail("measured with free clocks")
    assert library.open == 0
    assert "ResetGpuLockedClocks" not in story(library)


def test_without_a_card_there_is_nothing_to_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, is_available=False)
    with pytest.raises(BenchError, match="--lock-clocks"), locked_clocks("cuda"):
        pytest.fail("measured with free clocks")


# --- the host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"])
def test_a_stat_that_is_none_is_unknown(tmp_path: Path, text: str) -> None:
    assert linux.ticks(proc(tmp_path, text)) is None


def test_idle_time_that_is_taken_back_is_none(tmp_path: Path) -> None:
    before, after = linux.Ticks(total=100, idle=50, steal=0), linux.Ticks(total=110, idle=48, steal=0)
    assert linux.shares(before, after) == linux.Shares(steal=0.0, idle=0.0)


def test_lineage_goes_up_to_those_that_started_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {os.getpid(), os.getppid()} <= host.lineage()
    code = "from visionbench.machine import host; print(*host.lineage())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert str(os.getpid()) in done.stdout.split()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))  # where processes are hidden
    assert host.lineage() == {os.getpid()}


@pytest.mark.parametrize(("text", "cores"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None)])
def test_a_containers_quota(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert linux.cpu_quota(tmp_path / "cpu.max") == cores


def test_a_loadavg_is_sampled_by_its_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count()
    monkeypatch.setattr(time, "sleep", lambda _: proc(tmp_path, "", f"0 0 0 {(1, 9, 2, 1)[next(looks) % 4]}/5 9\n"))
    proc(tmp_path, "", "0 0 0 3/5 9\n")
    assert linux.runnable_others(tmp_path) == 1  # looks 3, 1, 9, 2, 1 less this thread
