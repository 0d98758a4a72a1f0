"""A wall between rows: what one network breaks, prints or waits for is one row's failure."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import apart as room
from visionbench.tracing.apart import apart, guarded
from visionbench.tracing.structure import structures

Network = Callable[..., str]


def test_what_is_called_apart_returns_and_raises_as_it_would_here() -> None:
    assert apart(divmod, 7, 2) == (3, 1)
    for kind in (BenchError, ModelError):
        with pytest.raises(kind, match="why"):
            apart(_raise, kind("why"))
    with pytest.raises(BenchError, match="KeyError: 'why': mend"):
        apart(_raise, KeyError("why"))


def _raise(error: Exception) -> None:
    raise error


def test_where_no_child_can_train_the_call_is_made_here() -> None:
    """As in a notebook that has trained on a GPU: torch refuses autograd in its children. The words are torch's."""
    torchs = "Unable to handle autograd's threading in combination with fork-based multiprocessing. See https://..."

    def train() -> int:
        if multiprocessing.parent_process() is not None:
            raise RuntimeError(torchs)
        return os.getpid()

    def count() -> int:
        try:
            return train()
        except RuntimeError as error:
            raise BenchError(f"user:net:make does not run at 32 px ({error}): mend the model.") from error

    assert apart(train) == apart(count) == guarded("user:net:make", count) == os.getpid()


@pytest.mark.parametrize(("signum", "words"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "want of memory")])
def test_a_child_that_dies_is_one_sentence(signum: int, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        apart(lambda: os.kill(os.getpid(), signum))


def test_a_childs_end_is_said_with_the_models_name() -> None:
    with pytest.raises(BenchError, match="user:net:make: it ended the process"):
        guarded("user:net:make", os._exit, 7)
    assert guarded("user:net:make", os.getpid) != guarded("timm:resnet18", os.getpid) == os.getpid()


def test_a_child_that_exits_or_hangs_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="exit code 7"):
        apart(os._exit, 7)
    monkeypatch.setattr(room, "LIMIT", 0.2)
    with pytest.raises(BenchError, match="did not end"):
        apart(time.sleep, 60)


def test_what_a_child_prints_is_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    apart(lambda: (print("Python"), os.write(1, b"native\n"), os.system("echo shell")))
    out, err = capfd.readouterr()
    assert out == ""
    assert {"Python", "native", "shell"} <= set(err.split())


KILLING = "def forward(s, x):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGABRT)\n"
PLAIN = "nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(7200, 5))"


@pytest.mark.slow
def test_a_crash_is_one_rows_failure(network: Network) -> None:
    crashing, plain = network("Forward(forward)", KILLING), network(PLAIN)
    specs = [Spec(model=model, image_size=32) for model in (crashing, plain)]
    found = structures(specs)
    assert list(found.failures) == [str(specs[0])]
    assert "SIGABRT" in found.failures[str(specs[0])]
    assert found.rows[str(specs[1])].totals["graphs"] == 1


def test_one_model_that_cannot_be_traced_leaves_the_others(network: Network, capfd: pytest.CaptureFixture[str]) -> None:
    models = [network("Forward(forward)", KILLING), network(PLAIN), network("Forward(lambda s, x: s.missing)")]
    assert main(["trace", *models, "--image-size", "32", "--json"]) == 2
    out, err = capfd.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["failure"] is None for record in records] == [False, True, False]
    assert "SIGABRT" in err
    assert "mend the model" in err


def test_predictions_of_the_others_stay(network: Network, capfd: pytest.CaptureFixture[str]) -> None:
    models = [network("Forward(lambda s, x: s.missing)"), network(PLAIN)]
    assert main(["predict", *models, "--gpu", "v100-sxm2-16gb", "--image-size", "32", "--json"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [record["failure"] is None for record in records] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "built", [f"{PLAIN}.requires_grad_(False)", "Forward(lambda s, x: s.c(x).detach(), c=nn.Conv2d(3, 8, 3))"]
)
def test_an_inference_is_guarded_where_nothing_can_be_trained(
    network: Network, built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--exact", network(built), "--image-size", "32", "--baseline", str(tmp_path / "b.json")]
    assert main([*words, "--update"]) == 0
    assert "cannot be trained" in capsys.readouterr().err
    assert main(words) == 0


def test_work_that_is_done_once_per_batch_is_said(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    before = "def forward(s, x):\n    return s.c(x) * (s.w @ s.w).mean()\n"
    shared = network("Forward(forward, c=nn.Conv2d(3, 8, 3), w=(32, 32))", before)
    for model, said in ((shared, True), (network(PLAIN), False)):
        assert main(["trace", model, "--image-size", "32", "--batch-size", "4"]) == 0
        assert ("once per batch" in capsys.readouterr().err) == said


def test_a_network_that_takes_no_smaller_batch_is_counted_and_so_are_the_others(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = network("Forward(lambda s, x: s.c(x).unflatten(0, (2, -1)).flatten(0, 1), c=nn.Conv2d(3, 8, 3))")
    assert main(["trace", pairs, network(PLAIN), "--image-size", "32", "--batch-size", "4", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["failure"] for line in out.splitlines()] == [None, None]
    assert "does not run" not in err
