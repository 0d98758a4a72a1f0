"""Networks as people have them: first calls, constants, control flow, offloading, randomness, outputs, refusals."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, UntraceableError, run
from visionbench.tracing.passes import UntrainableStepError
from visionbench.tracing.step import missed

Network = Callable[..., str]


def traced(model: str, **fields: object) -> Trace:
    return run(Spec(model=model, image_size=32, **fields))  # type: ignore[arg-type]


def names(trace: Trace) -> list[str]:
    return [op.name for op in trace.operators]


# --- a step is not its first call ---

LATE = """
class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.made, self.calls = nn.Conv2d(3, 8, 3), {}, 0

    def forward(self, x):
        x = self.conv(x).flatten(1)
        self.calls += 1
        if "head" not in self.made:
            self.made["head"] = self.add_module("head", nn.Linear(x.shape[1], 10)) or self.head
            self.table = (torch.ones(8, 8) @ torch.ones(8, 8)).to(x.device)
        return self.made["head"](x)
"""

FIRST = {
    "a layer made late, on the CPU": ("Late()", LATE),
    "a lazy layer": ("nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(10))", ""),
    "a lazy convolution": ("nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.Linear(7200, 10))", ""),
}


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("kind", FIRST)
def test_what_the_first_call_does_is_no_part_of_a_step(network: Network, kind: str, task: str) -> None:
    trace = traced(network(*FIRST[kind]), task=task)
    plain = traced(network("nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(7200, 10))"), task=task)
    assert names(trace) == names(plain)
    assert (trace.macs_per_image, trace.params) == (plain.macs_per_image, plain.params)


def test_a_network_that_learns_in_its_first_call_what_works_is_counted_as_it_goes_on(network: Network) -> None:
    before = """
class Trying(nn.Module):
    def __init__(self):
        super().__init__()
        self.fits, self.small, self.large = None, nn.Conv2d(4, 8, 1), nn.Conv2d(3, 8, 3)

    def forward(self, x):
        if self.fits is None:
            try:
                return self.small(self.large(x)[:, :4].repeat(1, 2, 1, 1))
            except RuntimeError:
                self.fits = self.large
        return self.fits(x)
"""
    assert traced(network("Trying()", before)).macs_per_image == 30 * 30 * 8 * 27


def test_a_second_try_begins_with_a_new_network(network: Network) -> None:
    before = """
class Stubborn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 3, 1)])

    def forward(self, x):
        self.layers.append(nn.Conv2d(3, 3, 1))
        if torch.empty(0).device != x.device:
            raise RuntimeError("expected another device")
        return self.layers[0](x)
"""
    assert traced(network("Stubborn()", before)).params == 12 * 3  # two calls under our default device, each adds one


# --- constants, ties ---

CONSTANTS = {
    "a list of plain tensors": "Forward(lambda s, x: s.c(x) * C[0] + C[1], c=nn.Conv2d(3, 8, 3))",
    "NumPy's, made at each call": "Forward(lambda s, x: s.c(x) * torch.from_numpy(N).view(8, 1, 1), "
    "c=nn.Conv2d(3, 8, 3))",
    "an index": "Forward(lambda s, x: s.c(x)[:, torch.tensor([0, 2, 4])], c=nn.Conv2d(3, 8, 3))",
    "a mask": "Forward(lambda s, x: s.c(x)[:, torch.arange(8) > 3], c=nn.Conv2d(3, 8, 3))",
    "a table of positions": "Forward(lambda s, x: s.c(x) + s.e(torch.arange(30)).mean(), c=nn.Conv2d(3, 8, 3), "
    "e=nn.Embedding(30, 4))",
}


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("kind", CONSTANTS)
def test_constants_that_nobody_registered_are_operands(network: Network, kind: str, task: str) -> None:
    before = "import numpy as np\nC = [torch.ones(8, 1, 1), torch.ones(8, 30, 30)]\nN = np.ones(8, dtype='float32')\n"
    trace = traced(network(CONSTANTS[kind], before), task=task)
    assert sum(op.macs for op in trace.operators if op.phase == "forward") == 30 * 30 * 8 * 27


TIED = """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.linspace(0, 1, 3)[1].item()
        self.patch, self.down, self.up = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 8, False), nn.Linear(16, 8, False)
        self.up.weight = self.down.weight
        self.memory = nn.GRU(16, 8)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        return (self.down(x) + self.up(x)).mean(1)
