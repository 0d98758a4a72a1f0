"""What a comparison of structure says: every difference, in both directions, with the layer that it comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visionbench.comparison.structure import Layer, OtherVersionsError, Structure, Structures, from_text, to_text
from visionbench.judging.structure import WHERE, compare
from visionbench.record.errors import BenchError

NORM = Layer(operators={"native_layer_norm": 1}, params=8, bytes=64)
FC = Layer(operators={"addmm": 1}, params=20, macs=100, activations=10, bytes=80)
ROW = "timm:net@64 inference b1 fp32"
TRAIN = "timm:net@64 train b2 fp32"


def network(blocks: int = 4, **changed: Layer | None) -> dict[str, Layer]:
    """`changed` names layers with two underscores for a dot; None takes one out."""
    layers = {f"blocks.{i}.{name}": layer for i in range(blocks) for name, layer in (("norm", NORM), ("mlp", FC))}
    layers |= {name.replace("__", "."): layer for name, layer in changed.items() if layer}
    return {name: layer for name, layer in layers.items() if changed.get(name.replace(".", "__"), layer)}


def structure(layers: dict[str, Layer], row: str = ROW, **totals: int | None) -> Structure:
    names = ("params", "buffers", "macs", "activations", "bytes")
    sums: dict[str, int | None] = {name: sum(getattr(one, name) for one in layers.values()) for name in names}
    sums["operators"] = sum(sum(one.operators.values()) for one in layers.values())
    graphs = {"values_read": 0, "graphs": 1, "graph_breaks": 0, "recompiles": 0}
    return Structure(row=row, totals=sums | graphs | totals, layers=layers)


def structures(*rows: Structure, torch: str = "2.15", timm: str = "1.0.31") -> Structures:
    return Structures(torch=torch, timm=timm, rows={one.row: one for one in rows})


def changes(before: Structure, after: Structure) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """What changed, by what."""
    found = compare(structures(before), structures(after))
    assert {change.row for change in found} <= {ROW}
    assert len({change.what for change in found}) == len(found)
    return {change.what: (change.before, change.after, change.where) for change in found}


def test_equal_is_no_change():
    assert changes(structure(network()), structure(network())) == {}


def test_a_layer_norm_in_one_block_is_named():
    found = changes(structure(network()), structure(network(blocks__2__norm2=NORM)))
    assert found.keys() == {"params", "operators", "bytes"}
    assert found["params"][2] == ("blocks.2.norm2: params 0 -> 8 (new layer)",)
    assert found["operators"][2] == ("blocks.2.norm2: + native_layer_norm x1 (new layer)",)
    assert found["operators"][0].startswith("8 (hash ")


def test_a_layer_in_every_block_is_one_line():
    norms = {f"blocks__{i}__norm2": NORM for i in range(4)}
    found = changes(structure(network()), structure(network(**norms)))
    assert found["operators"][2] == ("blocks.{0..3}.norm2: + native_layer_norm x1 each (4 new layers)",)


def test_a_clone_is_seen_where_everything_else_is_equal():
    cloned = replace(FC, operators={"addmm": 1, "clone": 1})
    found = changes(structure(network()), structure(network(**{f"blocks__{i}__mlp": cloned for i in (0, 1, 3)})))
    assert found.keys() == {"operators"}
    assert found["operators"][2] == ("blocks.{0,1,3}.mlp: clone 0 -> 1 each (3 layers)",)


def test_one_operator_for_another_is_seen_by_the_hash():
    found = changes(structure(network()), structure(network(blocks__0__mlp=replace(FC, operators={"mm": 1}))))
    ((what, (before, after, where)),) = found.items()
    assert what == "operators"
    assert before.split()[0] == after.split()[0] == "8"
    assert before != after
    assert where == ("blocks.0.mlp: addmm 1 -> 0, mm 0 -> 1",)


def test_a_gain_is_a_change_too():
    found = changes(structure(network()), structure(network(blocks__3__norm=None)))
    assert found["operators"][2] == ("blocks.3.norm: - native_layer_norm x1 (layer gone)",)
    assert found["params"][:2] == ("112 (– B)", "104 (– B), −7.1 %")


def test_what_moved_between_layers_is_a_change():
    wide, narrow = replace(FC, params=21), replace(FC, params=19)
    found = changes(structure(network()), structure(network(blocks__0__mlp=wide, blocks__1__mlp=narrow)))
    assert found == {
        "layers": ("8 layers", "8 layers", ("blocks.0.mlp: params 20 -> 21", "blocks.1.mlp: params 20 -> 19"))
    }


def relabelled(old, new, layers=None):
    """The network's layers with another word in their paths."""
    layers = layers or network()
    return {".".join(new if part == old else part for part in path.split(".")): one for path, one in layers.items()}


@pytest.mark.parametrize(
    ("after", "told", "where"),
    [
        (relabelled("norm", "ln"), "8 layers, 4 renamed", ("renamed: norm → ln (4 layers)",)),
        (relabelled("blocks", "stages"), "8 layers, 8 renamed", ("renamed: blocks → stages (8 layers)",)),
        (
            relabelled("mlp", "ffn", relabelled("norm", "ln")),
            "8 layers, 8 renamed",
            ("renamed: norm → ln (4 layers)", "renamed: mlp → ffn (4 layers)"),
        ),
    ],
)
def test_what_is_only_renamed_is_said_to_be(after, told, where):
    found = changes(structure(network()), structure(after))
    [(before, now, lines)] = found.values()
    assert (before, now) == ("8 layers", told)
    assert sorted(lines) == sorted(where)


