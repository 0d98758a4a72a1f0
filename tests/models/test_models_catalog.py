"""Names and what they build: `resolve`, `expand`, `names`, `build`, and every mistake with its remedy."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from torch import nn

from visionbench import models
from visionbench.models import ModelCard, ModelError, build, expand, names, paper, resolve

ROOT = Path(models.__file__).parents[1]

Write = Callable[[str, str], None]


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into a fresh current directory: user_module(name, source)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_importing_models_is_cheap() -> None:
    code = "import sys, models; print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# resolve


def test_a_timm_card() -> None:
    import timm

    assert resolve("timm:convnext_tiny") == ModelCard(
        name="timm:convnext_tiny",
        family="convnext",
        image_size=224,  # timm's test size is 288
        origin=f"timm {timm.__version__}, timm/models/convnext.py",
    )


def test_a_paper_card() -> None:
    card = resolve("paper:roadmap_t_patchify")
    assert (card.family, card.image_size) == ("roadmap", 224)
    assert resolve("convnext_iso_small").family == "convnext_isotropic"
    assert "models/convnext_isotropic.py" in resolve("convnext_iso_small").origin


def test_a_user_card_imports_nothing() -> None:
    card = resolve("user:no.such.thing:net")
    assert (card.name, card.family, card.image_size) == ("user:no.such.thing:net", "no.such.thing", 224)


def test_a_card_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve("paper:convnext_iso_small").image_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bare", "qualified"),
    [("convnext_tiny", "timm:convnext_tiny"), ("roadmap_b_gelu", "paper:roadmap_b_gelu")],
)
def test_a_bare_name_is_qualified(bare: str, qualified: str) -> None:
    assert resolve(bare).name == qualified


@pytest.mark.parametrize(
    ("arch", "size"),
    [("tf_efficientnetv2_l", 384), ("swin_base_patch4_window12_384", 384), ("resnet50", 224)],
)
def test_the_default_size_is_the_training_size(arch: str, size: int) -> None:
    assert resolve(arch).image_size == size


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("convnext_tinny", "did you mean timm:convnext_tiny"),
        ("timm:convnext_tinny", "did you mean timm:convnext_tiny"),
        ("ConvNeXt_Tiny", "did you mean timm:convnext_tiny"),
        ("paper:roadmap_t_patchfy", "did you mean paper:roadmap_t_patchify"),
        ("paper:convnext_tiny", "`list models` shows all"),
        ("qqqq", "; `list models` shows all"),
        ("", "`list models` shows all"),
        ("convnext_tiny.fb_in1k", "say timm:convnext_tiny"),
        ("timm:convnext_tiny.fb_in1k", "say timm:convnext_tiny"),
        ("mymodels:net", "user:mymodels:net"),
        ("user:mymodels", "say user:module:function"),
        ("user:mymodels:net:more", "say user:module:function"),
        ("user:my models:net", "say user:module:function"),
        ("user::net", "say user:module:function"),
    ],
)
def test_a_mistaken_name_comes_with_its_remedy(typed: str, remedy: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(typed)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bare_name_with_two_homes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.PAPER, "convnext_tiny", paper.PAPER["convnext_iso_small"])
    with pytest.raises(ModelError, match="timm:convnext_tiny or paper:convnext_tiny"):
        resolve("convnext_tiny")
    assert resolve("timm:convnext_tiny").name == "timm:convnext_tiny"


# names and expand


def test_names_are_unique_and_resolve_to_themselves() -> None:
    listed = names()
    assert len(set(listed)) == len(listed)
    assert all(resolve(name).name == name for name in listed[::50])
    ours = [f"paper:{bare}" for bare in (*paper.PAPER, *paper.DENSE)]
    assert [name for name in listed if name.startswith("paper:")] == ours


def test_expand_sorts_naturally() -> None:
    found = expand("resnet*")
    assert found.index("timm:resnet50") < found.index("timm:resnet101") < found.index("timm:resnet200")


def test_expand_matches_qualified_and_bare_names() -> None:
    assert expand("paper:convnext_iso_*") == (
        "paper:convnext_iso_base",
        "paper:convnext_iso_large",
        "paper:convnext_iso_small",
    )
    assert set(expand("convnext_*")) == set(expand("timm:convnext_*")) | set(expand("paper:convnext_*"))
    assert len(expand("paper:*")) == 40 + 14 + 9


def test_expand_without_a_wildcard_resolves() -> None:
    assert expand("convnext_tiny") == ("timm:convnext_tiny",)
    with pytest.raises(ModelError, match="did you mean"):
        expand("convnext_tinny")


def test_expand_to_nothing_is_a_mistake() -> None:
    with pytest.raises(ModelError, match="no model matches 'convnextt_tin\\*'; did you mean timm:convnext_tiny"):
        expand("convnextt_tin*")
    with pytest.raises(ModelError, match="no model matches 'user:"):
        expand("user:mine:*")


# build


@pytest.fixture
def meta() -> torch.device:
    """A device without memory, if this timm builds there: 1.0.15 reads values as it builds (`tracing.skeleton`)."""
    try:
        with torch.device("meta"):
            build("timm:convnext_tiny", 224)
    except NotImplementedError:
        pytest.skip("this timm does not build on the meta device")
    return torch.device("meta")


def test_build_leaves_train_mode_and_the_default_device(meta: torch.device) -> None:
    with meta:
        ours, theirs = build("convnext_iso_small", 224), build("timm:convnext_tiny", 224)
    assert ours.training
    assert theirs.training
    assert {p.device.type for m in (ours, theirs) for p in m.parameters()} == {"meta"}


def test_a_fixed_size_is_passed_where_the_model_has_one(meta: torch.device) -> None:
    with meta:
        vit = build("timm:vit_tiny_patch16_224", 256)
    assert vit(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 1000)
    assert dict(vit.named_parameters())["pos_embed"].shape[1] == 16 * 16 + 1


@pytest.mark.parametrize("arch", ["tiny_vit_5m_224", "vit_base_mci_224"])
def test_there_are_1000_classes_whatever_timms_weights_have(arch: str, meta: torch.device) -> None:
    with meta:
        assert build(f"timm:{arch}", 224)(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_a_refused_size_names_model_and_size() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ModelError, match=r"xcit_nano_12_p8_224 refuses image size 100 .*224"),
    ):
        build("timm:xcit_nano_12_p8_224", 100)
    with pytest.raises(ModelError, match="paper:convnext_iso_small refuses image size 16"):
        build("convnext_iso_small", 16)
    with pytest.raises(ModelError, match="image size 0 is no number of pixels; try 224"):
        build("timm:convnext_tiny", 0)


def test_a_failure_at_the_models_own_size_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def broken(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("a bug")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        build("timm:vit_tiny_patch16_224", 224)
    with pytest.raises(ModelError, match="refuses image size 256"):
        build("timm:vit_tiny_patch16_224", 256)


@pytest.mark.parametrize("parameter", ["image_size", "img_size"])
def test_a_users_factory_gets_the_size_it_asks_for(user_module: Write, parameter: str) -> None:
    user_module("mine_sized", f"from torch import nn\ndef net({parameter}): return nn.Linear({parameter}, 2)\n")
    built = build("user:mine_sized:net", 96)
    assert isinstance(built, nn.Linear)
    assert built.in_features == 96


def test_a_users_class_is_a_factory(user_module: Write) -> None:
    user_module("mine_class", "from torch import nn\nclass Net(nn.Module): pass\n")
    assert type(build("user:mine_class:Net", 224)).__name__ == "Net"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def net(): raise KeyError('width')", "user:mine_bad:net raised KeyError: 'width'"),
        ("def net(): return 3", "returned int; a factory returns a torch.nn.Module"),
        ("from torch import nn\nnet = nn.Linear(3, 4)", "is a network, and a factory makes a new one"),
        ("def nett(): pass", "'mine_bad' has no factory 'net'; did you mean nett?"),
        ("net = 3", "'mine_bad' has no factory 'net'; define a function"),
        ("def net(width): pass", "user:mine_bad:net raised TypeError"),
        ("import no_such_module_at_all", "cannot import 'mine_bad' (ModuleNotFoundError"),
        ("raise SystemExit(2)", "cannot import 'mine_bad' (SystemExit: 2)"),
        ("def net(:", "cannot import 'mine_bad' (SyntaxError"),
    ],
)
def test_a_users_mistake_is_told(user_module: Write, source: str, message: str) -> None:
    user_module("mine_bad", source)
    with pytest.raises(ModelError) as caught:
        build("user:mine_bad:net", 224)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "said", "unsaid"),
    [
        ("resnet18,resnet34", "'resnet18,resnet34' is several names in one word: write resnet18 resnet34", "mean"),
        ("resnet18; swin_t convnext", "write resnet18 swin_t convnext", "mean"),
        ("my nets/net.py", "is a file, and a model is a function in it: say user:my nets/net.py:FUNCTION", "mean"),
        ("my.nets:make", "a factory of your own is user:my.nets:make", "mean"),
        ("nets.py:make", "a factory of your own is user:nets.py:make", "mean"),
        ("resnet18@96", "'resnet18@96' names a size, too: say resnet18 --image-size 96", "mean"),
        ("timm:swin_tiny_patch4_window7_224@800x1280", "window7_224 --image-size 800x1280", "mean"),
        ("user:nets/net.py:make@96", "say user:nets/net.py:make --image-size 96", "mean"),
        ("user:my nets/net.py:make@96x64", "say 'user:my nets/net.py:make' --image-size 96x64", "mean"),
        ("https://x.y/z", "the word before the colon is timm, torchvision, paper or user", "a factory"),
        ("C:\\nets", "the word before the colon is timm, torchvision, paper or user", "a factory"),
    ],
)  # fmt: skip
def test_what_was_never_a_name_is_told_what_it_is(typed: str, said: str, unsaid: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(typed)
    assert said in str(caught.value)
    assert unsaid not in str(caught.value)


def test_the_cause_stays_visible(user_module: Write) -> None:
    user_module("mine_cause", "def net(): raise KeyError('width')")
    with pytest.raises(ModelError) as caught:
        build("user:mine_cause:net", 224)
    assert isinstance(caught.value.__cause__, KeyError)


def test_running_out_of_memory_passes_through(user_module: Write) -> None:
    user_module("mine_big", "import torch\ndef net(): raise torch.OutOfMemoryError('too big')")
    with pytest.raises(torch.OutOfMemoryError):
        build("user:mine_big:net", 224)


def test_a_missing_module_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModelError, match="cannot import 'nowhere_to_be_found'"):
        build("user:nowhere_to_be_found:net", 224)
