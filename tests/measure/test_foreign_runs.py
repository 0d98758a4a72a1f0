"""Networks as people have them, measured: flags that they set, modes that they refuse, what a name stands for."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from visionbench.machine.support import UnsupportedError
from visionbench.measuring import torch_flags
from visionbench.measuring.sweep import plan
from visionbench.measuring.worker import measure
from visionbench.measuring.workload import build
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Protocol, Spec

TINY = Protocol(name="tiny", launches=1, warmup_iterations=1, blocks=1, block_iterations=1, metrics=("throughput",))
HERE = Environment(device_type="cpu", torch="2.14.0")
LAYERS = "self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)"
BODY = "return self.head(self.conv(x).mean((2, 3)))"
_number = itertools.count()

Write = Callable[..., str]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """`written(body, first, layers)`: a user's network with that forward pass, in a module that begins with `first`."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(body: str = BODY, first: str = "", layers: str = LAYERS) -> str:
        names.append(f"measured_by_a_test_{next(_number)}")
        lines = ["import torch", "from torch import nn", first, "class Net(nn.Module):", "    def __init__(self):"]
        lines += ["        super().__init__()", f"        {layers}", "    def forward(self, x):"]
        lines += [f"        {line}" for line in body.splitlines()] + ["make = Net", ""]
        (tmp_path / f"{names[-1]}.py").write_text("\n".join(lines))
        return f"user:{names[-1]}:make"

    yield write
    for name in names:
        sys.modules.pop(name, None)


def spec(model: str, **fields: object) -> Spec:
    return Spec(model=model, image_size=16, **fields)  # type: ignore[arg-type]


SET = {
    "TF32": "torch.backends.cuda.matmul.allow_tf32 = True",
    "TF32 another way": "torch.set_float32_matmul_precision('high')",
    "TF32 a third way, of torch 2.9": "setattr(torch.backends, 'fp32_precision', 'tf32')",
    "TF32 of convolutions": "torch.backends.cudnn.allow_tf32 = True",
    "autotuning": "torch.backends.cudnn.benchmark = False",
    "threads": "torch.set_num_threads(1)",
    "determinism": "torch.use_deterministic_algorithms(True)",
    "cuDNN": "torch.backends.cudnn.enabled = False",
    "gradients": "torch.set_grad_enabled(False)",
    "attention": "torch.backends.cuda.enable_flash_sdp(False)",
}


def switches() -> dict[str, object]:
    state = torch_flags.state()
    return {name: state[name] for name in torch_flags.SWITCHES}


@pytest.mark.parametrize("kind", SET)
@pytest.mark.parametrize("where", ["imported", "built"])
def test_flags_that_a_module_leaves_behind_are_set_anew(written: Write, kind: str, where: str) -> None:
    before = torch_flags.state()
    with closing(build(spec(written()), "cpu", threads=2)):
        expected = switches()
    set_where = {"imported": {"first": SET[kind]}, "built": {"layers": f"{LAYERS}; {SET[kind]}"}}[where]
    with closing(build(spec(written(**set_where)), "cpu", threads=2)) as load:
        assert switches() == expected
        load.step()
        load.check()
    assert torch_flags.state() == before


@pytest.mark.parametrize("kind", [kind for kind in SET if kind not in ("gradients", "TF32 a third way, of torch 2.9")])
def test_flags_that_a_forward_pass_sets_are_no_record(written: Write, kind: str) -> None:
    record = measure(spec(written(f"{SET[kind]}\n{BODY}")), TINY, "cpu", 2)
    assert record.failure is not None
    assert record.failure.kind == "unsupported"
    assert "instead of" in record.failure.message


def test_a_default_type_of_double_is_refused(written: Write) -> None:
    with pytest.raises(UnsupportedError, match="float64"):
        build(spec(written(first="torch.set_default_dtype(torch.float64)")), "cpu")
    assert torch.get_default_dtype() == torch.float32


GRADIENTS = """with torch.enable_grad():
    f = self.conv(x).mean((2, 3))
    g, = torch.autograd.grad(self.head(f).sum(), f)
return f * g"""


def test_a_network_that_differentiates_inside_runs_under_no_grad_and_says_so(written: Write) -> None:
    record = measure(spec(written(GRADIENTS)), TINY, "cpu")
    throughput = record.get("throughput")
    assert record.failure is None
    assert throughput is not None
    assert "no_grad" in throughput.flags
    plain = measure(spec(written()), TINY, "cpu").get("throughput")
    assert plain is not None
    assert "no_grad" not in plain.flags


def test_what_fails_in_any_mode_fails_once(written: Write) -> None:
    record = measure(spec(written("raise RuntimeError('always')")), TINY, "cpu")
    assert record.failure is not None
    assert record.failure.message == "RuntimeError: always"


def test_what_is_no_exception_of_pythons_is_a_failure_too(written: Write) -> None:
    """`pytest.importorskip` raises such a one, and it is in many a module."""
    raising = "class Skipped(BaseException):\n    pass\n"
    for model in (written("raise Skipped('odd')", raising), written(BODY, f"{raising}raise Skipped('odd')")):
        failure = measure(spec(model), TINY, "cpu").failure
        assert failure is not None
        assert (failure.kind, "Skipped: odd" in failure.message) == ("error", True)


@pytest.mark.parametrize(
    "body", ["return {'out': [self.conv(x)]}", "return self.conv(x)[None], 3", "return [[], self.conv(x)]"]
)
@pytest.mark.parametrize("task", ["inference", "train"])
def test_outputs_of_any_kind_are_measured(written: Write, body: str, task: str) -> None:
    assert measure(spec(written(body), task=task, batch_size=2), TINY, "cpu").failure is None


@pytest.mark.parametrize("layers", [f"{LAYERS}; self.requires_grad_(False)", f"{LAYERS}; self.conv.double()"])
def test_what_cannot_be_is_unsupported(written: Write, layers: str) -> None:
    failure = measure(spec(written(layers=layers), task="train"), TINY, "cpu").failure
    assert failure is not None
    assert failure.kind == "unsupported"


def test_a_random_network_takes_the_same_way_each_time(written: Write) -> None:
    body = "import random\nself.seen = [random.random(), float(torch.rand(()))]\nprint(self.seen)\n" + BODY
    model = written(body.replace("print(self.seen)", "Net.draws = getattr(Net, 'draws', []) + [self.seen]"))
    for _ in range(2):
        with closing(build(spec(model), "cpu", seed=3)) as load:
            load.step()
    first, second = sys.modules[model.split(":")[1]].Net.draws
    assert first == second


def test_a_name_stands_for_what_its_file_holds(written: Write) -> None:
    asked = spec(written())
    records = [measure(asked, TINY, "cpu"), measure(spec(written(layers=LAYERS.replace("8", "9"))), TINY, "cpu")]
    one, other = (record.network for record in records)
    assert one is not None
    assert other is not None
    assert one != other
    done = [Record(spec=asked, protocol=TINY, environment=HERE, network=one, source="measured")]
    assert plan([asked], TINY, done, HERE, networks={asked.network: one}) == []
    assert plan([asked], TINY, done, HERE, networks={asked.network: other}) == [asked]
    assert plan([asked], TINY, done, HERE) == []  # nobody has looked: a name is believed
    assert plan([asked], TINY, [replace(done[0], network=None)], HERE, networks={asked.network: one}) == [asked]
