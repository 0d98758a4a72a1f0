"""The Python API, each function for real on small networks; and its documentation, executed."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest

import visionbench
from visionbench import compare, measure, predict, read_records, report, trace
from visionbench.comparison import comparison
from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.prediction import prediction

ROOT = Path(__file__).parents[1]
NET = """
import torch

def tiny():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
"""
MODEL = "user:net_of_api:tiny"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net_of_api.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net_of_api", raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_trace_counts_one_model() -> None:
    record = trace(MODEL, image_size=32, batch_size=2, task="train")
    assert (record.source, record.spec.batch_size, record.spec.task) == ("computed", 2, "train")
    assert record.value("params") == 8 * (3 * 3 * 3 + 1)


@pytest.mark.slow
def test_measure_keeps_records_and_goes_on_from_them(here: Path) -> None:
    first = measure(MODEL, image_size=32, device="cpu", threads=1, launches=1, records="mine.jsonl")
    assert [(r.source, r.failure, r.spec.model) for r in first] == [("measured", None, MODEL)]
    assert read_records(here / "mine.jsonl") == first
    assert measure(MODEL, image_size=32, device="cpu", threads=1, launches=1, records="mine.jsonl") == first


@pytest.mark.slow
def test_measure_without_a_file_leaves_none(here: Path) -> None:
    [record] = measure(MODEL, image_size=32, device="cpu", launches=1)
    assert record.value("throughput")
    assert list(here.glob("*.jsonl")) == []


def test_predict_gives_a_record_per_card_and_row() -> None:
    [record] = predict("resnet18", gpu="v100-sxm2-16gb")
    assert (record.source, record.spec.batch_size, record.spec.precision) == ("predicted", 64, "fp32")
    step = prediction(record)
    assert step is not None
    assert 0 < step.low < step.centre < step.high


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_compare_judges_two_settings_and_keeps_turns_where_asked() -> None:
    words = {"image_size": 32, "device": "cpu", "launches": 1, "rounds": 2}
    judgement = compare(MODEL, vary={"memory_format": "channels_last"}, keep="turns.jsonl", **words)  # type: ignore[arg-type]
    [verdict] = judgement.verdicts
    assert verdict.comparison.candidate.spec.memory_format == "channels_last"
    assert comparison.read(Path("turns.jsonl")) == (verdict.comparison,)
    with pytest.raises(BenchError, match="leave base and head away"):
        compare(MODEL, vary={"precision": "bf16"}, base="HEAD")
    with pytest.raises(BenchError, match="name a model"):
        compare()


@pytest.mark.usefixtures("here")
def test_report_is_what_the_command_prints() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), "report", "convnext_table1", "--format", "markdown"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert report("convnext_table1", format="markdown") == ran.stdout
    assert json.loads(report("convnext_table2", format="json"))["name"] == "convnext_table2"
    with pytest.raises(BenchError, match="which table"):
        report()


@pytest.mark.usefixtures("here")
def test_mistakes_are_exceptions_with_their_remedy() -> None:
    with pytest.raises(ModelError, match="convnext_tiny"):
        trace("convnext_tinny")
    with pytest.raises(BenchError, match=r"timm:convnext_a\*' is 3 models: name one of timm:") as error:
        trace("timm:convnext_a*")
    assert "timm:convnext_atto" in str(error.value)
    with pytest.raises(BenchError, match="nothing to run"):
        measure()
    with pytest.raises(BenchError, match="name another file"):
        read_records("missing.jsonl")
    with pytest.raises(AttributeError, match="nonsense"):
        visionbench.nonsense  # noqa: B018


def test_importing_the_functions_imports_nothing_heavy() -> None:
    code = "import sys; from visionbench import trace, report; print(*{'torch', 'numpy', 'rich'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_the_page_about_python_is_true() -> None:
    result = doctest.testfile(
        str(ROOT / "docs" / "python.md"),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL,
    )
    assert result.attempted > 10
    assert result.failed == 0
