"""Protocols of training memory: what each counts, on numbers that can be added in the head."""

import pytest

from visionbench.record.memory_protocol import PAPER_2022, PAPER_2022_COPIES, TODAY, MemoryProtocol
from visionbench.record.record import Environment, Measurement, Record

NUMBERS = {"peak_memory_live": 1000, "peak_memory_kept_gradients": 1100, "param_bytes": 100, "buffer_bytes": 7}


def counted(**numbers):
    measurements = tuple(
        Measurement(metric=name, unit="B", better="lower", assume="exact", values=(value,))
        for name, value in numbers.items()
    )
    spec = PAPER_2022.spec("timm:resnet18", 224, 32)
    environment = Environment(device_type="meta")
    return Record(spec=spec, protocol=None, environment=environment, measurements=measurements, source="computed")


@pytest.mark.parametrize(
    ("protocol", "peak"),
    [
        (TODAY, 1000),
        (PAPER_2022, 1100),
        (PAPER_2022_COPIES, 1100 + 107 + 100),
        (MemoryProtocol(name="x", ema=True), 1107),
        (MemoryProtocol(name="x", ddp=True), 1100),
    ],
    ids=str,
)
def test_a_protocol_adds_up_its_parts(protocol, peak):
    assert protocol.peak(counted(**NUMBERS)) == peak


@pytest.mark.parametrize("missing", NUMBERS)
def test_a_count_that_is_missing_is_no_number(missing):
    known = {name: value for name, value in NUMBERS.items() if name != missing}
    needs = {"peak_memory_live": TODAY}.get(missing, PAPER_2022_COPIES)
    assert needs.peak(counted(**known)) is None


def test_a_protocol_names_the_trace_that_it_reads():
    then, now = (protocol.spec("timm:resnet18", 224, 32) for protocol in (PAPER_2022, TODAY))
    assert str(then) == "timm:resnet18@224 train b32 fp32 math-attention"
    assert str(now) == "timm:resnet18@224 train b32 amp_bf16"
    assert PAPER_2022_COPIES.spec("timm:resnet18", 224, 32) == then, "copies change no operator"


def test_names_are_unique_and_words_say_what_differs():
    protocols = (PAPER_2022, PAPER_2022_COPIES, TODAY)
    assert len({protocol.name for protocol in protocols}) == len({str(protocol) for protocol in protocols}) == 3
    assert str(TODAY) == "amp_bf16, fused attention, AdamW, gradients freed between steps"
