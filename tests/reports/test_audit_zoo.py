"""`audit timm --published`: timm's own figures, from the files that it publishes, beside the exact counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.reports.test_audit import profile
from visionbench.command.main import main
from visionbench.command.verbs import audit
from visionbench.record.errors import BenchError
from visionbench.reports.audit.zoo import read_published, zoo

RESULTS = (
    "model,top1,top1_err,param_count,img_size,crop_pct\nnet.a1_in1k,80,20,25.56,224,0.9\nnet.b,79,21,25.70,224,1\n"
)
BENCHMARK = (
    "model,infer_img_size,infer_samples_per_sec,param_count,infer_gmacs,infer_macts\n"
    "net.x,224,10,25.6,4.11,11.1\nnet.x,160,10,25.6,2.09,soon\nlost,224,1,1,1,1\nbad,none,1,1,1,1\n"
)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "results-imagenet.csv", tmp_path / "benchmark-infer-amp.csv"]
    paths[0].write_text("\ufeff" + RESULTS)
    paths[1].write_text(BENCHMARK)
    return paths


def test_timms_files_are_read_by_network_and_what_is_none_is_said(files):
    published = read_published(files)
    assert {
        network: {metric: number.text for metric, number in printed.items()}
        for network, printed in published.figures.items()
    } == {
        ("timm:net", 224): {"params": "25.56", "macs": "4.11", "activations": "11.1"},
        ("timm:net", 160): {"params": "25.6", "macs": "2.09"},
        ("timm:lost", 224): {"params": "1", "macs": "1", "activations": "1"},
    }
    said = [problem.partition("/")[2].rpartition("/")[2] for problem in published.problems]
    assert said == [
        "results-imagenet.csv, line 3: timm:net at 224 has other figures above, which are taken",
        "benchmark-infer-amp.csv, line 3: infer_macts = 'soon' is no number",
        "benchmark-infer-amp.csv, line 5: infer_img_size = 'none' of 'bad' is no size in pixels",
    ]


def test_the_zoo_shows_by_how_much_timms_figures_differ(files):
    table = zoo([profile(), profile("timm:other"), profile(size=160)], published=read_published(files))
    at = {column.key: i for i, column in enumerate(table.columns)}
    shown = [
        [row.cells[at[key]].text for key in ("params_timm", "params_difference", "macs_timm", "macs_difference")]
        for row in table.rows
    ]
    assert shown == [
        ["25.56", "reproduced", "4.11", "+0.5 %"],
        ["–", "", "–", ""],
        ["25.6", "reproduced", "2.09", "-48.9 %"],
    ]
    remarks = " ".join(table.remarks)
    assert "the exact counts are 2 of 2 params, 0 of 2 FLOPs, 0 of 1 activations" in remarks
    assert "Of the other 2 FLOPs figures fvcore's count gives 1." in remarks
    assert "1 network of results-imagenet.csv and benchmark-infer-amp.csv not in this timm: lost." in remarks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,top1\na,1\n", "line 1: there is no column img_size"),
        ("name,img_size,param_count\na,224,1\n", "line 1: there is no column model"),
        ("model,img_size,top1\na,224,1\n", "line 1: there is no column param_count"),
        ("model,img_size,param_count\n", "has no line about a network"),
        ("", "line 1: there is no column model"),
        (f"model,img_size,param_count\na,{'9' * 5000},1\n", "has no line about a network"),
        ('model,img_size,param_count\n"a,224,1\n', "line 1: unexpected end of data"),
    ],
)
def test_a_file_that_is_none_of_timms_is_refused_in_a_sentence(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(BenchError, match=r"results-imagenet\.csv or benchmark-infer") as error:
        read_published([tmp_path / "x.csv"])
    assert said in str(error.value)


def test_the_zoo_is_counted_in_its_order_and_each_network_is_there_once(monkeypatch):
    names = [f"timm:net{number}" for number in range(9, 0, -1)]
    monkeypatch.setattr("visionbench.models.names", lambda: ["paper:other", *names])
    monkeypatch.setattr("visionbench.models.resolve", lambda name: SimpleNamespace(image_size=224))
    monkeypatch.setattr(
        "visionbench.command.counting.count",
        lambda forms: {form: profile(*form[:2], variant=form[2]) for form in forms},
    )
    also = [("timm:net3", 160), ("timm:net9", 224), ("timm:net3", 160), ("timm:gone", 224), ("paper:other", 224)]
    built, trained = audit.count_zoo(also, memory=True)
    assert [each.model for each in built] == [*names[:7], "timm:net3", *names[7:]]
    assert [each.size for each in built if each.model == "timm:net3"] == [224, 160]
    assert [each.model for each in trained] == names


def test_the_command_counts_what_the_file_names_too(tmp_path, monkeypatch, capsys):
    pytest.importorskip("timm")
    (tmp_path / "x.csv").write_text("model,img_size,param_count,gmacs\nresnet18.a1,224,11.69,1.82\nnew,224,3,1\n")
    monkeypatch.setattr("visionbench.models.names", lambda: ["timm:resnet50", "timm:resnet18"])
    assert main(["audit", "timm", "--published", str(tmp_path / "x.csv"), "--format", "csv"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert ["resnet50" in lines[0], "resnet18" in lines[1]] == [True, True]
    assert ",11689512,computed,,11690000,published,x.csv,0.0," in lines[1]
    assert "macs_timm" in head
    assert main(["audit", "swin", "--published", "x.csv"]) == 2
    assert "write `audit timm --published FILE`" in capsys.readouterr().err
