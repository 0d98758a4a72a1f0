"""Calibrations as files: strict when read, stable when written, chosen by device and way of running."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from perf.prediction.timm_tables import difference, rows, sample, table
from visionbench.predicting.calibration import FOLDER, SCHEMA, best, chip, from_json, known, read, shipped, write
from visionbench.predicting.samples import marked
from visionbench.record.devices import DEVICES, find
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

SHIPPED = shipped()
AMP = Spec(model="timm:resnet50", batch_size=64, precision="amp_fp16")


def test_every_file_in_the_folder_is_a_calibration_of_a_known_device():
    assert len(SHIPPED) == len(list(FOLDER.glob("*.json"))) >= 9
    for calibration in SHIPPED:
        assert find(calibration.device) is not None, calibration.id
        assert calibration.sources, calibration.id


@pytest.mark.parametrize("calibration", SHIPPED, ids=lambda c: c.id)
def test_held_out_figures_beat_both_baselines_and_the_interval_keeps_its_word(calibration):
    model = calibration.held_out["model"]
    assert model.rows == calibration.rows
    assert model.mean < calibration.held_out["flops"].mean
    assert model.mean < calibration.held_out["activations"].mean
    assert 0.75 <= model.coverage <= 0.85


def test_the_accuracy_that_was_asked_for():
    """Held-out families: RTX 3090 and 4090 AMP contiguous (torch 2.4), V100 fp32 and A100 TF32 from printed rows."""
    by_id = {calibration.id: calibration.held_out["model"] for calibration in SHIPPED}
    for card in ("rtx-3090", "rtx-4090"):
        figures = by_id[f"{card}-amp_fp16-contiguous-inference-torch2.4"]
        assert figures.mean <= 0.08
        assert figures.median <= 0.05
        assert figures.rank >= 0.985
        assert figures.rows > 1300
    assert by_id["v100-sxm2-16gb-fp32-contiguous-inference-published"].mean <= 0.10
    assert by_id["a100-sxm4-40gb-tf32-channels_last-inference-published"].mean <= 0.12


def test_the_accuracy_on_the_papers_own_tables():
    by_source = {source: figures for calibration in SHIPPED for source, figures in calibration.by_source.items()}
    v100, a100 = by_source["arXiv 2201.03545v2, Tables 1 and 2"], by_source["arXiv 2201.03545v2, Table 12"]
    assert (v100.rows, a100.rows) == (28, 14)
    assert v100.mean <= 0.08
    assert a100.mean <= 0.12


def test_writing_and_reading_is_the_same(tmp_path):
    first = write(SHIPPED[0], tmp_path)
    assert read(first) == SHIPPED[0]
    assert first.read_text() == (FOLDER / f"{SHIPPED[0].id}.json").read_text()


def _spoilt(change) -> str:
    data = json.loads((FOLDER / f"{SHIPPED[0].id}.json").read_text())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": ' * 100_000, f'{{"schema": {"9" * 5000}}}'])
def test_a_text_that_no_calibration_needs_is_refused(text, tmp_path):
    path = tmp_path / "strange.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"strange\.json is no calibration"):
        read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(surprise=1),
        lambda d: d["multipliers"].update(launches=10**400),
        lambda d: d.pop("low"),
        lambda d: d.update(schema=1),
        lambda d: d.update(precision="fp12"),
        lambda d: d.update(low=1.0, high=-1.0),
        lambda d: d["multipliers"].update(launches=-1.0),
        lambda d: d["multipliers"].clear(),
        lambda d: d["held_out"]["model"].pop("mean"),
        lambda d: d["held_out"].pop("model"),
        lambda d: d["by_source"].update(somebody={"mean": 0.1}),
        lambda d: d.update(by_source=[]),
        lambda d: d.update(multipliers=None),
        lambda d: d.update(resolution=None),
        lambda d: d.update(rows=True),
        lambda d: d.update(batches=[1]),
        lambda d: d.update(sources="a word"),
        lambda d: d.update(traced_with=3),
        lambda d: d["held_out"]["model"].update(mean="abc"),
        lambda d: d["multipliers"].update(launches=float("nan")),
    ],
)
def test_a_spoilt_file_is_refused(change, tmp_path):
    from_json(_spoilt(lambda d: None))
    path = tmp_path / "spoilt.json"
    path.write_text(_spoilt(change))
    with pytest.raises(BenchError, match=r"spoilt\.json is no calibration"):
        read(path)


def test_what_cannot_be_read_is_said_in_words(tmp_path):
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(BenchError, match=r"cannot read .*zero\.json \(it is a device\): move it away"):
        known(tmp_path, tmp_path)
    (tmp_path / "file").write_text("{}")
    with pytest.raises(BenchError, match=r"file is a file: name the folder"):
        known(tmp_path / "file", tmp_path)


def test_the_best_calibration_is_of_the_card_then_of_its_sister_and_never_of_another():
    calibration = best(SHIPPED, AMP, "rtx-3090")
    assert (calibration.device, calibration.compiled) == ("rtx-3090", False)
    assert best(SHIPPED, replace(AMP, compile_mode="default"), "rtx-4090").compiled
    assert best(SHIPPED, replace(AMP, precision="fp32"), "v100-pcie-32gb").device == "v100-sxm2-16gb"
    assert best(SHIPPED, AMP, "h100-sxm5-80gb") is None
    own = replace(calibration, origin="records", rows=12, id="own")
    assert best((*SHIPPED, own), AMP, "rtx-3090") is own


def test_chips():
    assert chip("a100-sxm4-80gb") == chip("a100-pcie-40gb") == "a100"
    assert len({chip(d.key) for d in DEVICES if d.key.startswith("rtx")}) == 9


# --- timm's tables: a made-up file with the true header ---

NAME = "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090-dynamo.csv"
HEADER = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts\n"
)


def test_a_tables_name_says_how_it_was_measured(tmp_path):
    measured = table(tmp_path / NAME)
    assert (measured.task, measured.memory_format, measured.torch, measured.cuda) == (
        "inference",
        "channels_last",
        "2.4.0",
        "12.4",
    )
    assert (measured.device.key, measured.compiled) == ("rtx-4090", True)
    old = table(tmp_path / "benchmark-train-amp-nchw-pt112-cu113-rtx3090.csv")
    assert (old.task, old.torch, old.cuda) == ("train", "1.12", "11.3")


@pytest.mark.parametrize(
    "name",
    ["results.csv", NAME.replace("rtx4090", "rtx9999"), NAME.replace("amp", "fp32"), NAME.replace("cu124", "cpu")],
)
def test_another_name_is_refused(name, tmp_path):
    with pytest.raises(BenchError):
        table(tmp_path / name)


def test_rows_are_read_once_per_model_and_size(tmp_path):
    path = tmp_path / NAME
    path.write_text(
        HEADER
        + "resnet18.a1_in1k,224,8000.0,32.0,256,11.69,1.82,2.48\nresnet18.tv_in1k,224,1.0,1.0,256,11.69,1.82,2.48\n"
    )
    [row] = rows(path)
    assert (row.model, row.image_size, row.batch_size) == ("resnet18", 224, 256)
    assert row.seconds == pytest.approx(256 / 8000)
    spec = table(path).spec(row)
    assert (spec.model, spec.precision, spec.compile_mode, spec.attention) == (
        "timm:resnet18",
        "amp_fp16",
        "default",
        "fused",
    )


@pytest.mark.parametrize(
    "text",
    [
        "model,infer_img_size\nresnet18,224\n",
        HEADER + "convnext_tiny.in1k,224\n",
        HEADER + f"{'x' * 200_000},224,8000.0,32.0,256,11.69,1.82,2.48\n",
    ],
    ids=["another header", "a short row", "a long field"],
)
def test_a_torn_table_is_one_sentence(text, tmp_path):
    path = tmp_path / NAME
    path.write_text(text)
    with pytest.raises(BenchError, match="cannot be read"):
        rows(path)


def test_a_row_of_another_network_is_left_out_and_says_why(tmp_path):
    path = tmp_path / NAME
    path.write_text(HEADER + "resnet18.a1_in1k,224,8000.0,32.0,256,11.69,1.82,2.48\n")
    [row] = rows(path)
    of = table(path)
    trace = marked(of.spec(row))
    from perf.prediction.timm_tables import peaks

    good = sample(of, row, trace, peaks(of))
    assert good.family == "timm.models.resnet"
    assert good.macs == 256 * trace.macs_per_image
    assert difference(replace(row, params=11.9e6), trace) == "parameters differ"
    assert difference(replace(row, macs=1.9e9), trace) == "multiply-accumulates differ"
    assert difference(replace(row, macs=None), trace) is None
    assert sample(of, replace(row, params=5e6), trace, peaks(of)).reason == "parameters differ"


def test_a_calibration_of_a_newer_visionbench_is_not_overwritten(tmp_path):
    known = shipped()[0]
    path = write(known, tmp_path)
    text = path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    path.write_text(text)
    with pytest.raises(BenchError, match="newer visionbench and stays"):
        write(known, tmp_path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model,size,rate\nresnet18,224,1\nconvnext_tiny,224\n", "line 3 ('convnext_tiny') has 2 of 3 cells"),
        ("model,size\nresnet18,224,1\n", "line 2 ('resnet18') has 3 of 2 cells"),
        ("model,size\nresnet18,224\n" + "x" * 140_000 + ",1\n", "line 3 is no row of a table"),
        ("model,size\nresnet18,224\n", "is a table and holds no records"),
    ],
)
def test_a_table_is_refused_with_its_first_wrong_row(tmp_path, text, why):
    from visionbench.command.verbs import calibrate

    path = tmp_path / "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv"
    path.write_text(text)
    with pytest.raises(BenchError) as caught:
        calibrate.run([path], tmp_path / "out")
    assert why in str(caught.value)
    assert "`run anchors` makes them" in str(caught.value)
