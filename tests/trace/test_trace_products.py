"""What multiplies is counted, or named: no product is missed silently."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from visionbench.machine.environment import describe
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run
from visionbench.tracing.step import missed, to_record

Network = Callable[..., str]


def trace_of(model: str, task: str = "inference") -> Trace:
    return run(Spec(model=model, image_size=32, batch_size=2, task=task))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("torch.cdist(x.flatten(2), x.flatten(2))", "_cdist_forward"),
        ("torch.fft.rfft2(x).abs()", "_fft_r2c"),
        ("F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1))", "grid_sampler_2d"),
        ("(torch.complex(x, x) @ torch.complex(x, x)).abs()", "bmm"),
        ("F.pdist(x.flatten(1))", "_pdist_forward"),
        ("torch.linalg.det(x)", "_linalg_det"),
        ("torch.linalg.eigvals(x).abs()", "linalg_eig"),
        ("torch.cholesky_inverse(x)", "cholesky_inverse"),
    ],
)
def test_a_product_without_a_formula_is_named_and_flagged(network: Network, body: str, name: str) -> None:
    traced = trace_of(network(f"Forward(lambda s, x: {body})"))
    assert missed(traced) == (name,)
    assert [m.flags for m in to_record(traced, describe("meta")).measurements if m.metric == "macs"] == [
        ("products_missed",)
    ]


ROWS, GROUPED = 2 * 3 * 32, "torch.arange(1, 4, dtype=torch.int32, device=x.device)"


@pytest.mark.parametrize(
    ("body", "macs"),
    [
        ("x[0, 0].clone().addmm_(x[0, 1], s.w)", 32**3 // 2),
        ("x[:, 0].clone().baddbmm_(x[:, 1], x[:, 2])", 32**3),
        ("x[0, 0].clone().addbmm_(x[:, 1], x[:, 2])", 32**3),
        ("x[0, 0, 0].clone().addmv_(s.w, x[0, 0, 1])", 32**2 // 2),
        ("torch._addmm_activation(x[0, 0], x[0, 1], s.w)", 32**3 // 2),
        ("torch.conv_tbc(x[:, 0].contiguous(), torch.ones(3, 32, 8), torch.ones(8), 1)", 32 * 3 * 32 * 8),
        ("F.affine_grid(torch.ones(2, 2, 3, device=x.device), (2, 1, 8, 8), False)", 8 * 8 * 2 * 3),
        ("F.affine_grid(torch.ones(2, 3, 4, device=x.device), (2, 1, 4, 8, 8), False)", 4 * 8 * 8 * 3 * 4),
        (f"F.grouped_mm(x.flatten(0, 2).bfloat16(), x[0].bfloat16(), offs={GROUPED})", ROWS * 32 * 32 // 2),
        ("F.grouped_mm(x[:, 0].bfloat16(), x[:, 1].bfloat16())", 32**3),
    ],
)
def test_a_rare_product_counts_as_what_it_is(network: Network, body: str, macs: int) -> None:
    traced = trace_of(network(f"Forward(lambda s, x: {body}, w=(32, 32))"))
    assert (missed(traced), traced.macs_per_image) == ((), macs)


@pytest.mark.parametrize(
    "body",
    [
        "F.interpolate(x, scale_factor=2, mode='bilinear')",
        "F.interpolate(x[:, 0], scale_factor=2, mode='linear')",
        "torch.linalg.vector_norm(x, dim=1)",
        "torch.linalg.cross(x, x, dim=1)",
        "torch.lgamma(x) + torch.digamma(x) + torch.cummax(x, 1)[0]",
    ],
)
def test_what_only_sounds_like_a_product_is_none(network: Network, body: str) -> None:
    assert missed(trace_of(network(f"Forward(lambda s, x: {body})"))) == ()


@pytest.mark.parametrize("pool", ["ThreadPoolExecutor(2)", "POOL"])
def test_what_threads_compute_is_named_as_missed(network: Network, pool: str) -> None:
    before = f"from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(1)\nmake = lambda: {pool}\n"
    traced = trace_of(network("Forward(lambda s, x: list(make().map(s.c, [x]))[0], c=nn.Conv2d(3, 8, 3))", before))
    assert missed(traced) == ("threads",)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_bilinear_layer_multiplies_in_its_gradients_too(network: Network, frozen: bool) -> None:
    """Each product is of all four sizes: images, outputs, and both inputs."""
    body = "s.b(x[:, 0, :, 0], s.l(x[:, 0, 0, :5]))"
    parts = f"b=nn.Bilinear(32, 7, 4).requires_grad_({not frozen}), l=nn.Linear(5, 7)"
    traced = trace_of(network(f"Forward(lambda s, x: {body}, {parts})"), "train")
    products = [op.macs for op in traced.operators if op.name == "_trilinear"]
    assert products == [2 * 32 * 7 * 4] * (2 if frozen else 3)


def test_nothing_is_missed_of_a_plain_network(network: Network) -> None:
    assert missed(trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Softmax(1))"))) == ()


@pytest.mark.parametrize("groups", [1, 4])
def test_a_deformable_convolution_multiplies_as_a_plain_one(network: Network, groups: int) -> None:
    before = """
