"""Models for the tracer's tests: traces that are made once, and tiny networks that a test writes down in one line."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm  # noqa: F401  (before any trace: torch 2.6 cannot import it while tensors are born on the meta device)
from torch import nn

from visionbench.models import paper
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run

IMPORTS = """
import torch
from torch import nn
from torch.nn import functional as F


class Forward(nn.Module):
    '''A network whose forward is the function given: (self, images). A part that is a shape is a parameter of zeros.'''

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(torch.zeros(part)) if isinstance(part, tuple) else part)
        self.function = function

    def forward(self, images):
        return self.function(self, images)


class Patches(nn.Module):
    '''(N, 3, S, S) -> (N, (S / 8) ** 2, width): a sequence to do attention on.'''

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 8, stride=8)

    def forward(self, images):
        return self.conv(images).flatten(2).transpose(1, 2)

"""

_number = itertools.count()

Traced = Callable[[Spec], Trace]
Network = Callable[..., str]


@pytest.fixture(scope="session")
def traced() -> Traced:
    """`run`, once per spec: for everything that asks what a trace says, not whether tracing again says it again."""
    return functools.cache(run)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """`network("nn.Conv2d(3, 8, 3)")`: the qualified name of a user's factory that returns this expression.

    `before` is source that stands above the factory. Both see `IMPORTS`.
    """
    written: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def write(expression: str, before: str = "") -> str:
        written.append(f"written_by_a_test_{next(_number)}")
        source = f"{IMPORTS}{before}\n\ndef net():\n    return {expression}\n"
        (tmp_path / f"{written[-1]}.py").write_text(source, encoding="utf-8")
        return f"user:{written[-1]}:net"

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def paper_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], nn.Module]], str]:
    """Register a network under `paper:written_by_a_test`: a home whose exceptions nobody wraps, as timm's."""

    def register(factory: Callable[[], nn.Module]) -> str:
        monkeypatch.setitem(paper.PAPER, "written_by_a_test", lambda name: factory())
        return "paper:written_by_a_test"

    return register
