"""What a baseline or a disk lacks is one sentence with its own option."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.command.requests import Selection
from visionbench.command.verbs.compare import Request, _refuse_other_settings
from visionbench.comparison.structure import Structure, Structures
from visionbench.record.errors import BenchError


def counted(*rows: str) -> Structures:
    return Structures(torch="t", timm="t", rows={row: Structure(row=row, totals={}, layers={}) for row in rows})


BASELINE = counted("timm:resnet18@64 inference b1 fp32", "timm:resnet18@64 train b2 fp32")


def asked(*allow_new: str) -> Request:
    return Request(selection=Selection(words=("resnet18",)), exact=True, allow_new=allow_new)


@pytest.mark.parametrize("row", ["timm:resnet18@96 inference b1 fp32", "timm:resnet18@64 inference b8 fp32"])
def test_a_named_model_at_another_setting_is_told_which_the_baseline_has(row: str) -> None:
    with pytest.raises(BenchError, match=r"has no row .* but 'timm:resnet18@64 inference b1 fp32'"):
        _refuse_other_settings(BASELINE, counted(row), asked(), Path("b.json"))


@pytest.mark.parametrize(
    ("rows", "allow_new"),
    [
        (["timm:resnet50@64 inference b1 fp32"], ()),  # a new model is a change, as ever
        (["timm:resnet18@96 inference b1 fp32"], ("timm:resnet18",)),
        (["timm:resnet18@96 inference b1 fp32"], ("timm:resnet18@96 inference b1 fp32",)),
        (["timm:resnet18@64 inference b1 fp32", "timm:resnet18@64 train b2 amp_bf16"], ()),
    ],
)
def test_what_is_new_or_allowed_or_there_is_compared(rows: list[str], allow_new: tuple[str, ...]) -> None:
    _refuse_other_settings(BASELINE, counted(*rows), asked(*allow_new), Path("b.json"))


@pytest.mark.parametrize("place", ["/proc/turns.jsonl", "/dev/null/turns.jsonl", "no/such/folder/turns.jsonl"])
def test_a_gate_that_cannot_keep_its_turns_names_its_own_option(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["gate", "--model", "resnet18", "--vary", "precision=bf16", "--keep", place]) == 2
    said = capsys.readouterr().err
    assert "name another file with --keep" in said
    assert "--records" not in said
