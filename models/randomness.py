"""The random numbers of a network, from one seed: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def seeded(seed: int, devices: Sequence[int] = (), kind: str = "cuda") -> Iterator[None]:
    """Draw from `seed` for the time of the `with` block, on the CPU and on those devices of that `kind`; put the
    generators back.
    """
    numpy = _numpy()
    python, of_numpy = random.getstate(), numpy.get_state() if numpy else None
    try:
        with torch.random.fork_rng(devices=list(devices), device_type=kind if devices else "cuda"):
            seed_all(seed, on_gpu=bool(devices))
            yield
    finally:
        random.setstate(python)
        if numpy:
            numpy.set_state(of_numpy)


def seed_all(seed: int, *, on_gpu: bool = False) -> None:
    """Start all three generators from `seed`."""
    random.seed(seed)
    if numpy := _numpy():
        numpy.seed(seed)
    torch.manual_seed(seed) if on_gpu else torch.default_generator.manual_seed(seed)


def drawn_since(before: dict[str, Any]) -> tuple[str, ...]:
    """Who has been asked for random numbers since `states()` were taken: of Python, NumPy and torch."""

    def is_same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return bool(a["pos"] == b["pos"] and (a["key"] == b["key"]).all())
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)

    now = states()
    return tuple(name for name, state in before.items() if not is_same(state, now[name]))


def states() -> dict[str, Any]:
    """The state of each generator, by whose it is."""
    numpy = _numpy()
    of_numpy = {"NumPy": numpy.get_state(legacy=False)["state"]} if numpy else {}
    return {"Python": random.getstate(), **of_numpy, "torch": torch.default_generator.get_state()}


def _numpy() -> Any:
    """NumPy's global generator, where NumPy is imported."""
    module: Any = sys.modules.get("numpy")
    return getattr(module, "random", None)