from torchvision.ops import deform_conv2d

def forward(s, x):
    x = s.c(x)
    return deform_conv2d(x, x[:, :1].expand(-1, 18, -1, -1), s.w, padding=1).mean((2, 3))
"""
    model = network(f"Forward(forward, c=nn.Conv2d(3, 8, 1), w=(16, {8 // groups}, 3, 3))", before)
    plain = 32 * 32 * (3 * 8 + 16 * 8 // groups * 9)
    assert trace_of(model).macs_per_image == plain
    assert trace_of(model, "train").macs_per_image > 2 * plain


def test_a_users_own_formula_counts_and_its_lack_is_said(network: Network) -> None:
    before = """
from torch.utils.flop_counter import register_flop_formula

@torch.library.custom_op("vbtests::mix", mutates_args=())
def mix(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x @ w

mix.register_fake(lambda x, w: x.new_empty(*x.shape[:-1], w.shape[1]))
"""
    expression = "Forward(lambda s, x: torch.ops.vbtests.mix(x, s.w), w=(32, 16))"
    assert missed(trace_of(network(expression, before))) == ("vbtests.mix",)
    formula = """
from torch.utils.flop_counter import register_flop_formula

@register_flop_formula(torch.ops.vbtests.mix)
def flops(x, w, *_args, out_shape=None, **_options):
    return 2 * 3 * 32 * 2 * w[0] * w[1]
"""
    traced = trace_of(network(expression, formula))
    assert (traced.macs_per_image, missed(traced)) == (3 * 32 * 32 * 16, ())


def test_an_in_place_operator_that_does_not_fit_is_refused(network: Network) -> None:
    with pytest.raises(Exception, match=r"broadcast|shape"):
        trace_of(network("Forward(lambda s, x: x.mean(1).add_(x.flatten(1)))"))


def test_weights_of_an_inference_mode_are_counted_as_others(network: Network) -> None:
    before = """
def frozen():
    with torch.inference_mode():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(7200, 10))
"""
    assert trace_of(network("frozen()", before)).macs_per_image == 30 * 30 * 8 * 27 + 72_000


@pytest.mark.parametrize("name", ["ReLU6", "LeakyReLU", "Hardswish", "ELU", "Mish", "Hardsigmoid", "Softplus"])
def test_activations_have_a_kind_in_training_too(network: Network, name: str) -> None:
    traced = trace_of(
        network(f"nn.Sequential(nn.Conv2d(3, 8, 3), nn.{name}(), nn.AdaptiveAvgPool2d(1), nn.Flatten())"), "train"
    )
    assert not [op.name for op in traced.operators if op.kind == "other" and "pool" not in op.name]


@pytest.mark.parametrize("layer", ["nn.SiLU()", "nn.SiLU(inplace=True)", "nn.Sequential(nn.BatchNorm2d(3), nn.SiLU())"])
def test_what_devices_have_a_kernel_for_is_one_operator_though_torch_could_compose_it(
    network: Network, layer: str
) -> None:
    operators = trace_of(network(f"nn.Sequential(nn.Conv2d(3, 3, 1), {layer}, nn.Flatten())"), "train").operators
    names = [operator.name for operator in operators]
    assert names.count("silu_backward") == 1
    assert "sigmoid" not in names