"""


@pytest.mark.parametrize("reads", [True, False])
def test_a_tied_weight_is_one_weight(network: Network, reads: bool) -> None:
    before = TIED if reads else TIED.replace(".item()", "")
    trace = traced(network("Tied()", before), task="train")
    assert trace.params == 16 * 48 + 16 + 16 * 8 + 3 * 8 * (16 + 8 + 2)


# --- optimizer state ---

UNUSED = {
    "a head that is left over": "Forward(lambda s, x: s.c(x), c=nn.Conv2d(3, 8, 3), p=nn.Linear(100, 100))",
    "a branch that is detached": "Forward(lambda s, x: s.c(x) + s.p(x).detach(), c=nn.Conv2d(3, 8, 3), "
    "p=nn.Conv2d(3, 8, 3))",
    "a branch that is frozen": "Forward(lambda s, x: s.c(x) + s.p(x), c=nn.Conv2d(3, 8, 3), "
    "p=nn.Conv2d(3, 8, 3).requires_grad_(False))",
}


@pytest.mark.parametrize("kind", UNUSED)
def test_the_optimizer_holds_state_where_a_gradient_arrives(network: Network, kind: str) -> None:
    curve = traced(network(UNUSED[kind]), task="train").curve
    assert curve is not None
    assert curve.split["optimizer"] == 2 * (1024 + 512)  # weight and bias of one convolution, in blocks of 512
    assert curve.totals[-1] >= 0


# --- control flow ---

FLOW = {
    "two branches, the costlier": ("torch.cond(x.sum() > 0, s.a, lambda t: s.b(s.a(t)), (x,))", 2 * 16 * 16 * 16),
    "a branch in a branch": (
        "torch.cond(x.sum() > 0, lambda t: torch.cond(t.mean() > 0, s.a, lambda u: s.b(s.a(u)), (t,)), s.a, (x,))",
        2 * 16 * 16 * 16,
    ),
    "a scan": ("scan(lambda c, t: (s.a(c) + t, c + 0), x[:, 0], x.transpose(0, 1))[0]", 16 * 16 * 16),
}
BEFORE = """
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import flex_attention, create_block_mask
"""
TOKENS = "a=nn.Linear(16, 16), b=nn.Linear(16, 16)"


def tokens(body: str) -> str:
    """On sixteen tokens of sixteen features, without parameters of their own."""
    cut = "F.avg_pool2d(x, 8).flatten(1)[:, None, :16].expand(-1, 16, -1)"
    return f"Forward(lambda s, x: (lambda x: {body})({cut}), {TOKENS})"


@pytest.mark.parametrize("kind", FLOW)
def test_control_flow_is_followed(network: Network, kind: str) -> None:
    body, macs = FLOW[kind]
    assert traced(network(tokens(body), BEFORE)).macs_per_image == macs


@pytest.mark.parametrize(
    "body",
    [
        "torch.cond(x.sum() > 0, s.c, lambda y: s.c(y) * 2, (x,))",
        "s.c(torch.cond(x.sum() > 0, s.d, lambda y: s.d(y) * 2, (x,)))",
        "torch.cond(x.sum() > 0, s.d, lambda y: s.d(y) * 2, (s.c(x)[:, :3],))",
    ],
)
def test_control_flow_whose_gradient_no_trace_follows_is_said(network: Network, body: str) -> None:
    model = network(f"Forward(lambda s, x: {body}, c=nn.Conv2d(3, 8, 3), d=nn.Conv2d(3, 3, 1))")
    assert traced(model).macs_per_image > 0
    with pytest.raises(UntraceableError, match="gradient"):
        traced(model, task="train")


def test_a_loop_of_unknown_length_is_named(network: Network) -> None:
    start = "(torch.zeros((), dtype=torch.int64, device=x.device), x)"
    body = f"while_loop(lambda i, t: i < 5, lambda i, t: (i + 1, s.a(t)), {start})[1]"
    trace = traced(network(tokens(body), BEFORE))
    assert missed(trace) == ("while_loop",)


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("function", ["flex_attention", "torch.compile(flex_attention, fullgraph=True)"])
def test_flexible_attention_is_attention(network: Network, function: str, task: str) -> None:
    heads = ".unflatten(-1, (2, 8)).transpose(1, 2)"
    body = f"{function}(*(2 * [s.a(x){heads}]), s.b(x){heads})"
    trace = traced(network(tokens(f"{body}.mean(1).mean(1)"), BEFORE), task=task)
    forward = sum(op.macs for op in trace.operators if op.phase == "forward")
    assert forward == 2 * 16 * 16 * 16 + 2 * 16 * 16 * (8 + 8)
    if task == "train":
        assert "fused_attention_backward" in names(trace)


def test_flexible_attention_may_be_imported_in_the_forward_pass(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.nn.attention.flex_attention")]:
        monkeypatch.delitem(sys.modules, name)
    before = """
def forward(s, x):
    from torch.nn.attention.flex_attention import flex_attention
    x = s.a(x).flatten(2).transpose(1, 2)[:, None]
    return flex_attention(x, x, x).mean(2).flatten(1)
