"""A detector's inference: its throughput is of the dense part, and its phases are timed whatever protocol asks."""

from __future__ import annotations

import gc
from contextlib import closing

import pytest
import torch
from torch import nn

from visionbench import models
from visionbench.measuring import worker
from visionbench.measuring.workload import build
from visionbench.models import detection
from visionbench.record.metrics import DENSE_PHASES, DETECTOR_PHASES, POST_PHASES
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import end_to_end, post_processing, typical
from visionbench.reports.results import runs

SIZE = 64
PROTOCOL = Protocol(name="p", warmup_iterations=1, blocks=2, block_iterations=1)


class Patches(nn.Module):
    """The simplest backbone."""

    channels = (4, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, 4, 4 * 2**i, 4 * 2**i) for i in range(4))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [patches(images) for patches in self.maps]


@pytest.fixture(scope="module")
def detector() -> detection.Detector:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(detection, "BOXES", 12)
        patched.setattr(detection, "MASKS", 3)
        return detection.mask_rcnn(Patches(), SIZE)


@pytest.fixture(autouse=True)
def built(detector: detection.Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "build", lambda *_: detector.train())


def measured(protocol: Protocol = PROTOCOL, **fields: str) -> Record:
    spec = Spec(model="paper:mask_rcnn_swin_tiny", image_size=SIZE, **fields)  # type: ignore[arg-type]
    return worker.measure(spec, protocol, "cpu", threads=1)


@pytest.mark.slow
def test_a_record_has_the_dense_throughput_and_every_phase() -> None:
    record = measured()
    assert record.failure is None
    assert record.get("throughput")
    phases = {name: typical(record, name) for name in DETECTOR_PHASES}
    assert all(phases.values())
    assert end_to_end(record) == pytest.approx(sum(value for value in phases.values() if value))
    assert post_processing(record) == pytest.approx(sum(phases[name] or 0 for name in POST_PHASES))
    dense = sum(phases[name] or 0 for name in DENSE_PHASES)
    step = typical(record, "throughput")
    assert step is not None
    assert 0.3 < dense / step < 3, "the phases of the dense part are one step taken apart"


def test_a_table_of_runs_shows_the_phases_and_their_sum() -> None:
    table = runs.layout([measured()])
    keys = {heading.key for heading in table.columns}
    assert {*DETECTOR_PHASES, "end_to_end", "throughput"} <= keys


def test_a_protocol_that_times_nothing_times_no_phase() -> None:
    record = measured(Protocol(name="check", metrics=(), warmup_iterations=1, blocks=0, block_iterations=1))
    assert not [m for m in record.measurements if m.metric in DETECTOR_PHASES]


@pytest.mark.slow
def test_phases_leave_nothing_in_memory() -> None:
    with closing(build(Spec(model="paper:mask_rcnn_swin_tiny", image_size=SIZE), "cpu")) as load:
        held = []
        for phase in load.phases:
            phase.run()
            held.append(any(t.shape == (3, 80, 28, 28) for t in gc.get_objects() if type(t) is torch.Tensor))
    assert held == [False] * 4 + [True] * 3 + [False], "masks live until they are pasted"


def test_training_is_refused_with_the_reason() -> None:
    failure = measured(task="train").failure
    assert failure is not None
    assert "losses need boxes" in failure.message
    assert failure.kind == "unsupported"


def test_bf16_weights_are_refused_with_the_way_out() -> None:
    failure = measured(precision="bf16").failure
    assert failure is not None
    assert failure.kind == "unsupported"
    assert "amp_bf16" in failure.message


@pytest.mark.slow
def test_amp_bf16_runs() -> None:
    assert measured(precision="amp_bf16").failure is None
