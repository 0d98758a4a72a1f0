"""Switches: one change of the plain run each, recognised in any comparison; and files of comparisons, merged."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.reports.paired import GPU, TINY, effect, pair
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Side, merge, read, speed_up
from visionbench.comparison.switches import (
    ABOUT,
    SWITCHES,
    configuration,
    every_configuration,
    plain,
    switch_of,
    switched,
)
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure
from visionbench.record.spec import Spec

SPEC = Spec(model=TINY, batch_size=64)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_one_thing_and_is_recognised(name):
    assert plain(switched(SPEC, name)) == SPEC
    assert switch_of(effect(TINY, name)) == name
    assert ABOUT[name]


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        (SPEC, SPEC),
        (SPEC, switched(SPEC, "bf16", "compile")),
        (SPEC, replace(SPEC, model="timm:resnet18")),
        (SPEC, replace(switched(SPEC, "bf16"), batch_size=1)),
        (switched(SPEC, "bf16"), switched(SPEC, "bf16", "compile")),
        (SPEC, replace(SPEC, attention="math")),
        (SPEC, replace(SPEC, compile_mode="max-autotune")),
    ],
    ids=str,
)
def test_what_is_not_one_switch_on_the_plain_run_is_none(baseline, candidate):
    assert switch_of(pair(baseline, candidate)) is None


def test_a_switch_between_two_revisions_is_none():
    one = effect(TINY, "bf16")
    assert switch_of(replace(one, candidate=replace(one.candidate, commit="1a2b"))) is None


def test_all_configurations_are_twenty_the_plain_one_first():
    found = every_configuration(SPEC)
    assert len(set(found)) == 20
    assert found[0] == SPEC
    assert every_configuration(SPEC, ("compile",)) == (SPEC, switched(SPEC, "compile"))
    assert every_configuration(SPEC, ()) == (SPEC,)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "fp32"),
        (("tf32", "channels_last", "compile"), "tf32, channels_last, compile"),
        (("compile",), "fp32, compile"),
    ],
)
def test_a_configuration_in_words(names, words):
    assert configuration(switched(SPEC, *names)) == words


def test_another_mode_of_the_compiler_is_said():
    assert configuration(replace(SPEC, compile_mode="max-autotune")) == "fp32, compile (max-autotune)"


def test_a_speed_up_is_the_inverse_of_the_ratio_of_times():
    its = speed_up(effect(TINY, "bf16", 2.0, scatter=0.01))
    assert its.centre == pytest.approx(2.0, rel=1e-9)
    assert its.low < 2.0 < its.high
    assert its.low * its.high == pytest.approx(4.0, rel=1e-9)
    assert speed_up(effect(TINY, "bf16", launches=0)) is None


# --- merging ---------------------------------------------------------------------------------------------------------


def test_merging_makes_the_file_and_replaces_what_has_the_same_key(tmp_path):
    path = tmp_path / "effects.jsonl"
    first, second = effect(TINY, "bf16", 1.1), effect(TINY, "compile", 1.2)
    merge(path, [first, second])
    again = replace(effect(TINY, "bf16", 1.5), seed=8, name="another name")
    merge(path, [again])
    assert read(path) == (second, again)


def other_machine(one):
    return replace(one, environment=replace(GPU, device_key="h100-sxm5-80gb"))


def other_torch(one):
    return replace(one, environment=replace(GPU, torch="2.6.0"))


def other_commit(one):
    return replace(one, candidate=replace(one.candidate, commit="1a2b"))


def other_clock(one):
    return replace(one, timer="wall")


@pytest.mark.parametrize("change", [other_machine, other_torch, other_commit, other_clock])
def test_what_is_of_another_machine_or_software_is_kept_beside(tmp_path, change):
    path = tmp_path / "effects.jsonl"
    one = effect(TINY, "bf16")
    merge(path, [one])
    merge(path, [change(one)])
    assert read(path) == (one, change(one))


def test_what_was_not_tried_replaces_nothing_and_a_failure_does(tmp_path):
    path = tmp_path / "effects.jsonl"
    one = effect(TINY, "bf16")
    merge(path, [one])
    merge(path, [replace(one, launches=())])
    assert read(path) == (one,)
    failed = replace(one, launches=(), failure=Failure(kind="error", stage="build", message="made up"))
    merge(path, [failed])
    assert read(path) == (failed,)


def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(BenchError, match="holds no comparisons"):
        merge(path, [effect(TINY, "bf16")])
    assert path.read_text() == "my notes\n"


def test_labels_are_no_part_of_the_key():
    one = effect(TINY, "bf16")
    assert one.key == replace(one, baseline=Side(label="x", spec=one.baseline.spec)).key
    keys = [comparison.Comparison.key.fget(effect(TINY, name)) for name in SWITCHES]
    assert all(a != b for a, b in pairwise(keys))
