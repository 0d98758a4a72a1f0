"""A trace leaves the process as it was, whether it ends well or not; and tells in one sentence why it did not."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import UntraceableError, run
from visionbench.tracing.second_opinion import second_opinion

ROOT = Path(__file__).parents[2]
Network = Callable[..., str]

OVERRIDDEN = ("scaled_dot_product_attention", "linear", "conv2d", "matmul", "einsum", "layer_norm", "softmax.int")


class Names(TorchDispatchMode):
    """The operators that torch dispatches while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def attention_on(device: str) -> list[str]:
    """What attention with a gradient is made of."""
    query = torch.ones(1, 2, 4, 8, device=device, requires_grad=True)
    with torch.enable_grad(), Names() as names:
        scaled_dot_product_attention(query, query, query).sum().backward()
    return names.seen


def process() -> dict[str, Any]:
    """Everything of the process that a trace could forget to put back."""
    registries = {name: value for name, value in vars(torch.nn.modules.module).items() if name.startswith("_global_")}
    return {
        "hooks": {name: dict(value) for name, value in registries.items() if isinstance(value, dict)},
        "random state": torch.get_rng_state().tolist(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "device": torch.get_default_device(),
        "type": torch.get_default_dtype(),
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "collector": gc.isenabled(),
        "dispatch modes": len(_get_current_dispatch_mode_stack()),
        "function modes": len(_get_current_function_mode_stack()),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "filters": list(warnings.filters),
        "loggers": [logging.getLogger(name).level for name in ("fvcore", "fvcore.nn.jit_analysis")],
        "kernels": [
            torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutogradMeta") for name in OVERRIDDEN
        ],
        "attention on meta": attention_on("meta"),
        "attention on the CPU": attention_on("cpu"),
        "threads": torch.get_num_threads(),
        "search path": [entry for entry in sys.path if entry != str(Path.cwd())],
    }


def differences(before: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    after = process()
    return {name: (value, after[name]) for name, value in before.items() if after[name] != value}


SPECS = [
    Spec(model="timm:deit_tiny_patch16_224"),
    Spec(model="timm:deit_tiny_patch16_224", attention="math"),
    Spec(model="timm:deit_tiny_patch16_224", task="train", precision="amp_fp16"),
    Spec(model="timm:swin_tiny_patch4_window7_224", task="train", attention="math", precision="amp_bf16"),
    Spec(model="timm:resnet18", memory_format="channels_last", precision="fp16"),
    Spec(model="paper:convnext_iso_small", task="train"),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_trace_leaves_the_process_as_it_was(spec: Spec) -> None:
    before = process()
    run(spec)
    assert differences(before) == {}


def test_on_meta_attention_is_math_again() -> None:
    run(Spec(model="timm:deit_tiny_patch16_224", task="train", precision="amp_fp16"))
    seen = attention_on("meta")
    assert len([name for name in seen if name.startswith("aten.bmm")]) == 6  # two products, two gradients of each
    assert any("softmax" in name for name in seen)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_put_back(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        run(Spec(model="timm:resnet18", image_size=64))
        assert gc.isenabled() == enabled
        with pytest.raises(ModelError):
            run(Spec(model="timm:resnet19"))
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()


TRANSFORMER = "nn.Sequential(Patches(16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))"


def test_a_second_opinion_leaves_the_process_as_it_was(network: Network) -> None:
    before = process()
    second_opinion(Spec(model="timm:resnet18", image_size=64))
    second_opinion(Spec(model=network(TRANSFORMER), image_size=32))
    changed = differences(before)
    changed.pop("random state", None)  # a test of its own, below
    assert changed == {}


def test_a_second_opinion_leaves_the_random_state(network: Network) -> None:
    before = torch.get_rng_state()
    second_opinion(Spec(model=network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout())"), image_size=32))
    assert torch.equal(before, torch.get_rng_state())


def test_the_fast_path_stays_as_the_caller_set_it() -> None:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        second_opinion(Spec(model="timm:resnet18", image_size=64))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# What goes wrong, and what is left when it has.

BROKEN = {
    "in the forward pass": "Forward(lambda s, x: s.w(x.view(7)), w=nn.Linear(3, 4))",
    "in a layer": "nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(7, 7))",
    "in the loss": "Forward(lambda s, x: s.w(x).sum((1, 2, 3)), w=nn.Conv2d(3, 4, 1))",
    "without a gradient": "Forward(lambda s, x: x.flatten(1))",
    "by its values": "Forward(lambda s, x: s.w(x) * x.sum().item(), w=nn.Conv2d(3, 4, 1))",
}


@pytest.mark.parametrize("where", BROKEN)
@pytest.mark.parametrize("precision", ["fp32", "amp_fp16"])
def test_a_trace_that_fails_leaves_the_process_as_it_was(network: Network, where: str, precision: Any) -> None:
    model = network(BROKEN[where])
    before = process()
    with pytest.raises(BenchError) as caught:
        run(Spec(model=model, task="train", image_size=32, precision=precision))
    assert differences(before) == {}
    what = r"does not run at 32 px \(.+\)|cannot be trained|cannot be counted without weights"
    assert re.fullmatch(rf"{model} ({what}): .+\.", str(caught.value))


def test_a_factory_that_fails_leaves_the_process_as_it_was(network: Network) -> None:
    model = network("nn.Linear(-1, 'many')")
    before = process()
    with pytest.raises(ModelError, match="raised"):
        run(Spec(model=model, image_size=32))
    assert differences(before) == {}


@pytest.mark.parametrize(
    "reading",
    ["x.sum().item()", "float(x.sum())", "int(x[0, 0, 0, 0])", "x.sum().tolist()", "(1 if x.sum() > 0 else 2)"],
)
def test_a_forward_that_reads_values_is_told_so(network: Network, reading: str) -> None:
    model = network(f"Forward(lambda s, x: x * {reading})")
    with pytest.raises(
        UntraceableError, match=rf"^{model} cannot be counted .* its forward pass reads tensor values\.$"
    ):
        run(Spec(model=model, image_size=32))


VALUES = ["x[x > 0]", "x.nonzero().float()", "x.unique()", "torch.from_numpy(x.numpy())"]


@pytest.mark.parametrize("reading", VALUES)
def test_a_forward_whose_shapes_hang_on_values_is_one_sentence(network: Network, reading: str) -> None:
    with pytest.raises(BenchError, match=r"\A.*\.\Z"):
        run(Spec(model=network(f"Forward(lambda s, x: {reading})"), image_size=32))


@pytest.mark.parametrize("reading", VALUES[2:])
def test_a_forward_whose_shapes_hang_on_values_is_told_so(network: Network, reading: str) -> None:
    with pytest.raises(UntraceableError):
        run(Spec(model=network(f"Forward(lambda s, x: {reading})"), image_size=32))


@pytest.mark.parametrize(("model", "size"), [("paper:convnext_iso_small", 16), ("timm:xcit_nano_12_p8_224", 100)])
def test_a_size_that_the_model_refuses(model: str, size: int) -> None:
    with pytest.raises(ModelError, match=f"refuses image size {size}"):
        run(Spec(model=model, image_size=size))


def test_a_size_that_the_forward_pass_cannot_take(network: Network) -> None:
    with pytest.raises(BenchError, match=r"does not run at 8 px \(.+\)"):
        run(Spec(model=network("nn.Conv2d(3, 8, 11)"), image_size=8))


def test_an_unknown_model() -> None:
    with pytest.raises(ModelError, match="resnet18"):
        run(Spec(model="timm:resnet_18"))


def test_a_constructor_may_read_values(network: Network) -> None:
    rates = "[rate.item() for rate in torch.linspace(0, 0.1, 4)]"
    width = "int(torch.tensor([5.0]).add_(3).item())"
    model = network(f"Forward(lambda s, x: s.w(x) * {rates}[-1], w=nn.Conv2d(3, {width}, 1))")
    traced = run(Spec(model=model, image_size=32))
    assert traced.params == 3 * 8 + 8
    assert traced.macs_per_image == 24 * 32 * 32


def test_a_trace_takes_no_gradients_setting_from_its_caller() -> None:
    with torch.no_grad():
        assert run(Spec(model="timm:resnet18", image_size=64)).params == 11_689_512
    torch.manual_seed(1)
    first = run(Spec(model="timm:resnet18", image_size=64, task="train"))
    torch.manual_seed(2)
    assert run(Spec(model="timm:resnet18", image_size=64, task="train")) == first


def test_a_training_step_in_a_caller_without_gradients() -> None:
    with torch.no_grad():
        assert run(Spec(model="timm:resnet18", image_size=64, task="train")).curve is not None


@pytest.mark.parametrize("error", ["KeyError('a')", "IndexError('b')", "ZeroDivisionError()", "Exception('c')"])
def test_whatever_a_forward_raises_is_one_sentence(network: Network, error: str) -> None:
    model = network("Forward(broken)", before=f"def broken(s, x):\n    raise {error}\n")
    with pytest.raises(BenchError, match="does not run"):
        run(Spec(model=model, image_size=32))


def test_a_forward_that_draws_random_numbers_leaves_the_random_state(network: Network) -> None:
    model = network("Forward(lambda s, x: x * torch.rand(()))")
    before = torch.get_rng_state()
    run(Spec(model=model, image_size=32))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("made", ["torch.arange(3)", "torch.zeros(3)", "torch.full((3,), 2.0)", "torch.rand(3)"])
def test_a_cpu_tensor_that_is_made_twice_is_on_the_cpu_twice(network: Network, made: str) -> None:
    model = network(f"Forward(lambda s, x: x + {made}.tolist()[0] + {made}.tolist()[0])")
    assert len(run(Spec(model=model, image_size=32)).operators) >= 2


def test_constants_of_a_users_module_keep_their_values(network: Network) -> None:
    model = network(
        "Forward(lambda s, x: x * MEAN.to(x.device)[:, None, None])", before="MEAN = torch.tensor([0.1, 0.2, 0.3])\n"
    )
    run(Spec(model=model, image_size=32))
    assert sys.modules[model.split(":")[1]].MEAN.device.type == "cpu"


@pytest.mark.slow
def test_the_first_thing_a_process_does_may_be_a_trace() -> None:
    code = (
        "from visionbench.tracing import run; from visionbench.record.spec import Spec\n"
        "print(run(Spec(model='timm:resnet18', image_size=64)).params)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "11689512", done.stderr[-2000:]


class Reader(nn.Module):
    """Its constructor reads a tensor's value, as many in timm 1.0.15: `[x.item() for x in torch.linspace(...)]`."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.linspace(0, 1, 3)[1].item()
        self.layer = nn.Conv2d(3, 8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images) * self.rate


def test_a_constructor_of_ours_or_timms_may_read_values(paper_model: Callable[[Callable[[], nn.Module]], str]) -> None:
    assert run(Spec(model=paper_model(Reader), image_size=32)).params == 32
