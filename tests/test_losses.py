"""What a training step minimises: a user's own loss, the network's own, cross-entropy with that of auxiliary heads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from visionbench.command.main import main
from visionbench.models import ModelError
from visionbench.models.outputs import training_loss
from visionbench.plugin.check import Settings, check
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run
from visionbench.tracing.passes import UntrainableStepError

NETS = """
import torch
from torch import nn


class Change(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, before, after):
        return self.head(self.conv(torch.cat([before, after], 1)))


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1))


def dice(output, labels):
    return 1 - (output.softmax(1)[:, 1] * labels).mean()


def restored(output, inputs):
    return (output - inputs).abs().mean()


def parts(output):
    return {"a": output.mean(), "b": output.square().mean(), "seen": output.detach().mean()}


def on_the_cpu(output):
    return nn.functional.mse_loss(output, torch.zeros(output.shape))


class Focal(nn.Module):
    def forward(self, output, labels):
        return nn.functional.cross_entropy(output, labels, reduction="none").square().mean()


bce = nn.BCEWithLogitsLoss()


def whole(output):
    return output


def broken(output):
    raise KeyError("mask")


def detached(output):
    return output.detach().mean()


def matrix(output):
    flat = output.flatten(1)
    return (flat @ flat.t()).mean()
"""
OWN = NETS + "\n\nloss = None\n\n\ndef loss(output, inputs):\n    return (output - inputs[0][:, :2]).square().mean()\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_with_losses.py").write_text(NETS)
    (tmp_path / "nets_with_a_loss.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("nets_with_losses", "nets_with_a_loss"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def trained(loss: str | None, model: str = "user:nets_with_losses:net", **fields: object) -> Trace:
    spec = Spec(model=model, image_size=8, batch_size=2, task="train", loss=loss, **fields)  # type: ignore[arg-type]
    return run(spec)


def of(loss: str) -> str:
    return f"user:nets_with_losses:{loss}"


@pytest.mark.parametrize("loss", ["dice", "restored", "parts", "on_the_cpu", "Focal"])
def test_a_training_step_minimises_what_the_user_says(loss: str) -> None:
    usual, own = trained(None), trained(of(loss))
    names = [op.name for op in own.operators]
    assert own.macs_per_image == usual.macs_per_image
    assert names.count("convolution_backward") == 2
    assert ("nll_loss2d_forward" in names) == (loss == "Focal")


def test_what_a_loss_multiplies_counts() -> None:
    more = trained(of("matrix")).macs_per_image - trained(None).macs_per_image
    assert more == 3 * 2 * 2 * 3 * 8 * 8 // 2  # the product, and two for its gradients, over two images


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [
        ("whole", ModelError, "a loss returns a number"),
        ("broken", ModelError, "KeyError: 'mask'; it is called with the network's output"),
        ("bce", ModelError, "Target size"),
        ("detached", UntrainableStepError, "does not depend on a parameter"),
        ("absent", ModelError, "absent"),
    ],
)
def test_a_loss_that_is_none_is_refused_with_the_cause(loss: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        trained(of(loss))


@pytest.mark.parametrize("loss", ["dice", "user:nets", 3, "user:a:b:c"])
def test_what_names_no_function_is_one_sentence(loss: object) -> None:
    with pytest.raises(BenchError, match="a loss is a function"):
        Spec(model="user:a:b", loss=loss)  # type: ignore[arg-type]


def test_a_loss_beside_the_factory_is_taken_without_a_word() -> None:
    names = [op.name for op in trained(None, "user:nets_with_a_loss:Change", inputs=("3x8x8", "3x8x8")).operators]
    assert "nll_loss2d_forward" not in names
    assert names.count("convolution_backward") == 2


class Linear(nn.Module):
    """Two heads over one input."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.beside = nn.Linear(4, 3), nn.Linear(4, 3)


def _heads() -> tuple[torch.Tensor, torch.Tensor]:
    net = Linear()
    x = torch.ones(2, 4)
    return net.main(x), net.beside(x)


def _zeros(logits: torch.Tensor) -> torch.Tensor:
    return torch.zeros(logits.shape[0], dtype=torch.long)


def test_auxiliary_heads_learn_beside_the_main_one() -> None:
    main_, beside = _heads()
    entropy = nn.functional.cross_entropy
    both = entropy(main_, _zeros(main_)) + 0.4 * entropy(beside, _zeros(main_))
    alone = entropy(main_, _zeros(main_))
    outputs = {
        "a mapping": ({"aux": beside, "out": main_}, both),
        "deep supervision": ([main_, beside], both),
        "a list of them": ({"logits": main_, "auxiliary_outputs": [{"logits": beside}]}, both),
        "a loss of its own class": ((main_, beside[:, :2]), alone),
        "detached": ((main_, beside.detach()), alone),
        "twice the same": ((main_, main_), alone),
        "features": ({"logits": main_, "features": beside}, alone),
    }
    for kind, (output, loss) in outputs.items():
        kept, minimised = training_loss(output, _zeros)
        assert kept is main_, kind
        assert torch.equal(minimised, loss), kind


def test_a_network_that_returns_its_loss_is_trained_on_it() -> None:
    main_, beside = _heads()
    loss, other = main_.mean(), beside.mean()
    scale = nn.Parameter(torch.ones(()))
    outputs = {
        "alone": (loss, loss),
        "first": ((loss, main_), loss),
        "named": ({"logits": main_, "loss": loss}, loss),
        "a detector's": ({"box": loss, "mask": other}, loss + other),
    }
    for kind, (output, expected) in outputs.items():
        assert torch.equal(training_loss(output, _zeros)[1], expected), kind
    assert training_loss((main_, beside, scale), _zeros)[0] is main_, "a number that is no loss"


@pytest.mark.slow
def test_a_network_is_trained_measured_and_guarded_with_its_loss(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, inputs = "user:nets_with_losses:Change", ("3x8x8", "3x8x8")
    words = [model, *(word for text in inputs for word in ("--input", text)), "--loss", of("dice")]
    assert main(["trace", *words]) == 2
    assert "add --task train" in capsys.readouterr().err
    assert main(["trace", *words, "--task", "train", "--batch-size", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["loss"] == of("dice")
    exact = ["compare", "--exact", *words, "--baseline", "b.json"]
    assert main([*exact, "--update"]) == 0
    assert main(exact) == 0
    rows = json.loads((here / "b.json").read_text())["rows"]
    assert [f"loss:{of('dice')}" in row for row in rows] == [False, True]
    settings = Settings(folder=here, baseline=here / "b.json")
    assert check(model, {"inputs": inputs, "loss": of("dice")}, settings).text == ""
    assert "mend the marker" in check(model, {"inputs": inputs, "loss": "dice"}, settings).text
