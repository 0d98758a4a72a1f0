"""Printed images per second: which stand in an earlier paper, and which pairs a prediction orders the other way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visionbench.command.main import main
from visionbench.record.metrics import measurement
from visionbench.record.record import Basis, Environment, Record
from visionbench.record.spec import Spec
from visionbench.reports.audit.speed import Paper, copies, doubtful, pairs, rates
from visionbench.reports.printed import Number, PaperRow


def row(label: str, rate: str, gpu: str = "V100", at: int = 1, size: int = 224) -> PaperRow:
    number = Number(text=rate, unit="img/s", gpu=gpu, protocol="", source="a paper", note="", remark="")
    return PaperRow(
        table="t", number=at, section="", marker="", label=label, model=f"timm:{label}", image_size=size,
        check_sizes=(), printed={"throughput": number},
    )  # fmt: skip


def paper(arxiv: str, *rows: PaperRow) -> Paper:
    return Paper(stem=f"p{arxiv[-1]}", title=f"Paper {arxiv}", cite=f"arXiv {arxiv}, Table 1", rows=rows)


FIRST = paper("2012.00001", row("a", "755.2"), row("b", "85"), row("c", "1,000".replace(",", "")))


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (row("a", "755.2"), ["Paper 2012.00001"]),
        (row("a", "755.20"), ["Paper 2012.00001"]),
        (row("a", "755.3"), []),
        (row("a", "755.2", size=256), []),
        (row("d", "755.2"), []),
        (row("b", "85"), []),  # two digits are met by chance
        (row("c", "1000", gpu="not stated"), ["Paper 2012.00001"]),
    ],
)
def test_the_digits_of_an_earlier_paper_are_recognised(printed, found):
    later = paper("2201.00002", printed)
    assert [other.title for other in copies(later, printed, [later, FIRST])] == found
    assert copies(FIRST, FIRST.rows[0], [later, FIRST]) == []  # what came later is no source
    assert copies(Paper(stem="zoo", title="Zoo", cite="github", rows=(printed,)), printed, [FIRST]) == []


def predicted(label: str, rate: float, resolution: float = 0.1) -> Record:
    seconds = 64 / rate
    return Record(
        spec=Spec(model=f"timm:{label}", batch_size=64),
        protocol=None,
        environment=Environment(device_type="cuda", device_key="v100-sxm2-16gb"),
        measurements=(measurement("step_time", (seconds,), interval=(seconds * 0.9, seconds / 0.9, 0.8)),),
        basis=Basis(tier="anchored", calibration="v100", reason="", resolution=resolution),
        source="predicted",
    )


def test_a_pair_is_in_doubt_where_predictions_can_tell_it_apart():
    table = paper(
        "2201.00002", row("a", "200"), row("b", "100", at=2), row("c", "90", at=3), row("d", "300", "A100", 4)
    )
    said = {"a": 100.0, "b": 150.0, "c": 105.0}
    predictions = {("V100", (f"timm:{name}", 224)): predicted(name, rate) for name, rate in said.items()}
    assert [(pair.faster.label, pair.slower.label) for pair in doubtful(table, predictions)] == [("a", "b")]
    earlier = paper("2012.00001", row("a", "200"))
    (line,) = pairs(table, [earlier, table], predictions).rows
    assert [cell.text for cell in line.cells] == ["a (224 px, 200)", "b (224 px, 100)", "x 2.00", "x 0.67", "a"]
    assert doubtful(table, {}) == []


def test_rows_of_two_protocols_are_no_pair():
    first, second = row("a", "200"), row("b", "100", at=2)
    rate = replace(second.printed["throughput"], protocol="another")
    table = paper("2201.00002", first, replace(second, printed={"throughput": rate}))
    predictions = {
        ("V100", (f"timm:{name}", 224)): predicted(name, rate) for name, rate in (("a", 100.0), ("b", 150.0))
    }
    assert doubtful(table, predictions) == []


def test_a_table_has_the_print_the_prediction_and_its_source():
    later = paper("2201.00002", row("a", "755.2"), row("x", "9.5", at=2))
    table = rates(later, [FIRST, later], {("V100", ("timm:a", 224)): predicted("a", 700.0)})
    texts = [[cell.text for cell in line.cells] for line in table.rows]
    assert texts[0][3:] == ["755.2", texts[0][4], "the same digits: Paper 2012.00001"]
    assert "700.0" in texts[0][4]
    assert table.remarks[-1].startswith("Predicted for V100: v100-sxm2-16gb, fp32, ")
    assert texts[1][5] == ""


@pytest.mark.parametrize(
    ("words", "said"), [([], "name one"), (["cait"], "prints no img/s"), (["swin", "--every"], "leave them out here")]
)
def test_speed_is_about_a_paper_that_prints_some(words, said, capsys):
    assert main(["audit", *words, "--speed"]) == 2
    assert said in capsys.readouterr().err


def test_what_maxvit_copied_is_said(capsys):
    assert main(["audit", "maxvit", "--speed", "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [swin] = [line for line in lines if "Swin-T" in line]
    assert "the same digits: Swin Transformer" in swin
    [convnext] = [line for line in lines if "ConvNeXt-T" in line]
    assert "the same digits: A ConvNet for the 2020s" in convnext  # there another program of the network
