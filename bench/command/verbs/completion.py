"""The verb `completion`: what a shell needs to complete every verb and option."""

from __future__ import annotations

import json
from argparse import ArgumentParser

from visionbench.command import options
from visionbench.comparison.verdict import OK
from visionbench.record.errors import BenchError

SHELLS = ("bash", "zsh", "tcsh")


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = (
        "Print a shell's completions of all commands and options. For bash: "
        '`eval "$(visionbench completion bash)"` in ~/.bashrc. It needs shtab.'
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    options.add_json(parser, "every command with its options")
    parser.set_defaults(verb=lambda words: run(words.shell, as_json=words.json))


def run(shell: str, *, as_json: bool = False) -> int:
    """Print the script. Raises `BenchError` where shtab is not installed."""
    from visionbench.command.main import VERBS, command_line

    if as_json:
        known = {name: command_line(name).verb for name in VERBS}
        print(json.dumps({name: verb.option_names() for name, verb in known.items() if verb}, indent=2))
        return OK
    try:
        from shtab import complete
    except ImportError as error:
        raise BenchError("shell completion needs shtab: pip install shtab.") from error
    print(complete(command_line(*VERBS, program="visionbench"), shell))
    return OK
