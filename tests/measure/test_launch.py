"""A launch from outside, with real processes: whatever becomes of the child becomes a record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from visionbench.measuring.process import child, exit_status
from visionbench.measuring.process import launch as launching
from visionbench.measuring.process.launch import launch
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec

ROOT = Path(__file__).resolve().parents[2]
Factories = Callable[[str], str]
Run = Callable[[str], Record]


@pytest.fixture
def run(factories: Factories, once: Protocol) -> Run:
    return lambda name: launch(Spec(model=factories(name), image_size=16), once, "cpu", threads=1)


@pytest.fixture(scope="module", autouse=True)
def _no_server_is_left() -> Iterator[None]:
    yield
    launching._server().stop()


@pytest.mark.slow
def test_success(run: Run) -> None:
    record = run("tiny")
    assert record.failure is None
    assert {"throughput", "cpu_time", "process_memory", "first_call"} <= {m.metric for m in record.measurements}
    assert record.environment.threads == 1


@pytest.mark.parametrize(
    ("factory", "kind", "stage", "words"),
    [
        ("raises", "error", "first call", "ValueError: first line"),
        ("killed", "crashed", "first call", "SIGKILL"),
        ("segfault", "crashed", "first call", "SIGSEGV; it printed: these were its last words"),
        ("exits", "crashed", "first call", "sys.exit(3)"),
        ("exits_at_once", "crashed", "first call", "exit code 3, without a result; it printed: bye"),
        ("interrupted", "crashed", "first call", "KeyboardInterrupt"),
        ("memory_error", "out_of_memory", "first call", "MemoryError"),
        ("too_large", "out_of_memory", "first call", "allocate"),
        ("no_such_factory", "error", "build", "no_such_factory"),
    ],
)
def test_every_end_has_its_cause(run: Run, factory: str, kind: str, stage: str, words: str) -> None:
    record = run(factory)
    assert record.failure is not None
    assert (record.failure.kind, record.failure.stage) == (kind, stage)
    assert words in record.failure.message
    assert record.measurements == ()
    assert record.source == "measured"


def test_a_failure_has_the_key_of_a_success(factories: Factories, once: Protocol) -> None:
    tiny, killed = (launch(Spec(model=factories(name)), once, "cpu", 1) for name in ("tiny", "killed"))
    assert tiny.network is not None
    # One that dies while it is built cannot say which network it is: a sweep knows from its look ahead.
    assert replace(tiny, network=killed.network).key[1:] == killed.key[1:]


def test_a_model_that_is_compiled_again_while_it_is_timed_is_flagged(run: Run) -> None:
    found = run("recompiles").get("throughput")
    assert found is not None
    assert "recompiled" in found.flags
    other = run("tiny").get("throughput")
    assert other is not None
    assert "recompiled" not in other.flags


def test_nan_is_flagged(run: Run) -> None:
    found = run("nan").get("throughput")
    assert found is not None
    assert "nan_output" in found.flags


def test_megabytes_of_output_go_nowhere(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("prints_megabytes").failure is None
    assert capfd.readouterr() == ("", "")


def test_a_child_inherits_directory_and_variables(
    factories: Factories, once: Protocol, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    factories("tiny")
    source = "import os\nfrom torch import nn\ndef make():\n    raise ValueError(os.environ['A_WORD'] + os.getcwd())\n"
    (tmp_path / "tells.py").write_text(source)
    monkeypatch.setenv("A_WORD", "hello ")
    record = launch(Spec(model="user:tells:make"), once, "cpu")
    assert record.failure is not None
    assert f"hello {tmp_path}" in record.failure.message


@pytest.mark.slow
def test_a_hang_is_stopped_with_all_it_started(factories: Factories, once: Protocol, tmp_path: Path) -> None:
    record = launch(Spec(model=factories("hangs_with_offspring")), once, "cpu", 1, timeout=2.0)
    assert record.failure is not None
    assert (record.failure.kind, record.failure.stage) == ("timeout", "first call")
    assert "2 s" in record.failure.message
    assert ended(int((tmp_path / "pid").read_text()))


def test_the_time_limit_is_the_protocols(factories: Factories, once: Protocol) -> None:
    record = launch(Spec(model=factories("hangs")), replace(once, max_seconds=0.5), "cpu", 1)
    assert record.failure is not None
    assert record.failure.kind == "timeout"


def test_what_a_child_leaves_behind_is_killed(run: Run, tmp_path: Path) -> None:
    assert run("leaves_offspring").failure is None
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
def test_endless_output_does_not_fill_the_disk(
    factories: Factories, once: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    cause = launching._cause
    monkeypatch.setattr(launching, "LOG_SECONDS", 0.05)
    monkeypatch.setattr(launching, "LOG_BYTES", 100_000)
    monkeypatch.setattr(
        launching,
        "_cause",
        lambda s, t, log, kills: (sizes.append(os.fstat(log.fileno()).st_size), cause(s, t, log, kills))[1],
    )
    record = launch(Spec(model=factories("prints_for_ever")), once, "cpu", 1, timeout=3.0)
    assert record.failure is not None
    assert record.failure.message.endswith("zzz")
    assert sizes[0] < 8_000_000  # uncut it would be 20 MB


@pytest.mark.slow
def test_the_server_may_die(run: Run) -> None:
    launching.prepare()
    process = launching._server()._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert run("tiny").failure is None


@pytest.mark.parametrize(
    ("change", "device", "word"),
    [({"block_iterations": None}, "cpu", "block_seconds"), ({}, "gpu0", "gpu0")],
)
def test_a_mistake_comes_back_as_one(once: Protocol, change: dict[str, object], device: str, word: str) -> None:
    with pytest.raises(BenchError, match=word):
        launch(Spec(model="timm:resnet18"), replace(once, **change), device)  # type: ignore[arg-type]


# A program of the user's own, read from standard input: it has no main script that could be imported again, it stands
# in a directory with foreign packages that are called like ours, and it never imports torch.
PROGRAM = """
    import sys
    sys.path.insert(0, {root!r})
    from visionbench.measuring.process.launch import launch
    from visionbench.record.spec import Protocol, Spec
    once = Protocol(name="once", warmup_iterations=2, blocks=1, block_iterations=1)
    for name in {models!r}:
        try:
            print(launch(Spec(model=name), once, "cpu").failure, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print("torch" in sys.modules)
"""


def program(directory: Path, *names: str) -> subprocess.Popen[str]:
    for name in ("models", "visionbench", "torch"):
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text("raise RuntimeError('somebody else')")
    process = subprocess.Popen(
        [sys.executable, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(textwrap.dedent(PROGRAM).format(root=str(ROOT), models=names))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow
def test_a_ctrl_c_ends_the_launch_silently(factories: Factories, tmp_path: Path) -> None:
    process = program(tmp_path, factories("tells_its_pid_and_hangs"), factories("tiny"))
    child = pid_in(tmp_path / "pid")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    output, errors = process.communicate(timeout=60)
    assert output.split() == ["interrupted", "None", "False"]
    assert errors == ""
    assert ended(child)


@pytest.mark.slow
def test_no_orphans(factories: Factories, tmp_path: Path) -> None:
    process = program(tmp_path, factories("tells_its_pid_and_hangs"))
    child = pid_in(tmp_path / "pid")
    server = int(Path(f"/proc/{child}/stat").read_text().split(")")[-1].split()[1])
    process.kill()
    process.communicate()
    assert ended(child)
    assert ended(server)


def pid_in(path: Path) -> int:
    """The number that somebody writes into `path`, soon."""
    while not path.exists():
        time.sleep(0.05)
    return int(path.read_text())


def ended(pid: int) -> bool:
    """Wait until the process is gone, or has been waited for by nobody yet; False after a generous while."""
    for _ in range(400):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_measured_in_a_forked_child(factories: Factories, once: Protocol) -> None:
    for _ in range(2):  # the second child shows that the server has not touched CUDA
        record = launch(Spec(model=factories("tiny")), once, "cuda")
        assert record.failure is None
        assert record.get("peak_memory_allocated") is not None


def test_a_launch_in_a_folder_with_its_own_models_measures_those(
    tmp_path: Path, once: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text(
        "import importlib\nimport visionbench.models\nfrom torch import nn\n"
        "models = importlib.import_module(__package__)\n"
        "def make():\n    return nn.Flatten()\n"
        "def tells():\n    raise ValueError(list(models.__path__), visionbench.models.__file__)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert launch(Spec(model="user:models.net:make", image_size=16), once, "cpu", 1).failure is None
    failed = launch(Spec(model="user:models.net:tells", image_size=16), once, "cpu", 1).failure
    assert failed is not None
    assert f"{tmp_path}/models" in failed.message
    assert "visionbench" in failed.message or "bench/models" in failed.message


@pytest.mark.slow
def test_what_the_fork_server_imports_asks_nothing_of_cuda() -> None:
    """A child of a process that has started CUDA cannot use it. Needs no GPU: torch notes the question itself."""
    code = (
        "import os, torch\n"
        "from visionbench.measuring.process.fork_server import _preload\n"
        "asked = []\n"
        "torch._C._cuda_getDeviceCount = lambda *_: asked.append(1) or 0\n"
        "torch._C._cuda_init = lambda *_: asked.append(1)\n"
        "_preload()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(3 if asked or torch.cuda._is_in_bad_fork() or torch.cuda.is_initialized() else 0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_daemon_of_a_model_ends_with_its_launch(factories: Factories, once: Protocol, tmp_path: Path) -> None:
    record = launch(Spec(model=factories("leaves_a_daemon"), image_size=16), once, "cpu", threads=1)
    assert record.failure is None
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_a_model_that_writes_to_every_descriptor_harms_only_itself(run: Run) -> None:
    record = run("writes_to_every_descriptor")
    assert record.failure is None or record.failure.kind in ("crashed", "error")
    assert run("tiny").failure is None


@pytest.mark.parametrize(("kills", "kind"), [(0, "crashed"), (1, "out_of_memory"), (None, "crashed")])
def test_a_kill_is_for_memory_only_where_the_kernel_counted_it(kills, kind, tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    monkeypatch.setattr(exit_status, "COUNTERS", (counter, tmp_path / "no such file"))
    if kills is not None:
        counter.write_text("nr_free_pages 5\noom_kill 3\n")
    before = exit_status.memory_kills()
    if kills is not None:
        counter.write_text(f"nr_free_pages 5\noom_kill {3 + kills}\n")
    failure = exit_status.ended(-signal.SIGKILL, "warm-up", None, before)
    assert (failure.kind, "SIGKILL" in failure.message) == (kind, True)


@pytest.mark.parametrize(
    "line",
    [b"", b"5", b"null", b"[1, 2]", b'"pid"', b'{"pid": "x"}', b'{"exit": null}', b'{"record": "{"}', b"[" * 9999],
)
def test_what_is_no_word_of_ours_is_passed_over(line):
    story = launching._Story(deadline=1.0)
    said, end = child.messages(line + b"\n")
    assert end == b""
    for message in said:
        launching._take(story, message, 1.0)
    assert story == launching._Story(deadline=1.0)
