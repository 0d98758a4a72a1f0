"""Spec and Protocol: what is refused, with which words; what a spec is called; what may stand in a set."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from visionbench.comparison.structure import model_of
from visionbench.record import spec as spec_module
from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import (
    MEMORY,
    PRECISIONS,
    PROTOCOLS,
    QUICK,
    SMOKE,
    STEADY,
    SUITES,
    SWIN,
    Protocol,
    Spec,
    check_parallel,
    image_size,
    sides,
)

TINY = Spec(model="timm:convnext_tiny")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("task", "finetune", ("task", "'finetune'", "inference")),
        ("precision", "fp61", ("precision", "'fp61'", "did you mean fp16")),
        ("precision", "int8", ("precision", "'int8'")),
        ("precision", None, ("precision", "'None'", "choose one of fp32")),
        ("task", 3, ("task", "'3'", "choose one of inference")),
        ("compile_mode", 1.5, ("compile mode", "'1.5'", "choose one of default")),
        ("memory_format", "channel_last", ("memory format", "did you mean channels_last")),
        ("memory_format", "NHWC", ("memory format", "did you mean channels_last")),
        ("attention", "flash", ("attention", "'flash'", "fused", "math")),
        ("compile_mode", "reduce_overhead", ("compile mode", "did you mean reduce-overhead")),
        ("compile_mode", "", ("compile mode", "default")),
        ("batch_size", 0, ("batch size", "at least 1", "not 0")),
        ("batch_size", -4, ("batch size", "not -4")),
        ("batch_size", True, ("batch size", "not True")),
        ("batch_size", 2.0, ("batch size", "whole number", "not 2.0")),
        ("batch_size", "64", ("batch size", "not '64'")),
        ("image_size", 0, ("image size", "not 0")),
        ("image_size", 224.5, ("image size", "not 224.5")),
        ("image_size", None, ("image size", "not None")),
    ],
)
def test_a_spec_refuses_what_it_does_not_know_in_one_sentence(field, value, words):
    with pytest.raises(BenchError) as caught:
        replace(TINY, **{field: value})
    told = str(caught.value)
    assert "\n" not in told
    for word in words:
        assert word in told


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_the_list_is_accepted(precision):
    assert replace(TINY, precision=precision).precision == precision


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "timm:convnext_tiny@224 inference b1 fp32"),
        ({"batch_size": 64, "image_size": 384}, "timm:convnext_tiny@384 inference b64 fp32"),
        ({"task": "train", "precision": "amp_bf16"}, "timm:convnext_tiny@224 train b1 amp_bf16"),
        ({"memory_format": "channels_last"}, "timm:convnext_tiny@224 inference b1 fp32 channels_last"),
        ({"compile_mode": "max-autotune"}, "timm:convnext_tiny@224 inference b1 fp32 compile:max-autotune"),
        ({"attention": "math"}, "timm:convnext_tiny@224 inference b1 fp32 math-attention"),
        (
            {"memory_format": "channels_last", "compile_mode": "default", "attention": "math"},
            "timm:convnext_tiny@224 inference b1 fp32 channels_last compile:default math-attention",
        ),
    ],
)
def test_a_spec_is_called_by_what_it_is(fields, name):
    assert str(replace(TINY, **fields)) == name


VARIANTS = [
    TINY,
    replace(TINY, model="timm:convnext_small"),
    replace(TINY, task="train"),
    replace(TINY, batch_size=2),
    replace(TINY, image_size=225),
    replace(TINY, precision="tf32"),
    replace(TINY, memory_format="channels_last"),
    replace(TINY, compile_mode="default"),
    replace(TINY, attention="math"),
    replace(TINY, image_size=(224, 320)),
    replace(TINY, image_size=(320, 224)),
    replace(TINY, processes=2),
    replace(TINY, backend="onnxruntime"),
    replace(TINY, processes=2, parallel="ddp"),
    replace(TINY, processes=2, parallel="fsdp2"),
]


def test_specs_that_differ_in_any_field_differ_in_name_and_are_two_rows():
    assert len(set(VARIANTS)) == len({str(spec) for spec in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("inputs", "name", "size"),
    [
        (None, "user:a:net@224", "224"),
        (("3x64x96",), "user:a:net@64x96", "64x96 3x64x96"),
        (("1x48x48",), "user:a:net@48", "48 1x48x48"),
        (("4x16x112x112",), "user:a:net@112", "112 4x16x112x112"),
        (("ids=77:int64:0..9",), "user:a:net", "ids=77:int64:0..9"),
        (("768",), "user:a:net", "768"),
        (("80x3000",), "user:a:net", "80x3000"),
        (("scalar", "mask=1x8x8:bool"), "user:a:net", "scalar mask=1x8x8:bool"),
        (("user:a:inputs",), "user:a:net@224", "224 user:a:inputs"),
    ],
)
def test_a_name_has_an_image_size_only_where_the_network_is_given_images(inputs, name, size):
    """`@224` beside text or sound would be false; the size that is said is that of the image that is given."""
    spec = Spec(model="user:a:net", inputs=inputs)
    assert str(spec).startswith(f"{name} inference b1 fp32")
    assert spec.size == size
    assert model_of(str(spec)) == "user:a:net"
    assert ("px" in spec.fed) == ("@" in name)


@pytest.mark.parametrize("model", ["timm:a", "user:my dir/a@2x.py:net", "user:a:b", "user:in train b2.py:f"])
def test_a_rows_words_give_its_model_back(model):
    assert model_of(str(Spec(model=model, image_size=96, task="train", batch_size=2))) == model


def test_equal_specs_are_one_row():
    again = Spec(model="timm:convnext_tiny", task="inference", batch_size=1, image_size=224)
    assert again == TINY
    assert hash(again) == hash(TINY)
    assert len({again, TINY}) == 1


@pytest.mark.parametrize(("datum", "field"), [(TINY, "batch_size"), (SWIN, "blocks")])
def test_what_was_recorded_cannot_be_changed(datum, field):
    with pytest.raises(FrozenInstanceError):
        setattr(datum, field, 2)


def test_swin_is_the_papers_protocol():
    # The paper took one block; the median of three does not see a stall of the host.
    assert (SWIN.warmup_iterations, SWIN.blocks, SWIN.block_iterations) == (50, 3, 30)
    assert SWIN.launches == 1


def test_protocols_are_found_by_their_own_names_and_can_be_keys():
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}
    assert {MEMORY, QUICK, SMOKE, STEADY, SWIN} == set(PROTOCOLS.values())
    constants = {value for value in vars(spec_module).values() if isinstance(value, Protocol)}
    assert constants == set(PROTOCOLS.values()), "a protocol constant that no name leads to"


def test_a_suite_holds_every_spec_once():
    for name, specs in SUITES.items():
        assert specs, name
        assert len(set(specs)) == len(specs), name


def test_choose_returns_what_is_known_and_names_the_list_where_nothing_is_near():
    assert choose("table", "table1", ("table1", "table2")) == "table1"
    with pytest.raises(BenchError, match=r"there is no table 'xyz': choose one of table1, table2\."):
        choose("table", "xyz", ("table1", "table2"))
    with pytest.raises(BenchError, match=r"did you mean table2 or table1\?"):
        choose("table", "table22", ("table1", "table2"))


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"backend": "onnxruntime"}, "leave backend out"),
        ({"processes": 2, "parallel": "ddp"}, "add --task train"),
        ({"processes": 2}, "add --task train"),
        ({"processes": 2, "task": "train"}, "add --parallel ddp"),
        ({"parallel": "fsdp2", "task": "train"}, "add --processes 2"),
        ({"processes": 2, "parallel": "ddp", "task": "train", "compile_mode": "default"}, "leave --compile out"),
    ],
)
def test_what_cannot_be_or_is_not_built_yet_is_refused_and_not_ignored(fields, remedy):
    check_parallel(TINY)
    check_parallel(replace(TINY, task="train", processes=8, parallel="fsdp2"))
    with pytest.raises(BenchError, match=remedy):
        check_parallel(replace(TINY, **fields))


def test_a_way_of_training_in_parallel_is_of_the_list():
    with pytest.raises(BenchError, match=r"there is no way of training in parallel 'dp': did you mean ddp\?"):
        replace(TINY, parallel="dp")


@pytest.mark.parametrize(("text", "size"), [("224", 224), ("800x1280", (800, 1280)), ("96x96", 96), ("1x3", (1, 3))])
def test_an_image_size_is_typed_as_it_is_printed(text: str, size: object) -> None:
    assert image_size(text) == size
    spec = Spec(model="timm:convnext_tiny", image_size=image_size(text))
    assert spec.image_size == size
    assert f"@{text.removesuffix('x96') if isinstance(size, int) else text} " in str(spec)


@pytest.mark.parametrize("text", ["", "x", "800x", "x1280", "800X1280", "800×1280", "1x2x3", "0", "0x5", "5x0", "-1",
                                  "1.5", " 224", "224\n", "8e2", "٣٢", "9" * 12, "224,224"])  # fmt: skip
def test_what_is_no_image_size_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(BenchError, match=r"800x1280|at least 1"):
        image_size(text)


@pytest.mark.parametrize(
    "size", [0, -3, True, 1.5, None, "224", "1x2", (), (5,), (1, 2, 3), (5, 0), (5, True), (1.5, 2)]
)
def test_a_spec_has_no_other_image_size(size: object) -> None:
    with pytest.raises(BenchError, match="at least 1"):
        Spec(model="timm:convnext_tiny", image_size=size)


def test_a_square_pair_is_one_number_and_another_pair_is_its_own_row() -> None:
    square = Spec(model="timm:convnext_tiny", image_size=(224, 224))
    assert (square, hash(square), square.image_size) == (TINY, hash(TINY), 224)
    wide = Spec(model="timm:convnext_tiny", image_size=[800, 1280])
    assert wide == replace(TINY, image_size=(800, 1280)) != replace(TINY, image_size=(1280, 800))
    assert (sides(wide.image_size), sides(TINY.image_size)) == ((800, 1280), (224, 224))
    assert replace(wide, batch_size=2).image_size == (800, 1280)
