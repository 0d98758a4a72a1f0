"""Tables of papers answer at once: a user's file of ten rows from records, and the audit of every shipped paper."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Versus = Callable[..., Any]

ROW = """
[[table.row]]
model = "{model}"
label = "{model}"
size = 224
params = 28
flops = 4.5
"""
MODELS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "convnext_tiny", "convnext_small", "convnext_base",
    "swin_tiny_patch4_window7_224", "deit_small_patch16_224",
)  # fmt: skip


def python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_users_file_of_ten_rows_takes_at_most_half_a_second_beyond_the_interpreter(
    versus: Versus, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    head = 'title = "Mine"\ncite = "mine"\n[[table]]\nname = "mine"\ntitle = "Mine"\n'
    path.write_text(head + "".join(ROW.format(model=model) for model in MODELS))
    assert "swin_tiny" in python("bench.py", "report", str(path), "--format", "csv")
    comparison = versus(
        lambda: python("bench.py", "report", str(path), "--format", "csv"), lambda: python("-c", "pass"), rounds=5
    )
    if comparison:
        assert comparison.ours - comparison.theirs <= 0.5


def test_the_audit_of_every_paper_takes_at_most_two_seconds_with_its_counts(versus: Versus) -> None:
    assert "swin" in python("bench.py", "audit", "--format", "csv")
    comparison = versus(lambda: python("bench.py", "audit", "--format", "csv"), lambda: python("-c", "pass"), rounds=5)
    if comparison:
        assert comparison.ours <= 2
