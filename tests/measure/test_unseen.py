"""A GPU that torch does not see: what is said about it, and what to do."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretended.card import A100, H100, V100, nvml
from visionbench.command.main import main
from visionbench.machine import doctor, unseen


def hide(monkeypatch: pytest.MonkeyPatch, *, built: str | None = "13.0", library: Any = None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(unseen.nvml, "library", lambda: library)
    for variable in unseen.HIDES:
        monkeypatch.delenv(variable, raising=False)


def bus(folder: Path, *cards: tuple[str, str]) -> Path:
    for number, (vendor, kind) in enumerate(cards):
        (folder / str(number)).mkdir()
        (folder / str(number) / "vendor").write_text(f"{vendor}\n")
        (folder / str(number) / "class").write_text(f"{kind}00\n")
    return folder


@pytest.mark.parametrize("value", ["", "-1", "none", " "])
@pytest.mark.parametrize("variable", unseen.HIDES)
def test_a_variable_hides_it(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library=nvml(H100))
    monkeypatch.setenv(variable, value)
    assert unseen.reason() == f"{variable}={value!r} hides it: unset it"


def test_a_variable_that_names_a_card_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library=nvml(H100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "hides" not in unseen.reason()


def test_this_torch_is_built_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, built=None, library=nvml(H100))
    assert "is built for CPUs" in unseen.reason()
    assert "install a build for CUDA" in unseen.reason()


@pytest.mark.parametrize("library", [None, nvml(H100.__class__(**{**vars(H100), "library": "dead"}))])
def test_no_driver_answers(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library=library)
    assert "no NVIDIA driver answers: install it" in unseen.reason()


@pytest.mark.parametrize(("built", "knows"), [("12.6", "11.4"), ("13.0", "11.4"), ("13.2", "11.4")])
def test_the_driver_is_older_than_the_wheel(built: str, knows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, built=built, library=nvml(V100))
    assert f"the driver knows CUDA {knows} and torch" in unseen.reason()
    assert "install a torch that is built for CUDA 11" in unseen.reason()


def test_what_nobody_can_explain_is_told_in_torchs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment\nmore")

    hide(monkeypatch, library=nvml(H100))
    monkeypatch.setattr(torch.cuda, "init", init)
    assert unseen.reason() == "torch says: CUDA unknown error - this may be due to an incorrectly set up environment"


def test_cards_are_those_of_the_driver_or_of_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = tmp_path / "nothing"
    assert unseen.cards(nvml(A100), nothing) == ("NVIDIA A100-SXM4-40GB",)
    monkeypatch.setattr(unseen.nvml, "library", lambda: None)
    assert unseen.cards(None, nothing) == ()
    folder = bus(tmp_path, ("0x10de", "0x0302"), ("0x10de", "0x0403"), ("0x8086", "0x0300"), ("0x10de", "0x0300"))
    assert unseen.cards(None, folder) == ("an NVIDIA GPU", "an NVIDIA GPU"), "its sound device is none"


def test_doctor_does_not_pass_over_a_card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hide(monkeypatch, built="13.0", library=nvml(V100))
    main(["doctor"])
    printed = capsys.readouterr().out
    assert "! GPU" in printed
    assert "Tesla V100-SXM2-16GB is here, and torch does not see it" in printed
    assert "update the driver" in printed


def test_a_machine_without_a_card_is_told_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide(monkeypatch)
    monkeypatch.setattr(unseen, "PCI", tmp_path)
    monkeypatch.setattr(unseen.cards, "__defaults__", (None, tmp_path))
    assert doctor.overlooked_gpu() == []


@pytest.mark.parametrize("words", [["--gpu", "h100"], ["run", "resnet18", "--gpu", "h100"]])
def test_a_card_that_was_insisted_on_is_explained(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, library=nvml(H100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("visionbench.command.verbs.run.start_early", lambda **_: None)
    monkeypatch.setattr("visionbench.command.verbs.tables.start_early", lambda **_: None)
    assert main(words) == 2
    assert "CUDA_VISIBLE_DEVICES='' hides it: unset it." in capsys.readouterr().err


def test_a_device_that_was_named_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, built=None)
    monkeypatch.setattr("visionbench.command.verbs.run.start_early", lambda **_: None)
    assert main(["run", "resnet18", "--device", "cuda"]) == 2
    assert "is built for CPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "torch_version", "level"),
    [
        ("0.25.0", "2.10.0", "ok"),
        ("0.29.1+cu130", "2.14.1+cu130", "ok"),
        ("0.20.0", "2.6.0", "warn"),
        ("0.25.0", "2.11.0", "warn"),
    ],
)
def test_torchvision_fits_torch(version: str, torch_version: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    finding = doctor.torchvision(lambda _: None, torch_version)
    assert finding.level == level
    wanted = int(torch_version.split(".")[1]) + 15
    assert (f"torchvision==0.{wanted}.*" in finding.advice) == (level != "ok")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("operator torchvision::nms does not exist"), ImportError("undefined symbol: _ZN"), OSError("x")],
)
def test_a_torchvision_that_does_not_load_says_which_one_does(error: Exception) -> None:
    def load(_: str) -> None:
        raise error

    finding = doctor.torchvision(load, "2.9.0")
    assert finding.level == "bad"
    assert str(error) in finding.found
    assert "torchvision==0.24.*" in finding.advice