def test_what_is_renamed_and_does_something_else_is_no_rename():
    layers = relabelled("norm", "ln")
    first = next(path for path in layers if path.endswith("ln"))
    found = changes(structure(network()), structure(layers | {first: replace(NORM, params=NORM.params + 1)}))
    assert not any("renamed" in line for _, _, lines in found.values() for line in lines)


def test_no_change_means_that_the_file_would_stay_as_it_is():
    """Whatever is altered in the file is a change: the gate and `--update` agree."""
    text = to_text(structures(replace(structure(network(), peak_memory_live=5, x=1), breaks={"why": 0})))
    before = from_text(text)
    for name in ("params", "macs", "activations", "bytes"):
        layer = replace(FC, **{name: getattr(FC, name) + 1})
        after = structures(
            replace(structure(network(blocks__1__mlp=layer), peak_memory_live=5, x=1), breaks={"why": 0})
        )
        assert compare(before, after), name
    for name in before.rows[ROW].totals:
        row = before.rows[ROW]
        after = structures(replace(row, totals=row.totals | {name: 77}))
        assert [change.after.split(" ")[0].rstrip(",") for change in compare(before, after)] == ["77"], name
    assert compare(before, structures(replace(before.rows[ROW], breaks={"another": 0})))


def test_many_lines_are_cut():
    layers = {f"layer{'x' * i}": replace(FC, macs=i) for i in range(1, 31)}
    [change] = [
        one for one in compare(structures(structure(network(0))), structures(structure(layers))) if one.what == "MACs"
    ]
    assert len(change.where) == WHERE + 1
    assert change.where[-1] == "and 18 more"


def test_memory_is_told_by_what_it_holds():
    split = {"peak_memory_live.activations": 3000, "peak_memory_live.gradients": 7}
    before = structure(network(), peak_memory_live=3007, **split)
    after = structure(network(), peak_memory_live=4007, **(split | {"peak_memory_live.activations": 4000}))
    assert changes(before, after) == {
        "peak live memory": ("3,007 B", "4,007 B, +33 %", ("activations: 3,000 -> 4,000 B",))
    }


def test_graph_breaks_are_told_by_their_reason():
    after = replace(structure(network(), graphs=2, graph_breaks=1), breaks={"Tensor.item, in forward (net.py)": 1})
    found = changes(structure(network()), after)
    assert found["graphs"][:2] == ("1", "2")
    assert found["graph breaks"] == ("0", "1", ("Tensor.item, in forward (net.py): 0 -> 1",))
    assert changes(structure(network()), structure(network(), recompiles=1))["recompiles"][:2] == ("0", "1")


def test_a_model_that_the_compiler_cannot_follow_any_more_is_a_change_with_its_reason():
    lost = replace(structure(network(), graphs=None, graph_breaks=None, recompiles=None), remark="it cannot")
    found = changes(structure(network()), lost)
    assert found["graphs"] == ("1", "–", ("it cannot",))
    assert changes(lost, lost) == {}


def test_rows_that_are_missing_or_new_fail_unless_they_are_allowed_by_name():
    one, other = structure(network()), structure(network(), row=TRAIN)
    [missing] = compare(structures(one, other), structures(one))
    assert (missing.row, missing.what, missing.before, missing.after) == (TRAIN, "row", "present", "missing")
    [new] = compare(structures(one), structures(one, other))
    assert (new.row, new.what, new.before, new.after) == (TRAIN, "row", "missing", "new")
    for name in (TRAIN, "timm:net"):
        assert compare(structures(one, other), structures(one), allow_missing=[name]) == ()
        assert compare(structures(one), structures(one, other), allow_new=[name]) == ()
    for name in (ROW, "timm:ne", "net", ""):
        assert compare(structures(one, other), structures(one), allow_missing=[name]) != ()
        assert compare(structures(one), structures(one, other), allow_new=[name]) != ()
    assert compare(structures(one, other), structures(one), allow_new=[TRAIN]) != ()


def test_a_row_that_cannot_be_counted_fails_whatever_is_allowed():
    failed = replace(structures(), failures={ROW: "its forward pass fails."})
    for baseline, before in ((structures(structure(network())), "present"), (structures(), "missing")):
        [change] = compare(baseline, failed, allow_new=["timm:net"], allow_missing=["timm:net"])
        assert (change.before, change.after) == (before, "cannot be counted")
        assert change.where == ("its forward pass fails.",)


@pytest.mark.parametrize("other", [{"torch": "2.14"}, {"timm": "1.0.30"}])
def test_other_releases_are_not_compared(other):
    with pytest.raises(
        OtherVersionsError, match=r"2\.15 and timm 1\.0\.31, .*: install the baseline's, or rewrite it .*\.$"
    ):
        compare(structures(structure(network())), structures(structure(network(1)), **other))
    assert issubclass(OtherVersionsError, BenchError)
