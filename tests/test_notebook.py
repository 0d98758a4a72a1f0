"""The example notebook: its code runs from top to bottom, and what is committed below it is what comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks import run
from visionbench.record.spec import Protocol

PATH = Path(__file__).parents[1] / "docs" / "example.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_file_is_a_notebook_of_version_4() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


@pytest.mark.slow
def test_the_outputs_are_what_the_cells_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts to the digit. Of times the words alone: another machine, another number."""
    brief = Protocol(name="smoke", warmup_iterations=1, blocks=5, block_iterations=1)
    monkeypatch.setattr("visionbench.command.verbs.run.SMOKE", brief)
    monkeypatch.setattr("visionbench.command.objects.ROUNDS", 8)
    for cell, outputs in zip(CODE, run(NOTEBOOK), strict=True):
        committed = cell["outputs"]
        assert [output["output_type"] for output in outputs] == [output["output_type"] for output in committed]
        if cell["id"] in ("count", "training", "ratio"):
            assert list(map(_text, outputs)) == list(map(_text, committed)), cell["id"]
        assert list(map(_heads, outputs)) == list(map(_heads, committed)), cell["id"]


def _text(output: dict[str, Any]) -> str:
    """An output without what depends on the release of torch."""
    lines = output.get("text") or [line for lines in output["data"].values() for line in lines]
    return re.sub(r"torch [0-9.]+[^ ]*", "torch", "".join(lines))


def _heads(output: dict[str, Any]) -> list[str]:
    """The heads of a table's columns, without units, which go with the size of its numbers."""
    return re.findall(r"<th[^>]*>([^,<]*)", _text(output))
