"""The exact counts of the detectors and segmentors of Tables 3 and 4, part by part (`dense_networks.csv`).

They were worked out once from the pencil formulas of tests/models/test_models_dense.py and from another program's
dispatcher (torch 2.11 and 2.14, timm 1.0.15 and 1.0.31), not by the code under test. `layer_norm` and `gelu` are what
torch's classes would add in the toolbox's counter; ConvNeXt's LayerNorm is of another class.
"""

from __future__ import annotations

import csv
from pathlib import Path

from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec

Size = tuple[int, int]
PARTS = ("backbone", "neck", "rpn", "boxes", "masks", "decoder")


def _read() -> dict[tuple[str, Size], dict[str, int]]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return {
            (line["name"], (int(line["height"]), int(line["width"]))): {
                key: int(value or 0) for key, value in line.items() if key not in ("name", "height", "width")
            }
            for line in csv.DictReader(file)
        }


NETWORKS = _read()
"""By name and (height, width)."""


def terms(network: tuple[str, Size]) -> dict[str, int]:
    """The terms of the toolbox's counter."""
    counts = NETWORKS[network]
    return {
        "products": counts["macs"] - counts["attention"],
        "bias": counts["conv_bias"],
        "relu": counts["relu"],
        "batch_norm": counts["batch_norm"],
        "layer_norm": counts["layer_norm"] if "swin" in network[0] else 0,
        "pooling": counts["pooling_inputs"],
        "synced_norm": counts["head_sync_bn"],
        "gelu": counts["gelu"],
        "attention": counts["attention"],
    }


def records() -> list[Record]:
    """A computed record of each network."""
    return [_record(network) for network in NETWORKS]


def _record(network: tuple[str, Size]) -> Record:
    name, size = network
    values = {key: NETWORKS[network][key] for key in ("params", "macs")}
    values |= {f"hooks.{term}": count for term, count in terms(network).items()}
    return Record(
        spec=Spec(model=f"paper:{name}", image_size=size),
        protocol=None,
        environment=Environment(device_type="meta"),
        measurements=tuple(measurement(metric, (value,)) for metric, value in values.items()),
        source="computed",
    )
