"""What people call `train`, what their networks return, and which network a name stands for."""

from __future__ import annotations

import random
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from visionbench.models.identity import network_hash
from visionbench.models.modes import FIXED, set_mode
from visionbench.models.outputs import UntrainableError, first_tensor, logits_of, trained
from visionbench.models.randomness import drawn_since, seeded, states
from visionbench.models.reasons import reason_of, reason_of_text, sentence


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rest = nn.BatchNorm2d(3), nn.Sequential(nn.Dropout(), nn.Linear(3, 3))


def started(*_args: Any) -> None:
    raise AssertionError("a training run was started")


class Loop(Net):
    def train(self, loader: Any, epochs: int = 3) -> None:  # type: ignore[override]
        started(loader, epochs)


class Epochs(Net):
    def train(self, epochs: int = 3) -> None:  # type: ignore[override]
        super().train(True)
        started(epochs)


class Without(Net):
    def train(self) -> None:  # type: ignore[override]
        super().train()
        self.norm.eval()


class Frozen(Net):
    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        self.norm.eval()
        return self


class Passing(Net):
    def train(self, *args: Any, **options: Any) -> Net:
        super().train(*args, **options)
        self.norm.eval()
        return self


def flagged() -> Net:
    net = Net()
    net.train = False  # type: ignore[assignment,method-assign]
    return net


@pytest.mark.parametrize("make", [Loop, Epochs, Without, flagged])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_called_train_and_sets_no_mode_is_not_called(make: Any, training: bool, inside: bool) -> None:
    net = nn.Sequential(make()) if inside else make()
    remarks = set_mode(net, training)
    assert {module.training for module in net.modules()} == {training}
    assert len(remarks) == 1


@pytest.mark.parametrize("make", [Frozen, Passing])
@pytest.mark.parametrize("inside", [False, True])
def test_an_override_that_keeps_a_norm_fixed_is_obeyed(make: Any, inside: bool) -> None:
    net = make()
    assert set_mode(nn.Sequential(net) if inside else net, True) == ()
    assert (net.training, net.rest[0].training, net.norm.training) == (True, True, False)
    set_mode(net, False)
    assert not net.rest[0].training


def test_an_override_calls_its_childrens_overrides_with_care() -> None:
    net = Frozen()
    net.rest.append(Loop())
    assert len(set_mode(net, True)) == 1
    assert net.rest[2].training


def test_an_exported_program_keeps_its_mode() -> None:
    exported = torch.export.export(nn.Linear(3, 3).eval(), (torch.ones(1, 3),)).module()
    assert set_mode(exported, True) == (FIXED,)


def test_torchs_own_method_is_put_back() -> None:
    before = nn.Module.train
    set_mode(Frozen(), True)
    assert nn.Module.train is before


@dataclass
class Fields:
    size: int
    features: Any
    logits: Any


Named = namedtuple("Named", "boxes out")
T, L = torch.ones(2, 8, 4, 4), torch.zeros(2, 5)

OUTPUTS: dict[str, tuple[Any, Any, Any]] = {
    "a tensor": (L, L, L),
    "a list": ([T, L], T, T),
    "a named field": (Fields(3, T, L), T, L),
    "a named tuple": (Named(T, L), T, L),
    "deep": ((None, "text", [{"a": [SimpleNamespace(b=(T,))]}]), T, T),
    "logits of a mapping in a list": ([{"features": T}, {"logits": L}], T, L),
    "integers first": ([torch.arange(3), L], None, L),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_tensors_of_an_output(kind: str) -> None:
    output, first, logits = OUTPUTS[kind]
    assert first is None or first_tensor(output) is first
    assert logits_of(output) is logits


@pytest.mark.parametrize("output", [None, "text", [], {"a": 3}, Fields(1, 2, 3)])
def test_an_output_without_tensors(output: Any) -> None:
    with pytest.raises(TypeError, match="no tensor"):
        first_tensor(output)
    with pytest.raises(UntrainableError):
        logits_of(output)


def test_an_output_that_holds_itself_has_an_end() -> None:
    output: list[Any] = []
    output.append(output)
    with pytest.raises(TypeError):
        first_tensor(output)


def test_nothing_to_train() -> None:
    with pytest.raises(UntrainableError, match="frozen"):
        trained(nn.Linear(3, 3).requires_grad_(False))


def widths(width: int, **settings: Any) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, width, 3, **settings))
    net.scale = 0.5  # type: ignore[assignment]
    return net


