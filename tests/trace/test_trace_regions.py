"""Autocast regions, inference mode and broadcast attention: what a network asks for itself is obeyed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from visionbench.record.spec import Spec
from visionbench.tracing import run

Network = Callable[..., str]
LAYER = "nn.Linear(32, 32)"


def macs(model: str, **fields: object) -> int:
    return run(Spec(model=model, image_size=32, **fields)).macs_per_image  # type: ignore[arg-type]


def product_bytes(model: str, precision: str = "fp32") -> int:
    traced = run(Spec(model=model, image_size=32, precision=precision))  # type: ignore[arg-type]
    return sum(op.bytes for op in traced.operators if op.kind in ("matmul", "conv"))


@pytest.mark.parametrize("precision", ["amp_fp16", "amp_bf16"])
@pytest.mark.parametrize("task", ["inference", "train"])
def test_views_of_weights_are_never_taken_for_each_other(network: Network, precision: str, task: str) -> None:
    body = "(x.flatten(1, 2) @ s.a.t() @ s.b.t() @ s.c.t() @ s.a[:, :16].t()).mean(1)"
    model = network(f"Forward(lambda s, x: {body}, a=(48, 32), b=(40, 48), c=(16, 40))")
    exact = macs(model, task=task)
    assert {macs(model, task=task, precision=precision) for _ in range(4)} == {exact}


@pytest.mark.parametrize(
    "device", ["torch.autocast('cuda', enabled=False)", "torch.autocast(x.device.type, enabled=False)"]
)
def test_a_region_that_switches_autocast_off_is_obeyed(network: Network, device: str) -> None:
    before = f"""
def forward(s, x):
    with {device}:
        return s.w(x.float()).mean((1, 2))
"""
    model = network(f"Forward(forward, w={LAYER})", before)
    assert product_bytes(model, "amp_bf16") == product_bytes(model)


@pytest.mark.parametrize("precision", ["fp32", "amp_fp16"])
def test_a_region_inside_another_casts_to_its_own(network: Network, precision: str) -> None:
    before = """
def forward(s, x):
    with torch.autocast("cuda", enabled=False):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = s.w(x)
        assert out.dtype == torch.bfloat16 and s.w(x).dtype == torch.float32
    return s.w(x).mean((1, 2))
"""
    macs(network(f"Forward(forward, w={LAYER})", before), precision=precision)


def test_a_decorator_of_inference_mode_changes_no_count(network: Network) -> None:
    before = """
def forward(s, x):
    x = s.c(x).flatten(2).transpose(1, 2)
    return (F.scaled_dot_product_attention(x, x, x) @ s.w).mean(1)

inferring = torch.inference_mode()(forward)
"""
    parts = "c=nn.Conv2d(3, 32, 4, 4), w=(32, 32)"
    plain, decorated = (
        run(Spec(model=network(f"Forward({f}, {parts})", before), image_size=32)) for f in ("forward", "inferring")
    )
    assert [op.name for op in plain.operators] == [op.name for op in decorated.operators]
    assert plain.macs_per_image == decorated.macs_per_image


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("query", ["s.q", "s.q[:, :1]"])
def test_attention_broadcasts_as_torch_does(network: Network, task: str, batch: int, query: str) -> None:
    before = f"""
def forward(s, x):
    x = s.c(x).flatten(2).unflatten(1, (2, 16)).transpose(2, 3)
    return F.scaled_dot_product_attention({query}, x, x).mean((1, 2))
"""
    model = network("Forward(forward, c=nn.Conv2d(3, 32, 4, 4), q=(1, 2, 7, 16))", before)
    assert macs(model, batch_size=batch) == 98_304 + 2 * 7 * 64 * 32
    assert macs(model, batch_size=batch, task=task) > 0
