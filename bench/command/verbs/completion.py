"""The verb `completion`: what a shell needs to complete every verb and option."""

from __future__ import annotations

from argparse import ArgumentParser

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
    parser.set_defaults(verb=lambda words: run(words.shell))


def run(shell: str) -> int:
    """Print the script. Raises `BenchError` where shtab is not installed."""
    from visionbench.command.main import VERBS, command_line

    try:
        from shtab import complete
    except ImportError as error:
        raise BenchError("shell completion needs shtab: pip install shtab.") from error
    print(complete(command_line(*VERBS, program="visionbench"), shell))
    return OK