def test_a_hash_of_a_network_stands_for_its_structure(tmp_path: Path) -> None:
    same = network_hash(widths(8), tmp_path)
    assert network_hash(widths(8).eval(), tmp_path) == same
    rescaled = widths(8)
    rescaled.scale = 0.25  # type: ignore[assignment]
    others = [widths(9), widths(8, stride=2), widths(8).half(), rescaled, nn.Sequential(widths(8))]
    assert len({network_hash(net, tmp_path) for net in others} | {same}) == 6


def test_a_hash_of_a_network_knows_the_sources_below_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for body in ("x", "x.relu()"):
        (tmp_path / "hashed_by_a_test.py").write_text(f"def forward(x):\n    return {body}\n")
        sys.modules.pop("hashed_by_a_test", None)
        __import__("hashed_by_a_test")
        found.append(network_hash(widths(8), tmp_path))
        found.append(network_hash(widths(8), tmp_path / "elsewhere"))
    sys.modules.pop("hashed_by_a_test")
    assert found[0] != found[2]
    assert found[1] == found[3]


def test_random_numbers_come_from_one_seed_and_are_put_back() -> None:
    import numpy as np

    def drawn() -> tuple[Any, ...]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    before = states()
    with seeded(1):
        first = drawn()
        assert set(drawn_since(before)) == {"Python", "NumPy", "torch"}
    with seeded(1):
        assert drawn() == first
    assert drawn_since(before) == ()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TypeError("forward() missing 1 required positional argument: 'mask'"), "arguments"),
        (TypeError("forward() takes 2 positional arguments but 3 were given"), "arguments"),
        (RuntimeError("Given groups=1, weight of size [8, 1, 3, 3], expected input[1, 3, 8, 8] to have 1 channels, but "
                      "got 3 channels instead"), "channels"),
        (RuntimeError("Expected 4D (unbatched) or 5D (batched) input to conv3d, but got input of size: [1, 3, 8, 8]"),
         "channels"),
        (ValueError("Expected more than 1 value per channel when training, got input size [1, 8, 1, 1]"), "batch"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x4 and 8x10)"), "size"),
        (AssertionError("Input height (32) doesn't match model (224)."), "size"),
        (AttributeError("'Net' object has no attribute 'size'"), "other"),
        (KeyError("shape"), "other"),
        (NotImplementedError("Could not run 'my::op' with arguments from the 'Meta' backend."), "kernel"),
        (RuntimeError("Cannot copy out of meta tensor; no data!"), "values"),
        (RuntimeError("aten::_unique2: attempted to run this operator with Meta tensors, but there was no fake impl"),
         "kernel"),
        (RuntimeError("aten::_to_sparse: attempted to run this operator with Meta tensors"), "layout"),
        (RuntimeError("Cannot access storage of SparseTensorImpl"), "layout"),
        (RuntimeError("tolist() shouldn't be called on a tensor with unallocated storage"), "values"),
        (AssertionError("Guard failed: input.size()[0] == 1"), "shape"),
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), "device"),
        (AssertionError("Torch not compiled with CUDA enabled"), "device"),
        (ValueError("targets should not be none when in training mode"), "targets"),
    ],
)  # fmt: skip
def test_a_cause_is_told_by_the_words_of_torch_and_python(error: Exception, cause: str) -> None:
    reason = reason_of(error)
    assert reason.cause == cause
    assert ("--image-size" in reason.remedy) == (cause in ("size", "shape"))


def test_of_a_long_line_the_first_sentence_is_said() -> None:
    assert sentence(RuntimeError(f"no kernel for it. You may {'read ' * 50}. See the manual.")) == "no kernel for it"


def test_what_says_nothing_by_itself_is_said_with_its_type() -> None:
    assert sentence(KeyError("why")) == "KeyError: 'why'"
    assert sentence(AssertionError()) == "AssertionError"
    assert sentence(RuntimeError("\nit broke.\nhere")) == "it broke"


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: Input type (double) and bias type (float) should be the same",
        "RuntimeError: Input type (long int) and weight type (float) should be the same",
        "RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float",
        "RuntimeError: expected m1 and m2 to have the same dtype, but got: double != float",
    ],
)
def test_inputs_of_another_type_than_the_weights_are_called_that(text: str) -> None:
    assert "cast one of them" in reason_of_text(text).remedy


def test_a_remedy_of_a_run_is_not_to_run_it() -> None:
    for text in (
        "ValueError: no quantized weights",
        "RuntimeError: unsupported NestedTensor",
        "RuntimeError: sparse meta",
    ):
        assert "`run`" in reason_of(RuntimeError(text)).remedy
        assert reason_of_text(text).remedy == "mend the model"
