"""What cards are called at a site and which Python serves them: `cluster.toml`.

[v100]
constraint = "volta32gb"
python = "/shared/envs/torch-2.10/bin/python"
[a100]
gres = "gpu:tesla_a100:1"
sbatch = "--account=vision"
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from visionbench.record.errors import BenchError, choose
from visionbench.record.files import reason, text_of, toml_of

SITE = Path("cluster.toml")


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
    return {word.lower(): _site(file, word, table) for word, table in data.items()}


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
            raise BenchError(f"{file}, [{card}]: {word} is a text in quotes, not {value!r}.")
    try:
        return Site(**{**table, "sbatch": tuple(shlex.split(table.get("sbatch", "")))})
    except ValueError as error:
        raise BenchError(f"{file}, [{card}]: sbatch has an open quote: close it.") from error
