"""What a user asks for, as types: the command line and the Python functions make them, and nothing below sees more.

A verb's own request (beside its parser) is made of these parts and of what only that verb knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from visionbench.record.errors import BenchError
from visionbench.record.inputs import images_of
from visionbench.record.spec import (
    Attention,
    CompileMode,
    ImageSize,
    MemoryFormat,
    Parallel,
    Precision,
    Task,
    image_size_of,
    sides,
)

Format = Literal["terminal", "markdown", "latex", "csv", "json", "html"]
"""How a table is written."""

FORMATS: tuple[str, ...] = get_args(Format)

LARGEST: Literal["max"] = "max"
"""The batch size that means: the largest that fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows: `words` are models (with wildcards) or names of tables and suites, as far as the verb takes them.

    `image_size`, in pixels or (height, width), replaces the size that a table, a suite or a model would have; `inputs`
    describe what the networks are given instead of images of three channels (`visionbench.record.inputs`).
    `loss` is what a training step minimises, a function of the user's.
    """

    words: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    image_size: ImageSize | None = None
    inputs: tuple[str, ...] = ()
    loss: str | None = None

    @property
    def size(self) -> ImageSize | None:
        """The image size that was asked for, by itself or with the inputs. Raises `BenchError` where the two differ."""
        given = image_size_of(self.inputs)
        if self.image_size is None or given is None:
            return given if self.image_size is None else self.image_size
        if not any(image[1:] == sides(self.image_size) for image in images_of(self.inputs)):
            raise BenchError(
                f"the images among the inputs are of {given} px, and --image-size is "
                f"{'x'.join(map(str, dict.fromkeys(sides(self.image_size))))}: leave --image-size out."
            )
        return self.image_size


@dataclass(frozen=True, slots=True, kw_only=True)
class HowToRun:
    """How every row is run; None is the verb's default. `batch_size` is images per step, or `LARGEST`.

    `processes` train together by `parallel`; the batch is then each process's.
    """

    task: Task = "inference"
    precision: Precision | None = None
    memory_format: MemoryFormat | None = None
    compile_mode: CompileMode | None = None
    attention: Attention = "fused"
    batch_size: int | Literal["max"] | None = None
    processes: int | None = None
    parallel: Parallel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where to measure: `gpu` insists on a card by name, `device` is torch's word for a device, `threads` the CPU's."""

    gpu: str | None = None
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Which cards of a cluster to measure on, by the words of `--gpu`, and what its queue (`cluster`) is asked for.

    `nodes` is "spread", one shift after another to another node, or "any", as the queue likes. `site` is the file that
    says what cards are called there; `sbatch` are further options for Slurm, one by one.
    """

    cluster: Literal["slurm", "ray"] = "slurm"
    gpus: tuple[str, ...] = ()
    partition: str | None = None
    nodes: Literal["spread", "any"] = "spread"
    site: Path | None = None
    sbatch: tuple[str, ...] = ()
    anonymous_nodes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HowLong:
    """How long and how often to measure a row. Times are in seconds, None is no limit.

    `budget` is for everything, `row_time` for one row; `target_ci` is half an interval as a share of its centre.
    """

    protocol: str | None = None
    effort: str | None = None
    launches: int | None = None
    target_ci: float | None = None
    row_time: float | None = None
    budget: float | None = None
    lock_clocks: bool = False
    retry_failures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How two sides are measured in turns: `budget` in seconds, `keep` the file for raw turns (None: no file).

    `lock_clocks` holds the GPU's clock meanwhile.
    """

    device: str | None = None
    threads: int | None = None
    launches: int | None = None
    rounds: int | None = None
    budget: float | None = None
    seed: int | None = None
    lock_clocks: bool = False
    keep: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How tables are printed: `width` in columns, `file` instead of stdout, `standalone` as a whole document.

    `columns` are words for those that are wanted, () for all; `notes` is whether LaTeX has a paragraph about them.
    """

    format: Format = "terminal"
    width: int | None = None
    file: Path | None = None
    standalone: bool = False
    columns: tuple[str, ...] = ()
    notes: bool = False


TERMINAL = Output()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForCI:
    """Where else a judgement goes, one file per form, and the command that makes it again."""

    strict: bool = False
    summary: Path | None = None
    junit: Path | None = None
    gab: Path | None = None
    bmf: Path | None = None
    command: str = ""


ONLY_HERE = ForCI()
