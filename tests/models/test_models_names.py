"""Names that people type: of the hub, of torchvision, of a file; and what is suggested where a name is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from visionbench.command.main import main
from visionbench.models import ModelError, build, expand, load, names, resolve, torchvision_models
from visionbench.models.building import module_name
from visionbench.models.identity import network_hash
from visionbench.models.inputs import own_shapes
from visionbench.record.spec import Spec
from visionbench.tracing import run

ROOT = Path(__file__).parents[2]
torchvision = pytest.importorskip("torchvision")


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("hf-hub:timm/convnext_tiny.fb_in1k", "timm:convnext_tiny"),
        ("hf_hub:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", "timm:vit_base_patch16_224"),
        ("timm/resnet50.a1_in1k", "timm:resnet50"),
        ("hf-hub:timm/swin_tiny_patch4_window7_224", "timm:swin_tiny_patch4_window7_224"),
        ("hf-hub:timm/mobilenetv3_large_100.ra_in1k@main", "timm:mobilenetv3_large_100"),
    ],
)
def test_a_name_of_the_hub_is_its_architecture(typed: str, name: str) -> None:
    assert resolve(typed).name == name
    assert expand(typed) == (name,)


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("hf-hub:facebook/dinov2-base", "hf-hub:timm/NAME"),
        ("hf-hub:timm", "hf-hub:timm/NAME"),
        ("hf-hub:timm/convnext_tinny.fb_in1k", "timm:convnext_tiny"),
        ("torchvision:fasterrcnn_resnet50_fpn", "user:module:function"),
        ("torchvision:quantized_resnet18", "say torchvision:resnet18"),
        ("torchvision:resnet_50", "torchvision:resnet50"),
        ("tv:resnet50", "torchvision"),
    ],
)
def test_what_the_hub_and_torchvision_do_not_give_is_one_sentence(typed: str, remedy: str) -> None:
    with pytest.raises(ModelError, match=remedy) as refusal:
        resolve(typed)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("swin_t", ["torchvision:swin_t", "timm:swin_tiny_patch4_window7_224"]),
        ("vit_base", ["timm:vit_base_patch16_224"]),
        ("vit_b_16", ["torchvision:vit_b_16", "timm:vit_base_patch16_224"]),
        ("deit_s", ["timm:deit_small_patch16_224"]),
        ("convnext_t", ["timm:convnext_tiny"]),
        ("resnet_50", ["timm:resnet50"]),
        ("VGG-16", ["timm:vgg16"]),
        ("timm:swin_b", ["timm:swin_base_patch4_window7_224"]),
        ("torchvision:swin_tiny", ["torchvision:swin_t"]),
        ("convnext_tinny", ["timm:convnext_tiny"]),
    ],
)
def test_the_first_suggestions_are_what_is_meant(typed: str, first: list[str]) -> None:
    with pytest.raises(ModelError) as refusal:
        resolve(typed)
    suggested = str(refusal.value).partition("did you mean ")[2].partition("?")[0].split(", ")
    assert suggested[: len(first)] == first


# --- torchvision ------------------------------------------------------------------------------------------------------

SMALL = ("torchvision:shufflenet_v2_x0_5", "torchvision:lraspp_mobilenet_v3_large", "torchvision:r3d_18")
MANY = """
    alexnet convnext_tiny densenet121 densenet169 efficientnet_b0 efficientnet_b1 efficientnet_b3 efficientnet_v2_s
    googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large
    mobilenet_v3_small regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_y_400mf
    regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf resnet18 resnet34 resnet50 resnet101 resnet152
    resnext50_32x4d resnext101_32x8d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
    squeezenet1_0 squeezenet1_1 swin_t swin_s swin_v2_t vgg11 vgg16_bn vit_b_16 vit_b_32 wide_resnet50_2
    deeplabv3_mobilenet_v3_large deeplabv3_resnet50 deeplabv3_resnet101 fcn_resnet50 fcn_resnet101
    lraspp_mobilenet_v3_large r3d_18 mc3_18 r2plus1d_18 s3d mvit_v1_b mvit_v2_s swin3d_t raft_small
""".split()  # noqa: SIM905 -- a list of names is read more easily without quotes


def check(name: str) -> None:
    """Parameters are those of torchvision's weights, MACs those of torch's own counter, on the network's own input."""
    card = resolve(name)
    traced = run(Spec(model=name, image_size=card.image_size))
    bare = name.removeprefix("torchvision:")
    assert traced.params == torchvision.models.get_model_weights(bare).DEFAULT.meta["num_params"]
    with torch.device("meta"):
        images = [torch.empty(1, *shape) for shape in own_shapes(name, card.image_size)]
    model = build(name, card.image_size).eval().to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*images)
    assert 2 * traced.macs_per_image == counter.get_total_flops()


