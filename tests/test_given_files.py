"""No command writes over what it reads, writes one file twice, or puts a result where measurements were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.comparison.comparison import Comparison, Launch, Round, Side
from visionbench.comparison.comparison import to_json as comparison_line
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record, to_json
from visionbench.record.spec import SMOKE, Spec

SPEC, HERE = Spec(model="timm:resnet18"), Environment(device_type="cpu", cores=2, threads=1)
RECORD = to_json(
    Record(
        spec=SPEC,
        protocol=SMOKE,
        environment=HERE,
        measurements=(measurement("throughput", (0.5,)),),
        source="measured",
    )
)
TURN = Round(first="baseline", baseline=1.0, candidate=1.0, baseline_wall=1.0, candidate_wall=1.0)
COMPARISON = Comparison(
    name="row",
    baseline=Side(label="a", spec=SPEC),
    candidate=Side(label="b", spec=SPEC),
    environment=HERE,
    timer="cpu",
    seed=1,
    launches=(Launch(rounds=(TURN,)),) * 3,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("visionbench.jsonl").write_text(f"{RECORD}\n")
    Path("turns.jsonl").write_text(f"{comparison_line(COMPARISON)}\n")
    Path("published.csv").write_text("model,params\nresnet18,11.7\n")
    Path("link.csv").symlink_to("visionbench.jsonl")
    os.link("visionbench.jsonl", "same.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export visionbench.jsonl --output visionbench.jsonl", "is read, and --output would write over it"),
        ("export visionbench.jsonl --output link.csv", "link.csv is read, and --output would write over it"),
        ("export visionbench.jsonl --output same.csv", "same.csv is read, and --output would write over it"),
        ("report effects --comparisons turns.jsonl --output ./turns.jsonl", "--output would write over it"),
        ("gate --rejudge turns.jsonl --summary turns.jsonl", "--summary would write over it: name another file"),
        ("gate --rejudge turns.jsonl --junit turns.jsonl", "--junit would write over it"),
        ("gate --rejudge turns.jsonl --junit x --bmf ../{folder}/x", "would be written twice, by --junit and --bmf"),
        ("compare visionbench.jsonl visionbench.jsonl --gab visionbench.jsonl", "--gab would write over it"),
        ("audit timm --published published.csv --output published.csv", "--output would write over it"),
        ("report mine.toml --output mine.toml", "mine.toml is read, and --output would write over it"),
        ("table import published.csv --output published.csv", "--output would write over it"),
        ("export --format csv --output visionbench.jsonl", "visionbench.jsonl holds measurements, which would be lost"),
        ("report --all --output turns.jsonl", "turns.jsonl holds measurements, which would be lost"),
        ("compare a.jsonl b.jsonl --junit visionbench.jsonl", "visionbench.jsonl holds measurements"),
        ("gate --rejudge turns.jsonl --junit visionbench.jsonl", "visionbench.jsonl holds measurements"),
    ],
)
def test_nothing_is_written_over_what_is_read_or_measured(
    words: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert main(words.format(folder=folder.name).split()) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_a_result_is_written_anew_and_a_device_twice(folder: Path) -> None:
    for _ in range(2):
        assert main(["export", "visionbench.jsonl", "--output", "flat.json"]) == 0
    assert json.loads(Path("flat.json").read_text())
    words = ["gate", "--rejudge", "turns.jsonl", "--gab", "times.json", "--junit", "/dev/null", "--bmf", "/dev/null"]
    for _ in range(2):
        assert main(words) == 0
    assert {path.name for path in folder.iterdir()} >= {"flat.json", "times.json"}


@pytest.mark.parametrize("words", [["report", "--all", "--records", ""], ["export", ""], ["gate", "--rejudge", " "]])
def test_an_empty_name_is_a_variable_that_the_shell_did_not_know(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "a file's name is needed, not an empty one: is a variable unset?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("gate user:net.py:make --profile nowhere.json", "cannot read nowhere.json (no such file or directory)"),
        ("gate user:net.py:make --profile published.csv", "published.csv holds no noise profiles"),
        ("compare --exact resnet18 --update --baseline /proc/b.json", "cannot write /proc/b.json"),
        ("compare --exact resnet18 --baseline b.json --junit nowhere/x.xml", "cannot write nowhere/x.xml"),
        ("table import .", ". is a folder: name a file."),
        ("table import ..", ".. is a folder: name a file."),
        ("table new / resnet18", "/ is a folder: name a file."),
        ("selftest --show --profile nowhere.json", "cannot read nowhere.json (no such file or directory)"),
        ("compare --exact resnet18 --baseline visionbench.jsonl", "it has no rows of counts"),
    ],
)
def test_a_file_that_is_named_is_looked_at_before_anything_is_measured(
    words: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("page", ["/nowhere/page", "/dev/full", "."])
def test_a_page_that_cannot_be_written_changes_no_verdict(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", page)
    assert main(["gate", "--rejudge", "turns.jsonl"]) == 0
    assert f"summary page {page} cannot be written" in capsys.readouterr().err
