"""What the pytest plugin asks of the gate's tiers, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visionbench.record.spec import Spec

Word = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted: `folder` is the suite's root, `models` how many tests of this run check a model.

    `base` is a git revision, None for no timing; `budget` in seconds, for one model.
    """

    folder: Path
    baseline: Path
    update: bool = False
    base: str | None = None
    budget: float | None = None
    strict: bool = False
    models: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a model: the outcome in pytest's words, the message, and properties for a test report."""

    word: Word = "passed"
    text: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model and how it is run; `batch_size` None is one image, and on a GPU as many as the gate takes."""

    spec: Spec
    batch_size: int | None
    training: bool
    device: str | None
    threads: int | None
