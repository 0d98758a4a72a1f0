"""What cards are called at a site and which Python serves them: `cluster.toml`.

[v100]
constraint = "volta32gb"
python = "/shared/envs/torch-2.10/bin/python"
[a100]
gres = "gpu:tesla_a100:1"
sbatch = "--account=vision"
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from visionbench.record.errors import BenchError, choose
from visionbench.record.files import reason, text_of, toml_of

SITE = Path("cluster.toml")

OWN = {
    "job-name": "J", "array": "a", "output": "o", "error": "e", "partition": "p", "clusters": "M", "open-mode": "",
    "nodes": "N", "nodelist": "w", "nodefile": "F", "exclude": "x", "ntasks": "n", "gres": "", "gpus": "G",
    "gpus-per-node": "", "gpus-per-task": "", "gpus-per-socket": "", "tres-per-task": "", "wait": "W", "wrap": "",
    "no-requeue": "", "test-only": "", "version": "V", "help": "h", "usage": "",
}  # fmt: skip
"""Options of `sbatch` that would set a shift's job otherwise than the loop must have it, with their short forms: it
finds jobs by their names, places them among a partition's nodes, asks for one GPU and reads their logs.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How a site names a card: what its jobs ask Slurm for, and the Python that has a torch for it.

    `partition`, `gres` and `constraint` are Slurm's words, `sbatch` further options of `sbatch`, by themselves.
    """

    partition: str | None = None
    gres: str | None = None
    constraint: str | None = None
    python: str | None = None
    sbatch: tuple[str, ...] = ()


def read_site(path: Path | None) -> dict[str, Site]:
    """Every card of a site file by its word in lower case; without a path `cluster.toml`, if there is one.

    Raises `BenchError` for a file that is not there, is no TOML, or has an unknown word.
    """
    if path is None and not SITE.exists():
        return {}
    file = path or SITE
    try:
        data = toml_of(text_of(file))
    except OSError as error:
        raise BenchError(f"cannot read {file} ({reason(error)}): name another file with --site.") from error
    except ValueError as error:
        raise BenchError(f"{file} is no TOML ({error}): mend it.") from error
    sites: dict[str, Site] = {}
    for word, table in data.items():
        if word.lower() in sites:
            raise BenchError(f"{file}: [{word}] is there twice, in other letters: keep one of them.")
        sites[word.lower()] = _site(file, word, table)
    return sites


def _site(file: Path, card: str, table: object) -> Site:
    if not isinstance(table, dict):
        raise BenchError(f'{file}: {card} is no section: write [{card}], and below it gres = "gpu:a100:1".')
    known = tuple(field.name for field in fields(Site))
    for word, value in table.items():
        try:
            choose("word", word, known)
        except BenchError as error:
            raise BenchError(f"{file}, [{card}]: {error}") from error
        if not isinstance(value, str):
            raise BenchError(f"{file}, [{card}]: {word} is a text in quotes, not {value!r:.60}.")
        if not value.strip() or not value.isprintable():
            raise BenchError(f"{file}, [{card}]: {word} is empty or has a line's end in it: write it, or leave it out.")
    if re.search(r"\bgpu(:[^:,]*[^:,\d][^:,]*)?:(?!1\b)\d", table.get("gres", "")):
        raise BenchError(f"{file}, [{card}]: gres asks for several GPUs, and a shift has one: write gpu:NAME:1.")
    try:
        options = tuple(shlex.split(table.get("sbatch", "")))
    except ValueError as error:
        raise BenchError(f"{file}, [{card}]: sbatch has an open quote: close it.") from error
    check_options(options, f"{file}, [{card}], sbatch")
    python = table.get("python")
    # The shell of a job takes it in quotes, so the home folder is filled in here.
    return Site(**{**table, "sbatch": options, "python": python and str(Path(python).expanduser())})


def check_options(words: Sequence[str], where: str) -> None:
    """Raise `BenchError` for options of `sbatch` that a shift sets itself, and for words that are no options: `sbatch`
    would run a file of that name in place of the shift. `where` says who wrote them.
    """
    value_may_follow = False
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            if not value_may_follow or word == ":":
                raise BenchError(f"{where}: {word!r} is no option of sbatch: write it as --account=vision.")
            value_may_follow = False
            continue
        name, equals, _ = word.partition("=")
        own = _own(name)
        if own:
            raise BenchError(
                f"{where}: a shift sets --{own} itself: leave it out. --gpu and cluster.toml say which GPU, --nodes "
                "any lets Slurm choose the node, and --partition or --constraint keeps nodes out."
            )
        value_may_follow = not equals and (name.startswith("--") or len(name) == 2)


def _own(name: str) -> str | None:
    """The option of `OWN` that `--name`, a beginning of it, or `-n` with or without its value stands for."""
    if name.startswith("--"):
        return next((own for own in OWN if len(name) > 2 and own.startswith(name[2:])), None)
    return next((own for own, short in OWN.items() if name[1] == short), None)