"""
    trace = traced(network("Forward(forward, a=nn.Conv2d(3, 8, 8, 8))", before))
    assert trace.macs_per_image == 16 * 8 * 192 + 2 * 16 * 16 * 8


@pytest.mark.parametrize("options", ["", "fullgraph=True", "mode='reduce-overhead'"])
def test_a_compiled_network_is_counted_as_what_it_compiles(network: Network, options: str) -> None:
    plain = "nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))"
    compiled = network(f"torch.compile({plain}, {options})")
    for task in ("inference", "train"):
        assert names(traced(compiled, task=task)) == names(traced(network(plain), task=task))


# --- where activations are ---

OFFLOADED = """
import contextlib
def forward(s, x):
    with {where}:
        return s.n(x).mean((2, 3))
"""
HOSTS = {
    "torch's": "torch.autograd.graph.save_on_cpu()",
    "torch's, pinned": "torch.autograd.graph.save_on_cpu(pin_memory=True)",
    "their own": "torch.autograd.graph.saved_tensors_hooks(lambda t: t.cpu(), lambda t: t.to(x.device))",
    "their own, by name": "torch.autograd.graph.saved_tensors_hooks(lambda t: t.to('cpu'), lambda t: t.to(x.device))",
}


@pytest.mark.parametrize("kind", HOSTS)
def test_activations_on_the_host_are_not_on_the_device(network: Network, kind: str) -> None:
    layers = "n=nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.GELU()) for _ in range(8)])"
    offloaded, kept = (
        traced(network(f"Forward(forward, {layers})", OFFLOADED.format(where=where)), task="train", batch_size=4)
        for where in (HOSTS[kind], "contextlib.nullcontext()")
    )
    assert offloaded.curve is not None
    assert kept.curve is not None
    assert offloaded.curve.split["activations"] < kept.curve.split["activations"] / 3
    assert offloaded.macs_per_image == kept.macs_per_image


MOVED = {
    "an input to a device that was chosen before": "s.c(x.to(torch.device('cpu')))",
    "a result": "s.c(x).cpu() + 1",
    "there and back": "(s.c(x).to('cpu') * 2).to(x.device)",
    "weights": "(s.c.to('cpu'), s.c.to(x.device)(x))[1]",
    "a result in halves": "s.c(x).to('cpu', torch.float16).float()",
}


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("kind", MOVED)
def test_what_moves_to_the_host_is_counted_and_said(network: Network, kind: str, task: str) -> None:
    trace = traced(network(f"Forward(lambda s, x: {MOVED[kind]}, c=nn.Conv2d(3, 8, 3))"), task=task)
    assert sum(op.macs for op in trace.operators if op.phase == "forward") == 30 * 30 * 8 * 27
    assert "_to_copy" in names(trace)
    assert ["moves tensors to the host" in remark for remark in trace.remarks] == [True]


@pytest.mark.parametrize(
    "read", ["x.cpu().numpy()", "x.cpu().tolist()", "x.to('cpu').sum().item()", "bool(x.cpu().any())"]
)
def test_what_is_read_on_the_host_is_read(network: Network, read: str) -> None:
    with pytest.raises(UntraceableError, match="reads tensor values"):
        traced(network(f"Forward(lambda s, x: s.c(x) * ({read} is not None), c=nn.Conv2d(3, 8, 3))"))


# --- randomness ---


@pytest.mark.parametrize(
    ("draw", "whose"),
    [("random.random()", "Python"), ("np.random.rand()", "NumPy"), ("torch.rand(()).item()", "torch")],
)
def test_a_network_that_draws_is_counted_by_one_seed_and_said_to_draw(network: Network, draw: str, whose: str) -> None:
    before = f"""
import random
import numpy as np
def forward(s, x):
    for layer in s.n:
        if {draw} < 0.5:
            x = layer(x)
    return x
