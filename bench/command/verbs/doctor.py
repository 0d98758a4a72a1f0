"""The verb `doctor`: is this machine fit to measure?"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from visionbench.command import options
from visionbench.comparison.verdict import NOT_MEASURED, OK

if TYPE_CHECKING:
    from visionbench.machine.doctor import Finding


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = "Whether this machine is fit to measure, in plain words, and what to do where it is not."
    parser.add_argument("--device", metavar="DEVICE", help=options.DEVICE)
    options.add_json(parser, "one array of findings")
    parser.set_defaults(verb=lambda words: run(words.device, as_json=words.json))


def run(device: str | None, *, as_json: bool) -> int:
    """Say whether this machine is fit to measure."""
    from dataclasses import asdict

    from visionbench.machine import doctor as examination
    from visionbench.machine.environment import find_device

    chosen = device or find_device()
    findings = (*examination.examine(chosen), _noise_profile(chosen))
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if as_json else examination.render(findings))
    return NOT_MEASURED if any(finding.level == "bad" for finding in findings) else OK


def _noise_profile(device: str) -> Finding:
    """Whether it is known how often `gate` errs here. It makes no number worse, so it never warns."""
    from visionbench.comparison import noise_profile
    from visionbench.machine.doctor import Finding
    from visionbench.machine.environment import describe

    threads = 1 if device.startswith("cpu") else None  # what `gate` takes unasked: they are part of the machine
    asked = (noise_profile.DEFAULT_FILE, describe(device, threads), datetime.now(UTC).date())
    why, advice = noise_profile.missing(*asked)
    return Finding(level="ok", what="noise profile", found=why or noise_profile.remark(*asked), advice=advice)
