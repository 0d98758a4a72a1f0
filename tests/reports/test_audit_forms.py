"""The forms of a network and the rules of rounding that the audit tries on a print."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visionbench.command import counting
from visionbench.record.profile import FIRST, LAST, LESS, MORE, PARTS, QUERIES, Profile, format_lines
from visionbench.reports.audit.figures import roundings
from visionbench.reports.printed import Number


def formed(model: str, form: str, size: int = 224) -> Profile:
    (counted,) = counting.count_one((model, size, form))
    return counted


@pytest.mark.parametrize(
    ("model", "form", "printed"),
    [
        ("timm:resnet50", FIRST, "3.86"),  # He et al. print 3.8; torchvision's own stride gives 4.09
        ("timm:resnet50", LAST, "5.13"),
        ("timm:coatnet_0_224", FIRST, "4.14"),
        ("timm:tf_efficientnetv2_b0", LAST, "0.89"),
        ("timm:cait_xxs24_224", MORE, "2.54"),
        ("timm:deit_tiny_patch16_224", LESS, "1.25"),
    ],
)
def test_a_form_has_its_own_count_and_the_same_parameters(model, form, printed):
    counted, (built, *_) = formed(model, form), counting.count_one((model, 224, ""))
    assert f"{counted.parts['macs'] / 1e9:.2f}" == printed
    assert counted.parts["params"] == built.parts["params"]
    assert counted.parts["macs"] != built.parts["macs"]
    assert counted.variant == form


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("timm:resnet18", FIRST),
        ("timm:vit_tiny_patch16_224", LAST),
        ("timm:swin_tiny_patch4_window7_224", MORE),
        ("timm:vit_tiny_patch16_224", QUERIES),
    ],
)
def test_a_network_without_such_a_form_says_so(model, form):
    counted = formed(model, form)
    assert not counted.parts
    assert model in counted.error
    assert counted.variant == form


def test_a_token_more_is_what_the_network_counts_with_one():
    """DeiT's distilled twin has a token more, and a second head."""
    (twin, *_), more = (
        counting.count_one(("timm:deit_tiny_distilled_patch16_224", 224, "")),
        formed("timm:deit_tiny_patch16_224", MORE),
    )
    assert twin.parts["macs"] - twin.parts["macs_classifier"] == pytest.approx(
        more.parts["macs"] - more.parts["macs_classifier"], rel=1e-6
    )


def test_class_attention_with_queries_of_every_token_is_what_xcits_own_code_counts():
    """Two layers make 197 queries of 128 channels from as many, and use one."""
    built, *_ = counting.count_one(("timm:xcit_nano_12_p16_224", 224, ""))
    assert formed("timm:xcit_nano_12_p16_224", QUERIES).parts["macs"] - built.parts["macs"] == 2 * 196 * 128**2


def number(text: str, unit: str) -> Number:
    return Number(text=text, unit=unit, gpu="", protocol="", source="a paper", note="", remark="")


@pytest.mark.parametrize(
    ("text", "unit", "label", "exact", "names"),
    [
        ("72", "M", "NFNet-F0", 71_489_284, {"rounded up", "rounded twice, by a digit each time"}),
        ("1.2", "G", "femto", 1_147_984_992, {"rounded up", "rounded twice, by a digit each time"}),
        ("29", "M", "Swin-T", 28_288_354, {"rounded up"}),
        (
            "16.0",
            "G",
            "RegNetY-16GF",
            15_911_510_272,
            {"the figure in its name", "rounded up", "rounded to 2 digits, with zeros added"},
        ),
        ("6.4", "G", "RegNetX-6.4GF", 6_493_000_000, {"the figure in its name", "cut off, not rounded"}),
        ("0.4", "G", "RegNetX-400MF", 460_000_000, {"cut off, not rounded"}),
        ("0.400", "G", "S0", 395_892_544, {"rounded to 2 digits, with zeros added"}),
        ("1.000", "G", "S", 984_604_768, {"rounded to 2 digits, with zeros added"}),
        ("1.000", "G", "S", 904_604_768, set()),
        ("37.0", "G", "EffNet-B7", 37_745_900_000, set()),
    ],
)
def test_a_rule_of_rounding_is_tried_on_the_print(text, unit, label, exact, names):
    assert {explanation.name for explanation in roundings(number(text, unit), label, exact)} == names


@pytest.mark.parametrize(
    ("variant", "again", "counted"), [("", True, True), ("", False, False), (FIRST, True, True), (FIRST, False, False)]
)
def test_what_failed_is_counted_again(variant, again, counted, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    form = ("timm:new_network", 224, variant)
    failed = Profile(model=form[0], size=224, variant=variant, torch="1", timm="1", error="no memory", parts={})
    path = counting.cache_file()
    path.parent.mkdir(parents=True)
    path.write_text(format_lines([failed]))
    monkeypatch.setattr(counting, "versions", lambda: ("1", "1"))
    monkeypatch.setattr(counting, "cache_file", lambda: path)
    monkeypatch.setattr(counting, "count_one", lambda _form: [replace(failed, error="", parts=dict.fromkeys(PARTS, 1))])
    assert bool(counting.count([form], again=again)[form].parts) == counted
    assert bool(counting.known()[form].parts) == counted
