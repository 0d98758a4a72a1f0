"""What one rank of several holds, by a trace on no hardware; and the same things as torch allocates them, by gloo."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import accumulate

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils._python_dispatch import TorchDispatchMode

from visionbench.measuring.process.rank_processes import Tell, run_together
from visionbench.measuring.ranks import Ranks, join
from visionbench.measuring.replicas import wrapped
from visionbench.models import build
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment
from visionbench.record.spec import Spec
from visionbench.tracing import replicas
from visionbench.tracing.replicas import blocks, buckets
from visionbench.tracing.step import run, to_record

MODEL = "timm:convnext_atto"
PLAIN = Spec(model=MODEL, task="train", batch_size=2, image_size=32)
SECONDS = 120.0


def _traced(parallel, processes=8, **fields):
    return run(replace(PLAIN, parallel=parallel, processes=processes, **fields))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40 * 2**20), st.sampled_from(["a", "b"])), max_size=20))
def test_buckets_are_those_that_torch_assigns(gradients):
    dtypes = {"a": torch.float32, "b": torch.bfloat16}
    sizes = [(4 * -(-size // 4), dtypes[name]) for size, name in gradients]
    tensors = [torch.empty(size // dtype.itemsize, dtype=dtype, device="meta") for size, dtype in sizes]
    if not tensors:
        assert buckets([]) == ()
        return
    groups, _ = dist._compute_bucket_assignment_by_size(tensors, [2**20, 25 * 2**20], [], list(range(len(tensors))))
    assert sorted(buckets(sizes)) == sorted(sum(tensors[i].nbytes for i in group) for group in groups)


def test_ddp_adds_its_buckets_to_the_whole_step_and_views_do_without_gradients():
    plain, ddp, views = run(PLAIN), _traced("ddp"), _traced("ddp_views")
    whole = sum(ddp.share.buckets)
    assert whole == plain.param_bytes
    assert ddp.curve.peak - plain.curve.peak == ddp.share.kept["buckets"]
    assert [b - a for a, b in zip(plain.curve.totals, ddp.curve.totals, strict=True)] == (
        [ddp.share.kept["buckets"]] * len(plain.curve.totals)
    )
    assert views.share.kept["gradients"] == 0
    assert views.curve.peak < ddp.curve.peak
    # Gradients are there from the beginning, as where they are kept; but without a rounding per parameter.
    assert abs(views.curve.peak - plain.curve.peak_kept_gradients) <= 512 * len(list(build(MODEL, 32).parameters()))
    for traced in (ddp, views):
        assert sum(traced.curve.split.values()) == traced.curve.peak == max(traced.curve.totals)


def test_shards_shrink_with_the_ranks_and_the_parts_of_a_peak_add_up():
    traces = [_traced("fsdp2", ranks) for ranks in (1, 2, 8)]
    for kind in ("parameters", "gradients", "optimizer"):
        kept = [traced.share.kept[kind] for traced in traces]
        assert kept == sorted(kept, reverse=True)
        assert kept[0] / kept[2] == pytest.approx(8, rel=0.05)
    for traced in traces:
        assert sum(traced.curve.split.values()) == traced.curve.peak == max(traced.curve.totals)
        assert min(traced.curve.totals) >= 0
        assert all(size >= 0 for size in traced.curve.split.values()), traced.curve.split
    assert traces[2].curve.peak < run(PLAIN).curve.peak


@pytest.mark.parametrize("layers", [1, 3])
def test_a_network_without_blocks_is_sharded_as_a_whole(tmp_path, layers):
    """It is one unit, which stays gathered until the optimizer begins."""
    (tmp_path / f"blockless_{layers}.py").write_text(
        f"from torch import nn\n\ndef make():\n"
        f"    convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range({layers})]\n"
        f"    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(3072, 10))\n"
    )
    traces = [_traced("fsdp2", ranks, model=f"user:{tmp_path}/blockless_{layers}.py:make") for ranks in (1, 4)]
    one, four = (traced.share.kept for traced in traces)
    assert traces[0].param_bytes <= one["parameters"] < 1.05 * traces[0].param_bytes  # in blocks of 512 bytes
    assert four["parameters"] < one["parameters"] / 2
    assert all(sum(traced.curve.split.values()) == traced.curve.peak == max(traced.curve.totals) for traced in traces)


def test_a_record_says_what_a_rank_keeps_and_sends():
    traced = _traced("ddp")
    record = to_record(traced, Environment(device_type="meta"))
    assert record.get("gradient_buckets").values == traced.share.buckets
    assert record.value("rank_memory.buckets") == traced.share.kept["buckets"]
    assert record.value("peak_memory_live.buckets") == traced.share.kept["buckets"]
    assert record.value("macs") == to_record(run(PLAIN), record.environment).value("macs")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("timm:vit_tiny_patch16_224", ["blocks.0", "blocks.1", "blocks.11"]),
        ("timm:convnext_atto", ["stages.0.blocks.0", "stages.3.blocks.1"]),
        ("timm:swin_tiny_patch4_window7_224", ["layers.0.blocks.0", "layers.2.blocks.5"]),
        ("timm:resnet18", ["layer1.0", "layer4.1"]),
        ("torchvision:vit_b_16", ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11"]),
    ],
)
def test_the_blocks_of_a_network_are_what_people_shard(model, names):
    with torch.device("meta"):
        network = build(model, 224)
    paths = {id(module): name for name, module in network.named_modules()}
    assert set(names) <= {paths[id(block)] for block in blocks(network)}


def test_a_network_that_ddp_would_wait_for_is_refused(tmp_path, monkeypatch):
    (tmp_path / "beside_nets.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.used, self.beside = nn.Conv2d(3, 4, 3), nn.Linear(2, 2)\n"
        "    def forward(self, images):\n        return self.used(images).mean((2, 3))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BenchError, match=r"leaves 2 parameters without a gradient.*freeze them"):
        run(replace(PLAIN, model="user:beside_nets:Net", parallel="ddp", processes=2))


# --- what torch allocates ---


def _rank(work, _rank: int, listener: int | None, _tell: Tell) -> str:
    torch.set_num_threads(1)
    ranks = join("cpu", SECONDS, listener)
    answer = json.dumps(work(ranks))
    ranks.leave()
    return answer


def _both(work):
    answers = run_together(partial(_rank, work), 2, seconds=SECONDS)
    assert answers.failure is None, answers.failure
    return [json.loads(text) for text in answers.texts]


def _step(network: nn.Module, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):  # the buckets are made anew when the order of the gradients is known
        optimizer.zero_grad(set_to_none=True)
        network(torch.randn(2, 3, 32, 32)).sum().backward()
        optimizer.step()
    return optimizer


def _ddp(parallel: str, ranks: Ranks) -> dict[str, object]:
    model = build(MODEL, 32)
    together = wrapped(model, PLAIN, ranks, "cpu") if parallel == "ddp" else None
    together = together or wrapped(model, replace(PLAIN, processes=2, parallel="ddp_views"), ranks, "cpu")
    _step(together, model)
    together(torch.randn(2, 3, 32, 32))  # what the reducer knows of its buckets it writes down in a forward pass
    storages = {p.grad.untyped_storage().data_ptr(): p.grad.untyped_storage().nbytes() for p in model.parameters()}
    return {
        "buckets": [int(size) for size in together._get_ddp_logging_data()["rebuilt_bucket_sizes"].split(", ")],
        "gradients": sorted(storages.values()),
    }


@pytest.mark.parametrize("parallel", ["ddp", "ddp_views"])
def test_buckets_of_a_trace_are_those_that_torch_allocates(parallel):
    traced = _traced(parallel, 2)
    for allocated in _both(partial(_ddp, parallel)):
        assert tuple(allocated["buckets"]) == traced.share.buckets
        if parallel == "ddp_views":
            assert allocated["gradients"] == sorted(traced.share.buckets), "gradients are slices of the buckets"


class Collectives(TorchDispatchMode):
    """Notes the bytes of the whole side of each gathering and each reduction to shards."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: list[int] = []
        self.reduced: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        noted = {"_allgather_base_": self.gathered, "_reduce_scatter_base_": self.reduced}
        if func.namespace == "c10d" and func.overloadpacket.__name__ in noted:
            noted[func.overloadpacket.__name__].append(max(args[0].nbytes, args[1].nbytes))
        return func(*args, **(kwargs or {}))


