"""What networks are given, described once: counted, measured, gated, predicted and guarded by a suite alike."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from visionbench import compare, measure, predict, read_records, trace
from visionbench.command.main import main
from visionbench.comparison.structure import read as read_baseline
from visionbench.measuring.workload import build as build_workload
from visionbench.models import ModelError
from visionbench.plugin.check import Settings, check
from visionbench.record.errors import BenchError
from visionbench.record.inputs import image_of, parse
from visionbench.record.record import Environment, Record, from_json, to_json
from visionbench.record.spec import Spec
from visionbench.reports.render.html import evidence
from visionbench.reports.results import runs
from visionbench.tracing.step import run as trace_step

NETS = """
import torch
from torch import nn

class Difference(nn.Module):
    "Two images in, one vector out."
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, before, after):
        return self.head((self.conv(before) - self.conv(after)).mean((2, 3)))

class Guided(nn.Module):
    "An image and its mask, both by keyword."
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, *, image, mask):
        return self.head(self.conv(torch.cat([image, mask], 1)).mean((2, 3)))

class Captioned(nn.Module):
    "An image, the words beside it, and a number."
    def __init__(self):
        super().__init__()
        self.words, self.moments = nn.Embedding(100, 8), nn.Embedding(10, 8)
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Linear(8, 5)

    def forward(self, image, ids, time=None, keep=None):
        assert ids.dtype == torch.int64 and ids.dim() == 2
        words = self.words(ids)
        if keep is not None:
            words = words * keep[..., None]
        x = self.conv(image).mean((2, 3)) + words.mean(1)
        return self.head(x if time is None else x + self.moments(time))

def clips():
    return nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5))

def grey():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

def spectrogram_and_tokens(batch_size):
    return {"image": torch.zeros(batch_size, 3, 16, 24), "ids": torch.full((batch_size, 7), 99)}

def reading(batch_size):
    ids = torch.full((batch_size, 7), 99)
    assert max(ids.flatten().tolist()) == 99
    return {"image": torch.zeros(batch_size, 3, 16, 24), "ids": ids}

def pair(batch_size, image_size):
    return torch.zeros(batch_size, 3, image_size, image_size), torch.ones(batch_size, 3, image_size, image_size)

def listed(batch_size):
    return ([torch.zeros(3, 16, 20 + i) for i in range(batch_size)],)

class Listed(nn.Module):
    "A list of images of many sizes, as a detector takes it."
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return torch.stack([self.conv(image).mean() for image in images])

def one_image():
    return torch.zeros(1, 3, 32, 32)

def nothing(batch_size):
    return {}

def broken(batch_size):
    raise KeyError("pixels")
"""
OWN = """
from nets_of_inputs import Difference as make
import torch

def inputs(batch_size):
    return torch.zeros(batch_size, 3, 9, 8), torch.zeros(batch_size, 3, 9, 8)