@pytest.mark.parametrize("name", SMALL)
def test_counts_are_torchs_own(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("bare", MANY)
def test_counts_of_many_are_torchs_own(bare: str) -> None:
    check(f"torchvision:{bare}")


def test_torchvision_has_a_home_of_its_own() -> None:
    card = resolve("torchvision:deeplabv3_resnet50")
    assert (card.family, card.image_size) == ("deeplabv3", 520)
    assert card.origin.startswith("torchvision ")
    assert set(expand("torchvision:resnet*")) == {f"torchvision:resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    assert not any(name.startswith("torchvision:") for name in expand("resnet*")), "a bare pattern means what it meant"
    assert resolve("resnet50").name == "timm:resnet50"
    assert "torchvision:swin3d_t" in names()


def test_a_clip_has_16_frames_and_a_rectangle_of_pixels() -> None:
    assert own_shapes("torchvision:r3d_18", (96, 112)) == ((3, 16, 96, 112),)
    assert own_shapes("torchvision:raft_small", 128) == ((3, 128, 128), (3, 128, 128))
    with pytest.raises(ModelError, match=r"torchvision:vit_b_32 refuses image size 100 .*224"):
        build("torchvision:vit_b_32", 100)


def test_torchvision_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert torchvision_models.listed() == []
    assert not any(name.startswith("torchvision:") for name in names())
    with pytest.raises(ModelError, match="pip install torchvision"):
        resolve("torchvision:resnet50")


@pytest.mark.slow
def test_a_segmentor_is_measured(tmp_path: Path) -> None:
    words = [
        "run",
        "torchvision:lraspp_mobilenet_v3_large",
        "--image-size",
        "64x96",
        "--device",
        "cpu",
        "--launches",
        "1",
    ]
    assert main([*words, "--protocol", "smoke", "--records", str(tmp_path / "r.jsonl")]) == 0
    assert json.loads((tmp_path / "r.jsonl").read_text())["failure"] is None


# --- a file -----------------------------------------------------------------------------------------------------------

NET = """
from torch import nn
from widths_of_mine import WIDTH

class Net(nn.Sequential):
    pass

def make(image_size=8):
    return Net(nn.Conv2d(3, WIDTH, image_size))

def inputs(batch_size):
    import torch
    return torch.zeros(batch_size, 3, 8, 9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some nets").mkdir()
    (tmp_path / "some nets" / "my-net.py").write_text(NET)
    (tmp_path / "some nets" / "widths_of_mine.py").write_text("WIDTH = 5")
    package = tmp_path / "src" / "pack_of_mine" / "deep"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "__init__.py").write_text("")
    (package.parent / "sizes.py").write_text("WIDTH = 7")
    (package / "net.py").write_text(NET.replace("from widths_of_mine", "from ..sizes"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(("file", "width"), [("some nets/my-net.py", 5), ("src/pack_of_mine/deep/net.py", 7)])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_factory_is_found_in_a_file(folder: Path, file: str, width: int, absolute: bool) -> None:
    name = f"user:{folder / file if absolute else file}:make"
    assert resolve(name).name == name
    load(name)
    assert run(Spec(model=name, image_size=8, batch_size=2)).macs_per_image == 2 * width * 3 * 64
    given = run(Spec(model=name, image_size=8, inputs=(name.replace(":make", ":inputs"),)))
    assert given.macs_per_image == 2 * width * 3 * 64
    assert len({module for module in sys.modules if module.endswith("my-net")}) <= 2


def test_a_package_in_src_is_found_and_hides_nothing_above_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pack_of_mine")]:
        monkeypatch.delitem(sys.modules, name)
    installed = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parents[2]]
    load("user:pack_of_mine.deep.net:make")
    assert Path(sys.modules["pack_of_mine"].__path__[0]) == folder / "src" / "pack_of_mine"
    assert sys.path[: len(installed)] == installed
    (folder / "src" / "json.py").write_text("raise RuntimeError")
    assert run(Spec(model="user:pack_of_mine.deep.net:make", image_size=8)).macs_per_image == 2 * 7 * 3 * 64


def test_files_of_one_name_are_two_modules(folder: Path) -> None:
    for part, width in (("a", 2), ("b", 3)):
        (folder / part).mkdir()
        (folder / part / "net.py").write_text(f"from torch import nn\ndef make(): return nn.Conv2d(3, {width}, 1)\n")
    assert [run(Spec(model=f"user:{part}/net.py:make", image_size=1)).macs_per_image for part in "ab"] == [6, 9]


def test_a_file_has_one_name_in_every_checkout_and_its_code_is_part_of_its_hash(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, names_of_modules = [], set()
    for checkout, extra in (("one", ""), ("two", ""), ("three", "# changed")):
        (folder / checkout).mkdir()
        monkeypatch.chdir(folder / checkout)
        Path("net.py").write_text(f"from torch import nn\ndef make(): return nn.Conv2d(3, 2, 1)\n{extra}")
        hashes.append(network_hash(build("user:net.py:make", 8)))
        names_of_modules.add(module_name("net.py"))
        for name in names_of_modules:
            sys.modules.pop(name)
    assert len(names_of_modules) == 1
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("user:no/such.py:make", "there is no file 'no/such.py': name it as it is seen from"),
        ("user:some nets/my-net.py:mak", "did you mean make"),
        ("user:some nets/my-net.py", "user:path/to/file.py:function"),
        ("user:bad.py:make", "SyntaxError"),
    ],
)
def test_a_mistake_about_a_file_is_one_sentence(folder: Path, name: str, remedy: str) -> None:
    (folder / "bad.py").write_text("def make(:")
    with pytest.raises(ModelError, match=remedy):
        build(name, 8)


@pytest.mark.slow
def test_a_file_is_measured_and_gated(folder: Path) -> None:
    name = "user:some nets/my-net.py:make"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    small = ["--image-size", "8", "--device", "cpu", "--launches", "1"]
    assert main(["run", name, *small, "--protocol", "smoke", "--records", "r.jsonl"]) == 0
    assert main(["gate", name, *small, "--rounds", "2", "--base", "HEAD"]) in (0, 3)
    assert main(["compare", "--exact", "--update", name, "--image-size", "8", "--baseline", "b.json"]) == 0
    assert main(["compare", "--exact", name, "--image-size", "8", "--baseline", "b.json"]) == 0
