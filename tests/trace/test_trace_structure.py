"""Structure of real networks: what the gate is for, and what it cannot see."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo

from visionbench.comparison.structure import Structure, Structures, from_text, read, structure_specs, to_text
from visionbench.judging.structure import compare
from visionbench.record.spec import Spec
from visionbench.tracing.skeleton import values_as_zero
from visionbench.tracing.step import run, to_record
from visionbench.tracing.structure import Graphs, _traced, _with_graphs, count, structures

ROOT = Path(__file__).parents[2]


def structure(spec: Spec) -> Structure:
    """The structure of one row, graphs included if it is an inference, by the compiler in this process."""
    traced = _traced(spec)
    return _with_graphs(traced, count(*spec.network)) if spec.task == "inference" else traced


BLOCKS = """
class Block(nn.Module):
    def __init__(self, width, norms=1, act=F.gelu, after=lambda x: x):
        super().__init__()
        self.norms = nn.Sequential(*[nn.LayerNorm(width) for _ in range(norms)])
        self.mlp = nn.Linear(width, width)
        self.act, self.after = act, after

    def forward(self, x):
        return self.after(x + self.act(self.mlp(self.norms(x))))


class Net(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.patches, self.blocks = Patches(16), nn.Sequential(*blocks)

    def forward(self, x):
        return self.blocks(self.patches(x)).mean(1)
"""


def blocks(*arguments: str) -> str:
    return f"Net({', '.join(f'Block(16{more})' for more in arguments)})"


PLAIN = blocks("", "", "")


def changes(network: Any, before: str, after: str, task: str = "inference", above: str = BLOCKS) -> dict[str, Any]:
    """What changed from one network to the other, by what."""
    sides = []
    for expression in (before, after):
        spec = Spec(model=network(expression, above), task=task, image_size=32, batch_size=2)
        found = replace(structure(spec), row="row")
        sides.append(Structures(torch="t", timm="t", rows={"row": found}))
    return {change.what: change for change in compare(*sides)}


def test_a_layer_norm_added_to_a_block_is_named(network):
    found = changes(network, PLAIN, blocks("", ", norms=2", ""))
    assert found.keys() == {"params", "operators", "bytes"}
    assert (found["params"].before, found["params"].after) == ("4,000 (16,000 B)", "4,032 (16,128 B), +0.8 %")
    assert found["operators"].where == ("blocks.1.norms.1: + native_layer_norm x1 (new layer)",)
    assert found["params"].where == ("blocks.1.norms.1: params 0 -> 32 (new layer)",)


def test_a_layer_norm_costs_a_training_step_memory(network):
    found = changes(network, PLAIN, blocks("", ", norms=2", ""), task="train")
    assert found.keys() >= {"operators", "bytes", "peak live memory"}
    assert "blocks.1.norms.1: + native_layer_norm x1 (new layer)" in found["operators"].where
    assert "(backward): native_layer_norm_backward 3 -> 4" in found["operators"].where
    assert any(line.startswith("parameters: ") for line in found["peak live memory"].where)


def test_an_added_clone_per_block_is_named(network):
    cloned = ", after=torch.clone"
    found = changes(network, PLAIN, blocks(cloned, cloned, cloned))
    assert found.keys() == {"operators", "bytes"}
    assert found["operators"].where == ("blocks.{0..2}: clone 0 -> 1 each (3 layers)",)


def test_a_layer_less_is_a_change_too(network):
    found = changes(network, PLAIN, blocks("", ", norms=0", ""))
    assert "blocks.1.norms.0: - native_layer_norm x1 (layer gone)" in found["operators"].where


@pytest.mark.slow
def test_a_kernel_of_the_same_name_and_shapes_is_not_seen(network):
    """The limit: another approximation in the same operator has another speed and the same structure."""
    assert changes(network, PLAIN, blocks(*[", act=nn.GELU(approximate='tanh')"] * 3)).keys() == {"layers"}
    tanh = ", act=lambda x: F.gelu(x, approximate='tanh')"
    assert changes(network, PLAIN, blocks(tanh, tanh, tanh)) == {}


def test_a_value_that_is_read_is_a_graph_break(network):
    above = BLOCKS.replace("return self.blocks", "self.seen = x.sum().item()\n        return self.blocks")
    before, after = network(PLAIN, BLOCKS), network(PLAIN, above)
    first, second = (structure(Spec(model=model, image_size=32)) for model in (before, after))
    assert [first.totals[name] for name in ("graphs", "graph_breaks", "values_read")] == [1, 0, 0]
    assert [second.totals[name] for name in ("graphs", "graph_breaks", "values_read")] == [2, 1, 1]
    [reason] = second.breaks
    assert "item" in reason
    assert reason.endswith(f", in forward ({after.split(':')[1]}.py)")


def test_a_branch_on_a_value_is_a_graph_break(network):
    above = BLOCKS.replace("return self.blocks", "x = x + 1 if x.sum() > 0 else x\n        return self.blocks")
    assert count(network(PLAIN, above), 32).graph_breaks == 1
    assert count(network(PLAIN, BLOCKS), 32).graph_breaks == 0


def test_an_attribute_that_changes_is_a_recompile(network):
    above = "def counting(self, x):\n    self.calls += 1\n    return self.w(x) * self.calls\n"
    net = "Forward(counting, calls=0, w=nn.Conv2d(3, 4, 1))"
    found = count(network(net, above), 16)
    assert (found.graphs, found.breaks) == (1, {})
    assert found.recompiles in (1, 2)  # the number becomes a symbol at once, or for the second call first
    assert count(network("Forward(lambda s, x: s.w(x) * 3, w=nn.Conv2d(3, 4, 1))"), 16).recompiles == 0


def test_a_batch_made_constant_is_a_recompile(network):
    net = "Forward(lambda s, x: s.w(x) * {2: 1.0, 3: 2.0}[x.shape[0]], w=nn.Conv2d(3, 4, 1))"
    assert count(network(net), 16) == Graphs(graphs=1, breaks={}, recompiles=1)


def test_what_the_compiler_cannot_follow_is_unknown_and_said(network):
    model = network("Forward(lambda s, x: s.w(x).nonzero().float(), w=nn.Conv2d(3, 4, 1))")
    found = count(model, 16)
    assert found.graphs is found.recompiles is found.graph_breaks is None
    assert found.remark
    assert "resnet18" in count("timm:resnet19", 16).remark


def test_counting_graphs_leaves_the_compiler_as_it_was(network, capfd):
    config = torch._dynamo.config
    before = config.disable, config.capture_scalar_outputs, logging.getLogger("torch._dynamo").level
    random = torch.get_rng_state()
    model = network("Forward(lambda s, x: s.w(x) * x.sum().item() + torch.rand(()), w=nn.Conv2d(3, 4, 1))")
    config.capture_scalar_outputs = True
    try:
        first = count(model, 16)
        assert config.capture_scalar_outputs
        assert count(model, 16) == first
        assert first.graph_breaks
    finally:
        config.capture_scalar_outputs = before[1]
    assert (config.disable, config.capture_scalar_outputs, logging.getLogger("torch._dynamo").level) == before
    assert torch._dynamo.utils.counters == {}
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert capfd.readouterr().err == ""


def test_values_are_zero_for_a_while_and_not_for_ever():
    with values_as_zero() as readings:
        meta = torch.ones(2, device="meta")
        assert (meta.sum().item(), meta.int()[0].item(), bool(meta[0] > 0)) == (0.0, 0, False)
        assert readings.count == 3
        assert torch.ones(()).item() == 1.0
        with pytest.raises(RuntimeError, match="meta"):
            [meta[0].item() for _ in range(1000)]
    with pytest.raises(RuntimeError, match="meta"):
        meta[0].item()


def test_a_loop_that_waits_for_a_value_is_a_failure_and_ends(network):
    above = "def wait(self, x):\n    while not x.sum().item() > 0:\n        pass\n    return self.w(x)\n"
    spec = Spec(model=network("Forward(wait, w=nn.Conv2d(3, 4, 1))", above), image_size=16)
    found = structures([spec])
    assert found.rows == {}
    assert "cannot be counted" in found.failures[str(spec)]


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.slow
def test_totals_are_those_of_the_record_and_of_the_layers(task):
    spec = Spec(model="timm:convnext_atto", task=task, batch_size=2, image_size=64)
    found = structures([spec])
    traced = run(spec)
    record = to_record(traced, None)  # type: ignore[arg-type]  # where is not asked
    totals = found.rows[str(spec)].totals
    assert {name: totals[name] for name in totals if record.get(name)} == {
        m.metric: m.values[0] for m in record.measurements if m.metric in totals
    }
    assert from_text(to_text(found)) == found
    layers = found.rows[str(spec)].layers.values()
    assert sum(sum(layer.operators.values()) for layer in layers) == len(traced.operators)
    if task == "inference":
        assert sum(layer.macs for layer in layers) == 2 * traced.macs_per_image
        assert sum(layer.params for layer in layers) == traced.params


@pytest.mark.slow
def test_many_rows_are_counted_as_one_is_and_failures_beside_them(network):
    good, bad = Spec(model=network(PLAIN, BLOCKS), image_size=32), Spec(model="timm:resnet19", image_size=32)
    told: list[str] = []
    specs = structure_specs([good, bad])
    found = structures([*specs, good], told.append)
    assert list(found.rows) == [str(spec) for spec in specs[:2]], found.failures
    assert found.rows == {str(spec): structure(spec) for spec in specs[:2]}
    assert told == [str(spec) for spec in specs]
    assert set(found.failures) == {str(spec) for spec in specs[2:]}
    assert "resnet18" in found.failures[str(bad)]
    assert found.torch == ".".join(torch.__version__.split(".")[:2])


def test_shared_and_unused_parameters_have_one_owner(network):
    net = "Forward(lambda s, x: s.b(s.a(x)), a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1), unused=nn.Linear(2, 2))"
    above = f"def shared():\n    net = {net}\n    net.b.weight = net.a.weight\n    return net\n"
    found = structures([Spec(model=network("shared()", above), image_size=16)])
    [row] = found.rows.values()
    assert {path: layer.params for path, layer in row.layers.items()} == {"a": 12, "b": 3, "unused": 6}
    assert from_text(to_text(found)) == found


def _committed() -> Structures:
    return read(ROOT / "perf" / "structure.json")


def test_the_baseline_in_git_is_readable_and_of_a_size_that_one_reviews():
    assert (ROOT / "perf" / "structure.json").stat().st_size < 200_000
    assert all(row.totals["operators"] for row in _committed().rows.values())


@pytest.mark.slow
def test_the_baseline_in_git_is_what_the_code_does():
    """Two rows of it: all of them are what `compare --exact` is for."""
    baseline = _committed()
    now = structures(structure_specs([Spec(model="timm:resnet18", image_size=64)]))
    if (now.torch, now.timm) != (baseline.torch, baseline.timm):
        pytest.skip("counted with another torch or timm")
    part: dict[str, Structure] = {row: baseline.rows[row] for row in now.rows}
    assert compare(replace(baseline, rows=part), now) == ()
