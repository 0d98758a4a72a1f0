"""Modules and functions handed to `trace`, `measure` and `compare`, and what a notebook shows of the results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from visionbench import compare, measure, predict, read_records, trace
from visionbench.command import objects
from visionbench.command.requests import HowLong
from visionbench.models import ModelError
from visionbench.models.given import Given, find, known
from visionbench.record.errors import BenchError
from visionbench.record.spec import Protocol

BRIEF = Protocol(name="brief", warmup_iterations=1, blocks=8, block_iterations=1)


class Net(nn.Module):
    """Two inputs by keyword, and one product."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(8, width)

    def forward(self, image: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
        features = image.flatten(1)[:, :8]
        return self.layer(features if ids is None else features + ids)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol of a few milliseconds."""
    monkeypatch.setattr("visionbench.command.verbs.run.SMOKE", BRIEF)


def flags() -> tuple[Any, ...]:
    return torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.is_grad_enabled(), torch.get_default_dtype()


# --- trace ------------------------------------------------------------------------------------------------------------


def test_a_module_is_counted_and_stays_as_it_is() -> None:
    network, images = small(), torch.randn(2, 3, 32, 48)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    record = trace(network, images)
    assert (record.source, record.spec.batch_size, record.spec.image_size) == ("computed", 2, (32, 48))
    assert record.spec.model == "user:torch.nn.modules.container:Sequential"
    assert record.value("params") == 8 * 28
    assert record.value("macs") == 8 * 27 * 8 * 12
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert record.value("macs") == trace(lambda: small(), image_size=(32, 48)).value("macs")


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        (torch.zeros(3, 2, 4), ("2x4",)),
        ((torch.zeros(3, 8), torch.zeros(3, 8, dtype=torch.float64)), ("8", "8")),
        ({"image": torch.zeros(3, 8), "ids": torch.tensor([[5], [1], [9]])}, ("image=8", "ids=1:int64:1..9")),
        ({"image": torch.zeros(3, 8), "ids": torch.ones(3, 1, dtype=torch.bool)}, ("image=8", "ids=1:bool")),
    ],
)
def test_tensors_say_what_a_network_is_given(inputs: Any, texts: tuple[str, ...]) -> None:
    record = trace(Net(), inputs)
    assert record.spec.inputs == texts
    assert record.spec.batch_size == 3
    assert record.value("macs") == 8 * 4


def test_a_training_step_of_a_module_has_its_memory() -> None:
    network = small()
    record = trace(network, torch.zeros(4, 3, 32, 32), task="train", precision="amp_bf16")
    assert (record.spec.task, record.spec.precision) == ("train", "amp_bf16")
    assert record.value("peak_memory_live")
    assert next(network.parameters()).grad is None


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: trace(5), "a network is a name, a torch.nn.Module or a function that returns one, and not an object of t"),
    (lambda: trace(lambda: 5), "returned int; a factory returns a torch.nn.Module"),
    (lambda: trace(small(), torch.zeros(2, 3, 8, 8), batch_size=3), "leave batch_size out"),
    (lambda: trace(Net(), torch.zeros(2, 8, dtype=torch.complex64)), "complex64 cannot be described"),
    (lambda: trace(Net(), (torch.zeros(2, 8), torch.zeros(3, 8))), "the first sizes of these differ"),
    (lambda: trace("resnet18", torch.zeros(1, 3, 8, 8)), "tensors go with a module"),
    (lambda: measure("resnet18", small()), "names and objects are not mixed"),
    (lambda: measure(small(), launches=3), "a function that returns the network"),
    (lambda: measure(small(), batch_size="max"), "searched for in fresh processes"),
    (lambda: measure(small(), depth=3), "there is no setting depth"),  # type: ignore[call-arg]
    (lambda: measure(torch.zeros(2, 3, 8, 8)), "hand over a network before it"),
    (lambda: trace(torch.jit.script(Net()), torch.zeros(2, 8)), "it is TorchScript: trace the module that it was made"),
    (lambda: trace(torch.jit.script(Net()), torch.zeros(2, 8)), "or measure it with `measure`"),
    (lambda: trace(small().half(), torch.zeros(2, 3, 8, 8)), "float16 parameters, and fp32 .*: say precision fp16, or"),
    (lambda: trace(small().bfloat16(), torch.zeros(2, 3, 8, 8), precision="tf32"), ": say precision bf16, or build"),
    (lambda: trace(small().double(), torch.zeros(2, 3, 8, 8)), "begins with float32: build it in float32"),
    (lambda: compare(small()), "hand over two"),
    (lambda: measure(["resnet18", "resnet34"]), "names are handed over one by one, and not as a list: unpack it."),
    (lambda: trace(("resnet18",)), "one by one, and not as a tuple"),
    (lambda: trace(small(), torch.tensor(1.0)), "a tensor without sizes cannot be one"),
    (lambda: trace(Net(), (torch.zeros(2, 8), torch.tensor(2))), "a tensor without sizes cannot be one"),
    (lambda: compare(small(), small(), base="HEAD"), "without base, head or vary"),
    (lambda: compare(small(), small(), launches=5), "put functions that return them into a module"),
]


@pytest.mark.parametrize(("act", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_mistake_is_one_sentence(act: Callable[[], Any], words: str) -> None:
    with pytest.raises((BenchError, ModelError), match=words.replace("(", r"\(")) as raised:
        act()
    assert "\n" not in str(raised.value)


# --- measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("brief")
def test_a_module_is_measured_in_this_process_and_says_so(tmp_path: Path) -> None:
    network, images = small(), torch.randn(2, 3, 32, 32)
    state, before = torch.get_rng_state(), flags()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = tmp_path / "mine.jsonl"
    records = measure(network, images, device="cpu", threads=1, task="train", records=path)
    [record] = records
    assert record.failure is None
    assert record.protocol is not None
    assert record.protocol.name == "brief, in process"
    throughput = record.get("throughput")
    assert throughput is not None
    assert "in_process" in throughput.flags
    assert len(throughput.values) == 8
    assert record.network is not None
    assert read_records(path) == records
    # The process and the module are as before.
    assert flags() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert next(network.parameters()).grad is None
    shown = records._repr_html_()
    assert "<table>" in shown
    assert "in process" in shown
    assert "own process" in shown


@pytest.mark.usefixtures("brief")
def test_what_a_module_raises_is_a_failure_as_by_name() -> None:
    class Breaks(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("no <image>")

    before = flags()
    [record] = measure(Breaks(), torch.zeros(1, 3, 8, 8), device="cpu")
    assert record.failure is not None
    assert "no <image>" in record.failure.message
    assert flags() == before
    assert "no &lt;image&gt;" in measure(Breaks(), torch.zeros(1, 3, 8, 8), device="cpu")._repr_html_()


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("part", ["all", "buffer", "layer"])
def test_a_module_without_values_cannot_be_timed_and_says_why(part: str) -> None:
    network = nn.Sequential(small(), nn.BatchNorm1d(8))
    moved = {"all": network, "layer": network[0]}.get(part)
    if moved is not None:
        moved.to("meta")
    else:
        network[1].running_mean = torch.zeros(8, device="meta")
    [record] = measure(network, torch.zeros(1, 3, 8, 8), device="cpu")
    assert record.failure is not None
    assert record.failure.kind == "unsupported"
    assert "on the meta device, without values: build it on the CPU" in record.failure.message


def test_a_network_is_known_only_meanwhile() -> None:
    given = Given(name="user:__main__:net", factory=small)
    with known(given):
        assert find(given.name) is given
        with pytest.raises(ZeroDivisionError), known(Given(name="user:__main__:other", factory=small)):
            raise ZeroDivisionError
        assert find("user:__main__:other") is None
    assert find(given.name) is None


def test_what_cannot_be_copied_says_what_to_hand_over() -> None:
    network = small()
    network.lines = (line for line in "ab")  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"Sequential cannot be copied \(.*\); give a function that returns it$"):
        trace(network)


def test_a_function_that_a_module_holds_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_objects.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Flatten()\n\nclass Own(torch.nn.Flatten):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import nets_of_objects as nets  # type: ignore[import-not-found]

    for function in (nets.make, nets.Own):
        network = objects.handed(function, None, {})
        assert network.given is None
        assert network.spec.model == f"user:nets_of_objects:{function.__name__}"
    for other in (nets.Own(), lambda: nets.make(), small):
        has_name = objects.handed(other, None, {}).given is None
        assert has_name == (other is small and sys.modules[__name__].small is small)


@pytest.mark.usefixtures("brief")
def test_a_user_who_asks_for_launches_of_a_module_is_told_before_anything_is_built() -> None:
    network = objects.handed(small(), None, {})
    with pytest.raises(BenchError, match="fresh processes"):
        objects.measure(network, objects.Where(device="cpu"), HowLong(launches=2), None)


# --- compare ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_modules_take_turns_in_this_process_and_one_process_proves_nothing() -> None:
    images = torch.randn(1, 3, 64, 64)
    wide = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(12)], nn.Flatten())
    narrow = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Flatten())
    state, before = torch.get_rng_state(), flags()
    judgement = compare(narrow, wide, images, device="cpu", rounds=8, seed=1)
    [verdict] = judgement.verdicts
    assert verdict.word == "inconclusive"
    assert verdict.comparison.baseline.spec.model != verdict.comparison.candidate.spec.model
    assert len(verdict.comparison.launches[0].rounds) == 8
    assert "between the 8 rounds of this one process" in judgement.remarks[0]
    assert flags() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert "<table>" in judgement._repr_html_()  # type: ignore[attr-defined]


def test_a_side_that_fails_is_named() -> None:
    with pytest.raises(BenchError, match="the second network failed at build"):
        compare(small(), nn.Linear(7, 7), torch.zeros(1, 3, 16, 16), device="cpu", rounds=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cudda"}, "there is no device 'cudda'"),
        ({"device": ""}, "device is text like"),
        ({"device": 0}, 'device is text like "cpu" or "cuda:1", or a torch.device, and not 0'),
        ({"device": "cuda:77"}, "device cuda:77: torch "),
        ({"device": torch.device("cuda", 77)}, "device cuda:77: torch "),
        ({"device": "xpu:9"}, "device xpu:9: torch finds no such GPU here: use device cpu"),
        ({"device": "meta"}, "only cuda, xpu, mps and cpu are measured"),
        ({"threads": 0}, "threads is a whole number of at least 1, and not 0"),
        ({"threads": "2"}, "and not '2'"),
        ({"launches": 1.0}, "launches is a whole number"),
        ({"budget": -1}, "budget is a number of seconds above 0, and not -1"),
        ({"protocol": "smok"}, "there is no protocol 'smok': did you mean smoke?"),
        ({"precision": "half"}, "did you mean fp16?"),
        ({"batch_size": 3}, "leave batch_size out"),
        ({"batchsize": 3}, "there is no setting batchsize"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_pythons_words(settings: dict[str, object], said: str) -> None:
    """For objects and names alike, before anything is measured: no traceback of torch's, and no option's name."""
    with pytest.raises(BenchError) as refusal:
        measure(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), **settings)
    assert said in str(refusal.value)
    assert "--" not in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compare(nn.ReLU(), nn.ReLU(), torch.zeros(1, 3, 8, 8), device="cuda:77"), "device cuda:77: torch "),
        (lambda: compare("resnet18", vary={"precision": "tf32"}, device="xpu:9"), "torch finds no such GPU here"),
        (lambda: predict(nn.ReLU(), gpu="a100"), "a prediction needs names"),
        (lambda: predict("resnet18", gpu=None), "gpu is a card's name"),
        (lambda: trace({"weight": torch.zeros(1)}), "there is only an input"),
        (lambda: trace(nn.ReLU(), torch.zeros(1, 3, 8, 8).numpy()), "an object of type ndarray; make it a tensor"),
        (lambda: trace("resnet18", inputs="3x64"), "which inputs gives"),
        (lambda: trace("resnet18", loss="user:a:b"), "loss is what a training step minimises: add task train"),
    ],
)
def test_every_call_refuses_in_one_sentence(call: Callable[[], object], said: str) -> None:
    with pytest.raises(BenchError, match=said) as refusal:
        call()
    assert "\n" not in str(refusal.value)
