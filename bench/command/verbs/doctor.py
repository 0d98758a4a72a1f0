"""The verb `doctor`: is this machine fit to measure?"""

from __future__ import annotations

import json
from argparse import ArgumentParser

from visionbench.command import options
from visionbench.comparison.verdict import NOT_MEASURED, OK


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

    findings = examination.examine(device or find_device())
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if as_json else examination.render(findings))
    return NOT_MEASURED if any(finding.level == "bad" for finding in findings) else OK
