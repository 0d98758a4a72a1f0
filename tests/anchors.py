"""Records of a card that nobody has: each network takes so many times what is predicted for it."""

from __future__ import annotations

from pathlib import Path

from visionbench.predicting.step_time import predict_step
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import Spec

CARD = "h100-sxm5-80gb"
NETWORKS = (
    *("resnet18", "resnet34", "vit_tiny_patch16_224", "vit_small_patch16_224", "mobilenetv3_small_050"),
    *("convnext_atto", "convnext_pico", "regnetx_002", "mixer_s32_224", "efficientnet_b0"),
)
SLOWER = 1.5
BATCH = 2048
"""So large that no host decides, however small the network."""


def spec(name: str) -> Spec:
    """The step of an anchor."""
    return Spec(model=f"timm:{name}", batch_size=BATCH, precision="amp_fp16")


def measured(spec: Spec) -> Record:
    """As if the card had been here."""
    step = predict_step(spec, find(CARD)).value("step_time")
    assert step
    time = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(SLOWER * step,))
    place = Environment(device_type="cuda", device_key=CARD, torch="2.11.0")
    return Record(spec=spec, protocol=None, environment=place, measurements=(time,), source="measured")


def write(path: Path) -> None:
    """A file of them all."""
    for name in NETWORKS:
        store.append(path, measured(spec(name)))