"""
    model = network("Forward(forward, n=nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(20)))", before)
    found = [traced(model) for _ in range(3)]
    assert len({trace.macs_per_image for trace in found}) == 1
    assert 0 < found[0].macs_per_image < 20 * 9 * 1024
    assert any("at random" in remark and whose in remark for remark in found[0].remarks)


@pytest.mark.parametrize("task", ["inference", "train"])
def test_a_network_that_differs_from_call_to_call_is_said_to(network: Network, task: str) -> None:
    counter = "(s.c if next(s.calls) % 2 else nn.Sequential(s.c, s.p))(x)"
    parts = "c=nn.Conv2d(3, 8, 3), p=nn.Conv2d(8, 8, 1), calls=itertools.count()"
    trace = traced(network(f"Forward(lambda s, x: {counter}, {parts})", "import itertools\n"), task=task)
    assert trace.remarks == ("its counts differ from call to call, and these are of one of them",)


def test_a_network_that_draws_nothing_is_not_said_to_draw(network: Network) -> None:
    assert traced(network("nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout())"), task="train").remarks == ()


# --- outputs and losses ---

OUTPUTS = {
    "a dataclass": "D(hidden=s.c(x), out=s.c(x))",
    "a named tuple": "T(s.c(x), s.c(x))",
    "an object": "types.SimpleNamespace(logits=s.c(x), size=7)",
    "nested": "([], {'a': ({'b': s.c(x)},)})",
    "logits beside features": "{'features': [x * 2, x], 'logits': s.c(x)}",
    "auxiliary heads": "{'out': s.c(x), 'aux': s.c(x).mean((2, 3))}",
}


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_of_any_kind_are_counted(network: Network, kind: str, task: str) -> None:
    before = (
        "import types\nfrom collections import namedtuple\nfrom dataclasses import dataclass\n"
        "T = namedtuple('T', 'logits other')\n@dataclass\nclass D:\n    hidden: object\n    out: object\n"
    )
    trace = traced(network(f"Forward(lambda s, x: {OUTPUTS[kind]}, c=nn.Conv2d(3, 8, 3))", before), task=task)
    assert trace.macs_per_image > 0
    assert task == "inference" or "convolution_backward" in names(trace)


UNTRAINABLE = {
    "frozen": "nn.Conv2d(3, 8, 3).requires_grad_(False)",
    "without parameters": "nn.AvgPool2d(2)",
    "an output that is detached": "Forward(lambda s, x: s.c(x).detach(), c=nn.Conv2d(3, 8, 3))",
    "without classes": "Forward(lambda s, x: s.c(x).sum((1, 2, 3)), c=nn.Conv2d(3, 8, 3))",
    "a detector": "Forward(detect, c=nn.Conv2d(3, 8, 3))",
}


@pytest.mark.parametrize("kind", UNTRAINABLE)
def test_what_cannot_be_trained_can_be_counted(network: Network, kind: str) -> None:
    before = """
def detect(s, x, targets=None):
    if s.training and targets is None:
        raise ValueError("targets should not be none when in training mode")
    return [{"boxes": s.c(x)}]
"""
    model = network(UNTRAINABLE[kind], before)
    assert traced(model).spec.task == "inference"
    with pytest.raises(UntrainableStepError, match="--task inference"):
        traced(model, task="train")


# --- reasons ---

REASONS = {
    "torch.sparse.mm(torch.eye(3).to_sparse().to(x.device), x[0, :, 0])": "sparse",
    "torch.ops.vbtests.opaque(x)": "vbtests::opaque.*register",
    "s.missing(x)": "mend the model",
    "x.unique()": "`run`",
    "s.c(x, x)": "--input",
    "F.conv2d(x, torch.ones(4, 1, 3, 3, device=x.device))": "--input",
    "s.c(x).view(1, 7)": "--image-size",
    "s.c(x) if exit(3) else x": "SystemExit: 3",
    "torch.nested.nested_tensor(list(s.c(x)))": "nested tensors",
    "nn.utils.rnn.pack_padded_sequence(s.c(x)[0], x[0, 0, 0, :8].long())": "reads tensor values",
}


@pytest.mark.parametrize("body", REASONS)
def test_each_cause_has_its_own_remedy(network: Network, body: str) -> None:
    before = """
if not hasattr(torch.ops.vbtests, "opaque"):
    @torch.library.custom_op("vbtests::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x.clone()
"""
    with pytest.raises(BenchError, match=REASONS[body]) as caught:
        traced(network(f"Forward(lambda s, x: {body}, c=nn.Conv2d(3, 8, 3))", before))
    assert ("--image-size" in str(caught.value)) == (REASONS[body] == "--image-size")


def test_an_encoder_given_a_padding_mask_is_counted_as_if_nothing_were_padded(network: Network) -> None:
    before = """
def forward(s, x):
    tokens = s.p(x)
    return s.e(tokens, src_key_padding_mask=torch.zeros(tokens.shape[:2], dtype=torch.bool, device=x.device))
"""
    layer = "nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)"
    trace = traced(network(f"Forward(forward, p=Patches(16), e=nn.TransformerEncoder({layer}, 2))", before))
    encoder = 2 * (4 * 16 * 16 * 16 + 2 * 16 * 16 * 16 + 2 * 16 * 16 * 32)
    assert trace.macs_per_image == 16 * 16 * 192 + encoder
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_quantized_network_cannot_be_traced_and_says_so(network: Network) -> None:
    model = network(
        "torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), {nn.Linear})"
    )
    with pytest.raises(UntraceableError, match="`run`"):
        traced(model)


@pytest.mark.parametrize(
    "built", ["nn.Conv2d(3, 8, 3).double()", "nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU().double())"]
)
def test_a_double_network_is_not_called_fp32(network: Network, built: str) -> None:
    with pytest.raises(BenchError, match="float64"):
        traced(network(built))
    assert traced(network(built), precision="fp16").params > 0
