"""The verb `doctor`: is this machine fit to measure?"""

from __future__ import annotations

from argparse import Namespace

from visionbench.command.options import Commands
from visionbench.comparison.verdict import NOT_MEASURED, OK


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = "Whether this machine is fit to measure, in plain words, and what to do where it is not."
    parser = commands.add_parser("doctor", help="is this machine fit to measure?", description=text)
    parser.add_argument("--device", metavar="DEVICE", help="cuda, cuda:1 or cpu (default: the GPU if there is one)")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Say whether this machine is fit to measure."""
    from visionbench.machine import doctor as examination
    from visionbench.machine.environment import find_device

    findings = examination.examine(options.device or find_device())
    print(examination.render(findings))
    return NOT_MEASURED if any(finding.level == "bad" for finding in findings) else OK
