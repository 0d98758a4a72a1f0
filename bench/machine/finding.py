"""What a look at the machine found. `doctor` asks the questions, `doctor_cpu` and `doctor_gpu` look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `what`, what was `found` there, and what to do about it ("" if nothing).

    `bad` makes numbers wrong or impossible; `warn` makes them noisier, or different from other people's.
    """

    level: Level
    what: str
    found: str
    advice: str = ""
