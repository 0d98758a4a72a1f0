"""Why a print disagrees with the exact count: each hypothesis by a minimal case, and the paper's own slips."""

import pytest

from visionbench.reports.paper import slips
from visionbench.reports.paper.counts import index
from visionbench.reports.printed import Number, rows


def row_of(table, label, size=224, section=""):
    return next(r for r in rows(table) if (r.label, r.image_size) == (label, size) and section in r.section)


def note(row, records, metric="macs"):
    return slips.footnote(row, metric, index(records))


@pytest.mark.parametrize(
    ("text", "exact", "agree"),
    [
        ("4.5", 4.549e9, True),
        ("4.5", 4.551e9, False),
        ("4.5", 4.45e9, True),
        ("4.50", 4.491e9, False),
        ("179.0", 179.029e9, True),
    ],
)
def test_a_print_agrees_within_half_its_last_digit(text, exact, agree):
    number = Number(text=text, unit="G", gpu="", protocol="", source="", note="", remark="")
    assert slips.agrees(number, exact) is agree


def test_no_exact_count_no_footnote():
    assert note(row_of("1", "Swin-T"), []) is None


def test_agreement_needs_no_footnote(counted):
    assert note(row_of("1", "Swin-T"), [counted("timm:swin_tiny_patch4_window7_224", macs=4.491e9)]) is None


def test_another_size(counted):
    records = [
        counted("timm:tf_efficientnetv2_xl", 480, macs=82.0e9),
        counted("timm:tf_efficientnetv2_xl", 512, macs=94.0e9),
    ]
    said = note(row_of("1", "EffNetV2-XL", 480), records)
    assert said == (
        "Printed 94.0 G, 15 % above the exact 82.000 G at 480 px. 94.0 is this model's count at 512 px (94.000 G)."
    )


def test_near_another_size(counted):
    records = [
        counted("timm:tf_efficientnetv2_xl", 480, macs=82.0e9),
        counted("timm:tf_efficientnetv2_xl", 384, macs=52.5e9),
        counted("timm:tf_efficientnetv2_xl", 512, macs=93.4e9),
    ]
    assert "94.0 is near this model's count at 512 px (93.400 G, 0.64 % away)." in note(
        row_of("1", "EffNetV2-XL", 480), records
    )


def test_another_size_must_be_much_nearer(counted):
    records = [
        counted("timm:tf_efficientnetv2_xl", 480, macs=92.9e9),
        counted("timm:tf_efficientnetv2_xl", 512, macs=93.4e9),
    ]
    assert "512" in note(row_of("1", "EffNetV2-XL", 480), records)
    assert "is near" not in note(row_of("1", "EffNetV2-XL", 480), records)


def test_printed_otherwise_and_right_there(counted):
    said = note(row_of("1", "ConvNeXt-B", 384, "1K"), [counted("paper:convnext_original_base", 384, macs=45.12e9)])
    assert said.endswith(
        "The same network is printed as 45.1 G in Table 1 (ImageNet-22K pre-trained models), "
        "which is the exact count rounded."
    )


def test_printed_otherwise_and_wrong_there_too(counted):
    said = note(row_of("1", "ConvNeXt-B", 384, "1K"), [counted("paper:convnext_original_base", 384, macs=46.0e9)])
    assert said.endswith("pre-trained models); neither is the exact count rounded.")


def test_the_right_print_of_two_has_no_footnote(counted):
    records = [counted("paper:convnext_original_base", 384, macs=45.12e9)]
    assert note(row_of("1", "ConvNeXt-B", 384, "22K"), records) is None


@pytest.mark.parametrize(("label", "word", "neighbour"), [("BN->LN", "next", "separate d.s. conv (ConvNeXt-T)")])
def test_neighbouring_row(counted, label, word, neighbour):
    records = [
        counted("paper:roadmap_t_layer_norm", macs=4.1456e9),
        counted("paper:roadmap_t_separate_downsampling", macs=4.4555e9),
    ]
    said = note(row_of("10", label), records)
    assert f"4.46 is the count of the {word} row, {neighbour} (4.4555 G)." in said


def test_a_neighbour_of_the_same_network_explains_nothing(counted):
    said = note(row_of("10", "ResNet-50 (PyTorch)"), [counted("paper:roadmap_t_resnet50", macs=5.0e9)])
    assert said.startswith("Printed 4.09 G, 18 % below the exact 5.0000 G at 224 px. Neither")


@pytest.mark.parametrize(
    ("table", "label", "size", "metric", "exact", "words"),
    [
        ("10", "Swin-T", 224, "macs", 4.491e9, "rounded to 2 significant digits, with zeros added in print"),
        ("1", "EffNetV2-L", 480, "params", 118.5e6, "rounded to 2 significant digits, with zeros added in print"),
    ],
)
def test_coarser_rounding(counted, table, label, size, metric, exact, words):
    row = row_of(table, label, size)
    records = [counted(row.model, size, **{metric: exact})]
    assert words in note(row, records, metric)


def test_nothing_explains_it(counted):
    records = [
        counted("timm:tf_efficientnetv2_l", 480, macs=56.08e9),
        counted("timm:tf_efficientnetv2_l", 384, macs=35.9e9),
    ]
    said = note(row_of("1", "EffNetV2-L", 480, "1K"), records)
    assert said == (
        "Printed 53.0 G, 5.5 % below the exact 56.080 G at 480 px. Neither another size (tried 384 px), a neighbouring "
        "row nor another print of this network explains it."
    )


def test_the_papers_slips_are_found(counts):
    """Which printed counts disagree with the exact ones is found, and is what was known before."""
    found = {
        (row.table, row.label, row.image_size, row.printed[metric].text)
        for table in ("1", "2", "10", "11", "12")
        for row in rows(table)
        for metric in ("params", "macs")
        if slips.footnote(row, metric, index(counts))
    }
    assert found == {
        ("1", "RegNetY-16G", 224, "16.0"),
        ("1", "EffNet-B7", 600, "37.0"),
        ("1", "EffNetV2-L", 480, "120"),
        ("1", "EffNetV2-L", 480, "53.0"),
        ("1", "ConvNeXt-B", 384, "45.0"),
        ("1", "R-101x3", 384, "204.6"),
        ("1", "R-152x4", 480, "840.5"),
        ("1", "EffNetV2-XL", 480, "94.0"),
        ("1", "Swin-B", 384, "47.0"),
        ("10", "BN->LN", 224, "4.46"),
        ("10", "separate d.s. conv (ConvNeXt-T)", 224, "4.49"),
        ("10", "Swin-T", 224, "4.50"),
        ("12", "ConvNeXt-B", 384, "45.0"),
    }