"""
CONV = 3 * 3 * 3 * 8
CASES = {
    "two images": ("Difference", ("3x12x12", "3x12x12"), 2 * 100 * CONV + 16),
    "rectangles": ("Difference", ("3x12x7", "3x12x7"), 2 * 50 * CONV + 16),
    "by keyword": ("Guided", ("image=3x12x12", "mask=1x12x12"), 100 * 3 * 3 * 4 * 8 + 16),
    "half by keyword": ("Difference", ("3x12x12", "after=3x12x12"), 2 * 100 * CONV + 16),
    "words": ("Captioned", ("3x8x8", "77:int64:0..99"), 4 * 3 * 16 * 8 + 40),
    "a number": ("Captioned", ("3x8x8", "5:int64:0..99", "time=scalar:int64:0..9"), 4 * 3 * 16 * 8 + 40),
    "truth values": ("Captioned", ("3x8x8", "ids=5:int64:0..99", "keep=5:bool"), 4 * 3 * 16 * 8 + 40),
    "one channel": ("grey", ("1x12x12",), 100 * 9 * 8 + 80),
    "clips": ("clips", ("3x4x12x12",), 2 * 100 * 27 * 3 * 4 + 20),
    "a function": ("Captioned", ("user:nets_of_inputs:spectrogram_and_tokens",), 24 * 3 * 16 * 8 + 40),
    "a function of a size": ("Difference", ("user:nets_of_inputs:pair",), 2 * 222**2 * CONV + 16),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_of_inputs.py").write_text(NETS)
    (tmp_path / "nets_with_inputs.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("nets_of_inputs", "nets_with_inputs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


# --- the description --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["3x224x224", "77", "scalar", "mask=1x224x224", "ids=77:int64:0..49407", "t=scalar:int32:-5..5", "größe=8",
     "3x8x8:uint8:0..255", "keep=5:bool", "4:float32", "user:my.nets:inputs", "3x16x112x112", "x=1"],
)  # fmt: skip
def test_an_input_is_kept_as_it_is_typed(text: str) -> None:
    [described] = parse((text,))
    assert str(described) == text


@pytest.mark.parametrize(
    ("texts", "remedy"),
    [
        (("",), "3x224x224"), (("3x",), "3x224x224"), (("0x5",), "3x224x224"), (("a=b=3",), "3x224x224"),
        (("3x224x224:",), "3x224x224"), (("user:nets",), "user:my.nets:inputs"), (("2x3 ",), "3x224x224"),
        (("8:int64",), "8:int64:0..9"), (("8:int63:0..1",), "int64"), (("8:float:0..1",), "int64"),
        (("8:int64:5..1",), "lowest and the highest"), (("8:uint8:0..256",), "lowest and the highest"),
        (("8:uint8:-1..5",), "lowest and the highest"), (("8:int64:0..9223372036854775808",), "highest"),
        (("a=3", "a=4"), "give each another name"),
        (("user:a:b", "3x4x4"), "leave the other inputs out"),
    ],
)  # fmt: skip
def test_what_describes_no_input_is_one_sentence(texts: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(BenchError, match=remedy) as refusal:
        parse(texts)
    assert "\n" not in str(refusal.value)
    with pytest.raises(BenchError):
        Spec(model="timm:resnet18", inputs=texts)


@pytest.mark.parametrize("inputs", [3, 1.5, True, b"3x4x4", [3], [["3x4x4"]], ({},), [None]])
def test_what_is_no_text_is_one_sentence(inputs: Any, here: Path) -> None:
    for read in (lambda: Spec(model="timm:resnet18", inputs=inputs), lambda: trace("resnet18", inputs=inputs)):
        with pytest.raises(BenchError, match="an input is text like 3x224x224"):
            read()
    settings = Settings(folder=here, baseline=here / "b.json")
    assert "mend the marker" in check("timm:resnet18", {"inputs": inputs}, settings).text


def test_inputs_are_part_of_what_is_measured() -> None:
    plain = Spec(model="timm:resnet18", image_size=(64, 96))
    assert Spec(model="timm:resnet18", image_size=(64, 96), inputs=("3x64x96",)) == plain
    assert Spec(model="timm:resnet18", image_size=(64, 96), inputs=()) == plain
    grey = replace(plain, inputs="1x64x96")
    assert grey == replace(plain, inputs=["1x64x96"]) != plain
    assert str(grey) == "timm:resnet18@64x96 inference b1 fp32 input:1x64x96"
    assert (grey.channels, plain.channels) == (1, 3)
    assert replace(plain, inputs=("a=8", "1x4x4")) == replace(plain, inputs=("1x4x4", "a=8"))
    record = Record(spec=grey, protocol=None, environment=Environment(device_type="meta"), source="computed")
    assert from_json(to_json(record)).key == record.key
    assert '"inputs"' not in to_json(replace(record, spec=plain)), "an older visionbench can read it"
    assert evidence.traced(grey).endswith("--image-size 64x96 --input 1x64x96 --batch-size 1")
    assert image_of(("ids=3x4x5:int64:0..9", "3x16x112x96")) == (3, 112, 96)


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("name", "inputs", "macs"), CASES.values(), ids=CASES)
def test_a_network_is_counted_with_its_inputs(name: str, inputs: tuple[str, ...], macs: int) -> None:
    for batch in (1, 3):
        assert trace(f"user:nets_of_inputs:{name}", inputs=inputs, batch_size=batch).value("macs") == macs


@pytest.mark.usefixtures("here")
def test_a_training_step_and_a_second_opinion_are_given_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    step = trace("user:nets_of_inputs:Guided", inputs=("image=3x12x12", "mask=1x12x12"), batch_size=2, task="train")
    assert step.value("peak_memory_live")
    words = ["--input", "image=3x12x12", "--input", "mask=1x12x12"]
    assert main(["trace", "user:nets_of_inputs:Guided", *words, "--second-opinion"]) == 0
    said = capsys.readouterr().out
    assert "input:image=3x12x12 input:mask=1x12x12" in said
    assert "the counts agree" in said


@pytest.mark.parametrize(
    "inputs", ["UserDict(images=first, more={'c': first})", "(first, {'a': 0, 'b': 1, 'c': first})"]
)
def test_a_function_may_return_mappings_of_any_kind(inputs: str, here: Path) -> None:
    name = f"nets_of_mappings_{len(inputs)}"
    (here / f"{name}.py").write_text(f"""