def _fsdp2(_ranks: Ranks) -> dict[str, object]:
    model = build(MODEL, 32)
    for block in blocks(model):
        fully_shard(block)
    fully_shard(model)
    optimizer = _step(model, model)
    local = [parameter.to_local() for parameter in model.parameters()]
    moments = [state[name].to_local() for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    with Collectives() as seen:
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    return {
        "gathered": sorted(seen.gathered),
        "reduced": sorted(seen.reduced),
        "parameters": sum(_blocks_of(t.untyped_storage().nbytes()) for t in local),
        "optimizer": sum(_blocks_of(t.untyped_storage().nbytes()) for t in moments),
        "gradients": sum(
            _blocks_of(size)
            for size in {
                p.grad.to_local().untyped_storage().data_ptr(): p.grad.to_local().untyped_storage().nbytes()
                for p in model.parameters()
            }.values()
        ),
    }


def _blocks_of(size: int) -> int:
    return -(-size // 512) * 512


@pytest.mark.slow
def test_shards_of_a_trace_are_those_that_torch_allocates_gathers_and_reduces(monkeypatch):
    seen, gathering = [], replicas._gathering

    def noted(history, root, units, ranks):
        seen.extend((root, units))
        return gathering(history, root, units, ranks)

    monkeypatch.setattr(replicas, "_gathering", noted)
    kept = _traced("fsdp2", 2).share.kept
    root, units = seen
    allocated = _both(_fsdp2)[0]
    whole = [2 * unit.rows for unit in units]
    assert allocated.pop("gathered") == sorted([2 * root.rows, *whole, *whole]), "blocks in both passes, the root once"
    assert allocated.pop("reduced") == sorted([2 * root.rows, *whole])
    assert allocated == kept


def _peak(spec: Spec, _ranks: Ranks) -> int:
    """Bytes that a step's forward and backward pass take at most beside what stands, as torch's profiler sees it."""
    model = build(spec.model, spec.image_size)
    network: nn.Module = model
    if spec.parallel == "fsdp2":
        for block in (*blocks(model), model):
            fully_shard(block)
    else:
        network = wrapped(model, spec, _ranks, "cpu")
    images = torch.randn(spec.batch_size, 3, spec.image_size, spec.image_size)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = network(images)
        nn.functional.cross_entropy(logits, torch.zeros(spec.batch_size, dtype=torch.long)).backward()
        del logits

    for _ in range(3):
        step()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    ordered = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return images.nbytes + max(accumulate(ordered))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "ddp_views", "fsdp2"])
def test_the_peak_of_a_trace_is_what_torch_allocates_on_a_cpu(parallel):
    # A small transformer: its products need no workspace on a CPU, as convolutions do.
    spec = Spec(model="timm:test_vit", task="train", batch_size=8, image_size=160, processes=2, parallel=parallel)
    traced = run(spec)
    optimizer = next(event for event, name in traced.curve.phases if name == "optimizer")
    standing = sum(size for name, size in traced.share.kept.items() if name != "gradients") + traced.buffer_bytes
    peak = max(traced.curve.totals[:optimizer]) - standing
    for allocated in _both(partial(_peak, spec)):
        assert allocated == pytest.approx(peak, rel=0.03)
