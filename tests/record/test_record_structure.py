"""The file of structure: what is folded comes back, what is damaged is told, what changes is one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.comparison.fold_names import fold, unfold
from visionbench.comparison.structure import (
    Layer,
    Structure,
    Structures,
    baseline_in,
    read,
    structure_specs,
    to_text,
    write,
)
from visionbench.record.errors import BenchError
from visionbench.record.spec import SUITES, Spec

ROW = "timm:net@64 inference b1 fp32"


def layers(count: int = 3) -> dict[str, Layer]:
    blocks = {
        f"blocks.{block}.{name}": Layer(operators={operator: 1}, params=10, bytes=100)
        for block in range(count)
        for name, operator in (
            ("norm1", "native_layer_norm"),
            ("attn", "fused_attention"),
            ("norm2", "native_layer_norm"),
        )
    }
    return blocks | {"(model)": Layer(operators={"add": 2, "clone": 1}, buffers=3, bytes=7)}


def structure(layers: dict[str, Layer], **more: int | None) -> Structure:
    totals = {name: sum(getattr(one, name) for one in layers.values()) for name in ("params", "buffers", "bytes")}
    operators = sum(sum(one.operators.values()) for one in layers.values())
    return Structure(row=ROW, totals={**totals, "operators": operators, **more}, layers=layers)


def structures(*rows: Structure) -> Structures:
    return Structures(torch="2.15", timm="1.0.31", rows={one.row: one for one in rows})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write(tmp_path / "perf" / "structure.json", structures(structure(layers())))
    return tmp_path / "perf" / "structure.json"


@pytest.mark.parametrize(
    ("there", "used"),
    [
        ([], "visionbench-structure.json"),
        (["visionbench-structure.json"], "visionbench-structure.json"),
        (["structure.json"], "structure.json"),
        (["perf/structure.json"], "perf/structure.json"),
        (["structure.json", "perf/structure.json"], "structure.json"),
        (["structure.json", "visionbench-structure.json"], "visionbench-structure.json"),
    ],
)
def test_the_command_the_action_and_the_plugin_share_a_file_and_older_names_are_still_read(tmp_path, there, used):
    for name in there:
        write(tmp_path / name, structures(structure(layers())))
    assert baseline_in(tmp_path) == tmp_path / used


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1, "rows": []}', "[1, 2]", "\udcff\x00"])
def test_a_file_of_an_older_name_that_is_not_ours_is_left_alone(tmp_path, text):
    for name in ("structure.json", "perf/structure.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert baseline_in(tmp_path) == tmp_path / "visionbench-structure.json"


def test_a_torn_file_of_an_older_name_is_ours_and_named(tmp_path):
    torn = to_text(structures(structure(layers())))[:120]
    (tmp_path / "structure.json").write_text(torn)
    with pytest.raises(BenchError, match=r"structure\.json is no baseline"):
        read(baseline_in(tmp_path))


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (["a.0", "a.1", "a.2"], ["a.{0..2}"]),
        (["a.0", "a.1"], ["a.{0,1}"]),
        (["a.0", "a.1", "a.2", "a.4"], ["a.{0..2,4}"]),
        (["a.0.b1", "a.0.b2", "a.1.b1", "a.1.b2"], ["a.{0,1}.b{1,2}"]),
        (["a.0.b1", "a.0.b2", "a.1.b1"], ["a.0.b{1,2}", "a.1.b1"]),
        (["a", "b"], ["a", "b"]),
        (["a.01", "a.2"], ["a.01", "a.2"]),
        (["", "(backward)"], ["", "(backward)"]),
    ],
)
def test_names_fold_and_unfold(names, patterns):
    folded = fold((name, 1) for name in names)
    assert [one.pattern for one in folded] == patterns
    assert sorted(name for one in folded for name in unfold(one.pattern)) == sorted(names)
    assert sum(one.count for one in folded) == len(names)


def test_what_differs_is_not_folded():
    assert [one.pattern for one in fold([("a.0", 1), ("a.1", 2), ("a.2", 1)])] == ["a.{0,2}", "a.1"]


def test_what_is_written_is_read(written):
    assert read(written) == structures(structure(layers()))
    unknown = replace(
        structure(layers(), graphs=None, graph_breaks=2), breaks={"Tensor.item, in forward (net.py)": 2}, remark="why"
    )
    write(written, structures(unknown))
    assert read(written).rows[ROW] == unknown


def test_the_file_is_json_with_a_line_per_count_and_layer_and_does_not_hang_on_order(written):
    text = written.read_text(encoding="utf-8")
    assert json.loads(text)["schema"] == 1
    assert (
        '    "blocks.{0..2}.norm{1,2}": {"operators": {"native_layer_norm": 1}, "params": 10, "bytes": 100},\n' in text
    )
    turned = {path: replace(one, operators=dict(reversed(one.operators.items()))) for path, one in layers().items()}
    assert to_text(structures(structure(turned))) == text


def test_a_layer_that_changes_is_a_few_lines_of_the_file():
    before = to_text(structures(structure(layers(12)))).splitlines()
    changed = layers(12) | {"blocks.3.attn": Layer(operators={"fused_attention": 1, "clone": 1}, params=10, bytes=100)}
    after = to_text(structures(structure(changed))).splitlines()
    new = [line for line in after if line not in before]
    assert len(new) == 4
    assert any('"blocks.{0..2,4..11}.attn"' in line for line in new)
    assert any('"blocks.3.attn"' in line for line in new)


def test_the_hash_is_of_the_operators_by_phase_and_of_nothing_else():
    plain = structure(layers())
    assert plain.hash == structure(dict(reversed(layers().items()))).hash
    assert plain.hash == replace(plain, totals={}).hash
    assert plain.hash != structure(layers(4)).hash
    moved = layers() | {"(model)": Layer(), "(backward)": layers()["(model)"]}
    assert plain.hash != structure(moved).hash
    assert plain.hash == structure(layers() | {"(model)": Layer(), "head": layers()["(model)"]}).hash


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:300],
        lambda text: text.replace('"totals"', '<<<<<<< HEAD\n"totals"'),
        lambda text: text.replace('"params": 90', '"params": 91'),
        lambda text: text.replace('"clone": 1', '"clone": 2'),
        lambda text: text.replace('"clone": 1', '"clone_": 1'),
        lambda text: text.replace('"bytes": 7', '"bytes": "seven"'),
        lambda text: text.replace('"bytes": 7', '"price": 7'),
        lambda text: text.replace('"timm": "1.0.31",', ""),
        lambda text: text.replace("{0..2}", "{0..99999999}"),
        lambda text: text.replace('"schema": 1,', ""),
        lambda text: "[]",
        lambda text: "",
    ],
)
def test_a_damaged_file_is_one_sentence_with_the_remedy(written, damage):
    text = written.read_text(encoding="utf-8")
    assert damage(text) != text
    written.write_text(damage(text), encoding="utf-8")
    remedy = r"(?s)no baseline of structure \(.+\): restore it with git, or remove it and write it anew"
    with pytest.raises(BenchError, match=remedy):
        read(written)


def test_a_file_of_another_schema_says_so(written):
    written.write_text(written.read_text(encoding="utf-8").replace('"schema": 1', '"schema": 2'), encoding="utf-8")
    with pytest.raises(BenchError, match=r"it has schema 2, this visionbench reads 1: .*`compare --exact --update`\.$"):
        read(written)


def test_bytes_that_are_no_text_are_a_damaged_file(written):
    written.write_bytes(b"\xff\xfe")
    with pytest.raises(BenchError, match="no baseline"):
        read(written)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BenchError, match=r"there is no baseline .*: write it with `compare --exact --update`"):
        read(tmp_path / "nothing.json")
    with pytest.raises(BenchError, match="cannot read"):
        read(tmp_path)


def test_no_baseline_is_written_of_what_could_not_be_counted(tmp_path):
    failed = replace(structures(), failures={ROW: "it reads values."})
    with pytest.raises(BenchError, match=r"because timm:net@64 .* cannot be counted \(it reads values\): mend it\.$"):
        write(tmp_path / "x.json", failed)
    assert not (tmp_path / "x.json").exists()


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"cannot write .*: name another file\."):
        write(tmp_path / "file" / "x.json", structures(structure(layers())))


def test_each_spec_is_counted_both_ways_and_once():
    found = structure_specs(SUITES["ci"])
    assert len(found) == 2 * len(SUITES["ci"])
    assert {spec.batch_size for spec in found if spec.task == "train"} == {2}
    plain = Spec(model="timm:resnet18", batch_size=8)
    both = structure_specs([plain, replace(plain, compile_mode="default"), replace(plain, task="train")])
    assert both == (plain, replace(plain, task="train"))