from collections import UserDict
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images, more):
        return self.conv(images) + self.conv(more["c"])

def inputs(batch_size):
    first = torch.zeros(batch_size, 3, 8, 8)
    return {inputs}
""")
    for precision in ("fp32", "fp16"):
        counted = trace(f"user:{name}:Net", batch_size=2, precision=precision)
        assert counted.value("macs") == 2 * 36 * 27 * 8


@pytest.mark.usefixtures("here")
def test_a_module_may_say_what_its_networks_take() -> None:
    assert trace("user:nets_with_inputs:make", batch_size=2).value("macs") == 2 * 42 * CONV + 16


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "inputs", "size", "says"),
    [
        ("nets_with_inputs:make", None, 224, "3 x 9 x 8 and 3 x 9 x 8 (from inputs in nets_with_inputs), and not"),
        ("nets_of_inputs:Captioned", ("user:nets_of_inputs:spectrogram_and_tokens",), 64, "not images of 64 px"),
        ("nets_with_inputs:make", None, (9, 8), ""),
        ("nets_of_inputs:Listed", ("user:nets_of_inputs:listed",), 32, "are 3 x 16 x 20 and 3 x 16 x 21 (from listed"),
        ("nets_of_inputs:Difference", ("user:nets_of_inputs:pair",), 32, ""),
    ],
)
def test_inputs_of_another_size_than_the_rows_are_said(name, inputs, size, says) -> None:
    """The row is called `@224`: a reader must not take that for what the network saw."""
    spec = Spec(model=f"user:{name}", image_size=size, batch_size=2, inputs=inputs)
    ready = build_workload(spec, "cpu")
    try:
        measured = ready.remarks
    finally:
        ready.close()
    for remarks in (trace_step(spec).remarks, measured):
        assert says in "".join(remarks)
        assert bool(remarks) == bool(says)


@pytest.mark.parametrize(
    ("model", "first"), [("timm:resnet18", 112 * 112 * 49 * 64), ("timm:convnext_atto", 56 * 56 * 16 * 40)]
)
def test_timms_networks_take_other_channels(model: str, first: int) -> None:
    grey, colour, five = (trace(model, inputs=(f"{c}x224x224",)).value("macs") for c in (1, 3, 5))
    assert colour - grey == five - colour == 2 * first
    assert trace(model).value("macs") == colour


@pytest.mark.usefixtures("here")
def test_a_function_makes_no_data_for_a_trace_unless_it_must() -> None:
    """A million images would be 4.6 GB; one that reads its own values is called on the CPU."""
    model = "user:nets_of_inputs:Captioned"
    [many, few] = [
        trace(model, inputs=f"user:nets_of_inputs:{name}", batch_size=batch).value("macs")
        for name, batch in (("spectrogram_and_tokens", 1_000_000), ("reading", 3))
    ]
    assert many == few == 24 * 3 * 16 * 8 + 40


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("inputs", "remedy"),
    [("one_image", "batch_size"), ("nothing", "return tensors"), ("broken", "KeyError"), ("inpust", "no factory")],
)
def test_a_function_that_gives_no_batch_is_one_sentence(inputs: str, remedy: str) -> None:
    with pytest.raises((ModelError, BenchError), match=remedy):
        trace("user:nets_of_inputs:grey", inputs=f"user:nets_of_inputs:{inputs}", batch_size=4)


def test_a_described_input_is_what_was_asked_for() -> None:
    spec = Spec(model="timm:resnet18", image_size=32, batch_size=64)
    given = {}

    class Watch(torch.nn.Module):
        def forward(self, x: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
            given.update(named, x=x)
            return x.float().flatten(1)

    from visionbench.models import building

    inputs = ("3x4x4", "ids=9:int64:-3..3", "small=9:uint8:0..255", "keep=9:bool", "exact=2:float32", "t=scalar")
    plain = building.build
    building_module = sys.modules["visionbench.models"]
    building_module.build = lambda *_: Watch()
    try:
        load = build_workload(replace(spec, inputs=inputs, precision="bf16", memory_format="channels_last"), "cpu")
        load.step()
        load.close()
    finally:
        building_module.build = plain
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in given.items()}
    assert kinds == {
        "x": (torch.bfloat16, (64, 3, 4, 4)), "ids": (torch.int64, (64, 9)), "small": (torch.uint8, (64, 9)),
        "keep": (torch.bool, (64, 9)), "exact": (torch.float32, (64, 2)), "t": (torch.bfloat16, (64,)),
    }  # fmt: skip
    assert sorted(given["ids"].unique().tolist()) == [-3, -2, -1, 0, 1, 2, 3]
    assert given["small"].max() > 240
    assert 0.4 < given["keep"].float().mean() < 0.6
    assert given["x"].is_contiguous(memory_format=torch.channels_last)
    assert 0.9 < given["x"].float().std() < 1.1


# --- the other verbs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_structure_is_guarded_with_its_inputs(here: Path) -> None:
    words = ["compare", "--exact", "user:nets_of_inputs:Captioned", "--baseline", "b.json"]
    words += ["--input", "image=3x8x8", "--input", "ids=5:int64:0..99"]
    assert main([*words, "--update"]) == 0
    assert main(words) == 0
    row = next(iter(read_baseline(here / "b.json").rows.values()))
    assert row.row == "user:nets_of_inputs:Captioned@8 inference b1 fp32 input:image=3x8x8 input:ids=5:int64:0..99"
    assert row.totals["graph_breaks"] == 0
    settings = Settings(folder=here, baseline=here / "b.json")
    marker = {"inputs": ["image=3x8x8", "ids=5:int64:0..99"]}
    assert check("user:nets_of_inputs:Captioned", marker, settings).text == ""
    assert "mend the marker" in check("user:nets_of_inputs:Captioned", {"inputs": "3xx"}, settings).text


def test_a_network_of_other_channels_is_predicted() -> None:
    rates = []
    for inputs in (None, "6x224x224"):
        [record] = predict("resnet18", gpu="v100-sxm2-16gb", inputs=inputs)
        rates.append(record.value("step_time"))
    assert rates[0] < rates[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "words",
    [["--input", "3xx"], ["--input", "ids=5:int64"], ["--input", "a=3x8x8", "--input", "a=3x8x8"]],
)
def test_a_mistake_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["trace", "user:nets_of_inputs:grey", *words])
    except SystemExit as exit_:
        code = exit_.code
    err = capsys.readouterr().err
    assert (code, len([line for line in err.splitlines() if line.startswith("visionbench: ")])) == (2, 1), err


@pytest.mark.slow
def test_a_network_is_measured_and_gated_with_its_inputs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = "user:nets_of_inputs:Captioned", ("3x8x8", "ids=5:int64:0..99")
    words = [word for text in inputs for word in ("--input", text)]
    measuring = ["run", model, *words, "--device", "cpu", "--protocol", "smoke", "--records", "r.jsonl"]
    assert main([*measuring, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["failure"], record["spec"]["inputs"]) == (None, list(inputs))
    [trained] = measure(model, inputs=inputs, device="cpu", launches=1, task="train", batch_size=2, records="r.jsonl")
    assert trained.failure is None
    [own] = measure("user:nets_with_inputs:make", device="cpu", launches=1, records="r.jsonl")
    assert own.failure is None
    table = runs.layout(read_records("r.jsonl"))
    assert [column.key for column in table.columns].count("inputs") == 1
    judged = compare(model, inputs=inputs, vary={"precision": "bf16"}, device="cpu", launches=1, rounds=2)
    assert [v.comparison.baseline.spec.inputs for v in judged.verdicts] == [inputs]
    assert [v.comparison.failure for v in judged.verdicts] == [None]
