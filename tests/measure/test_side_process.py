"""One side of a paired run, from inside: which source it measures, its orders, and what a failed row leaves behind."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from visionbench.measuring.process import side_process
from visionbench.measuring.process.side_process import (
    LiveSide,
    Origin,
    _same_place,
    bind,
    check_origin,
    is_ours,
    own_path,
)
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

Factories = Callable[[str], str]


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """The caller's checkout and the side's own tree."""
    for name in ("repository", "tree"):
        (tmp_path / name).mkdir()
    return tmp_path / "repository", tmp_path / "tree"


def test_the_callers_places_become_the_trees(trees: tuple[Path, Path]) -> None:
    repository, tree = trees
    path = [str(repository), str(repository / "lib" / "python"), "/usr/lib/python3", str(repository.parent)]
    assert own_path(path, tree, repository) == [
        str(tree),
        str(tree / "lib" / "python"),
        "/usr/lib/python3",
        str(repository.parent),
    ]


def test_the_trees_src_comes_first_where_there_is_one(trees: tuple[Path, Path]) -> None:
    repository, tree = trees
    (tree / "src").mkdir()
    path = ["/usr/lib/python3", str(repository / "src")]
    assert own_path(path, tree, repository) == [str(tree), str(tree / "src"), "/usr/lib/python3"]


def test_a_checkout_reached_through_a_link_is_the_checkout(trees: tuple[Path, Path], tmp_path: Path) -> None:
    repository, tree = trees
    (tmp_path / "link").symlink_to(repository)
    assert own_path([str(tmp_path / "link" / "lib")], tree, repository) == [str(tree), str(tree / "lib")]


def test_without_a_checkout_nothing_is_replaced(tmp_path: Path) -> None:
    assert own_path(["/a", "/a", "/b"], tmp_path, None) == [str(tmp_path), "/a", "/b"]


def test_packages_installed_inside_the_checkout_stay(trees: tuple[Path, Path]) -> None:
    repository, tree = trees
    installed = str(repository / ".venv" / "lib" / "python3.11" / "site-packages")
    assert own_path([installed], tree, repository) == [str(tree), installed]


def test_the_standard_library_of_a_python_inside_the_checkout_stays(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, tree = trees
    monkeypatch.setattr(sys, "prefix", str(repository / "env"))
    library = str(repository / "env" / "lib" / "python3.11" / "lib-dynload")
    assert own_path([library, str(repository / "lib")], tree, repository) == [str(tree), library, str(tree / "lib")]


def test_a_checkout_among_somebody_elses_packages_is_a_checkout_all_the_same(tmp_path: Path) -> None:
    repository, tree = tmp_path / "site-packages" / "repository", tmp_path / "tree"
    repository.mkdir(parents=True)
    assert own_path([str(repository / "lib")], tree, repository) == [str(tree), str(tree / "lib")]


def test_a_checkout_of_ours_is_known_by_two_files(tmp_path: Path) -> None:
    assert is_ours(Path(__file__).parents[2])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "catalog.py").touch()
    assert not is_ours(tmp_path)


class Loaded:
    """Pretends that modules were imported from files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, name: str, file: object) -> None:
        module = ModuleType(name)
        module.__file__ = file  # type: ignore[assignment]
        self._monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    return Loaded(monkeypatch)


def test_a_factory_of_the_tree_is_the_sides_own(trees: tuple[Path, Path], loaded: Loaded) -> None:
    repository, tree = trees
    loaded("pkg_of_mine", str(tree / "pkg_of_mine" / "__init__.py"))
    loaded("a_namespace", None)  # a folder without __init__.py has no file
    check_origin("user:pkg_of_mine:net", Origin(tree, repository))
    check_origin("user:a_namespace:net", Origin(tree, repository))


@pytest.mark.parametrize("place", ["repository/pkg.py", "elsewhere/pkg.py", "tree_2/pkg.py"])
def test_a_factory_from_anywhere_else_is_refused(
    place: str, trees: tuple[Path, Path], tmp_path: Path, loaded: Loaded
) -> None:
    repository, tree = trees
    loaded("pkg_of_mine", str(tmp_path / place))
    with pytest.raises(BenchError, match=r"pkg_of_mine comes from .*PYTHONPATH"):
        check_origin("user:pkg_of_mine:net", Origin(tree, repository))


def test_what_the_factory_imports_must_not_be_the_callers_either(trees: tuple[Path, Path], loaded: Loaded) -> None:
    repository, tree = trees
    loaded("pkg_of_mine", str(tree / "pkg_of_mine.py"))
    loaded("layers_of_mine", str(repository / "layers_of_mine.py"))
    with pytest.raises(BenchError, match="layers_of_mine comes from"):
        check_origin("user:pkg_of_mine:net", Origin(tree, repository))
    with pytest.raises(BenchError, match="layers_of_mine comes from"):  # timm's own developers have timm in a checkout
        check_origin("timm:resnet18", Origin(tree, repository))
    check_origin("timm:resnet18", Origin(repository, repository))  # the working tree is the caller's checkout


def test_the_engine_and_what_is_installed_may_lie_in_the_callers_checkout(
    trees: tuple[Path, Path], loaded: Loaded
) -> None:
    repository, tree = trees
    loaded("visionbench.of_tomorrow", str(repository / "bench" / "of_tomorrow.py"))
    loaded("visionbench.models.of_tomorrow", str(repository / "models" / "of_tomorrow.py"))
    loaded("yaml_of_mine", str(repository / ".venv" / "lib" / "site-packages" / "yaml_of_mine.py"))
    loaded("a_file_that_is_none", 3)
    check_origin("timm:resnet18", Origin(tree, repository))


def test_a_tree_below_the_callers_checkout_is_the_sides_own(tmp_path: Path, loaded: Loaded) -> None:
    tree = tmp_path / "tmp" / "tree"  # where TMPDIR is a folder of the repository
    loaded("pkg_of_mine", str(tree / "pkg_of_mine.py"))
    check_origin("user:pkg_of_mine:net", Origin(tree, tmp_path))


def test_a_side_stands_at_the_callers_place_in_its_tree(trees: tuple[Path, Path], tmp_path: Path) -> None:
    repository, tree = trees
    (tree / "zoo").mkdir()
    origin = Origin(tree, repository)
    assert _same_place(repository / "zoo", origin) == tree / "zoo"
    assert _same_place(repository, origin) == tree
    assert _same_place(repository / "new_in_head", origin) == tree
    assert _same_place(tmp_path, origin) == _same_place(repository / "zoo", Origin(tree, None)) == tree


def test_of_a_checkout_of_ours_the_zoo_must_be_the_trees(trees: tuple[Path, Path], loaded: Loaded) -> None:
    repository, tree = trees
    for file in ("models/catalog.py", "bench/record/spec.py"):
        (tree / file).parent.mkdir(parents=True)
        (tree / file).touch()
    loaded("visionbench.models.of_tomorrow", str(repository / "models" / "of_tomorrow.py"))
    with pytest.raises(BenchError, match=r"visionbench\.models\.of_tomorrow comes from"):
        check_origin("timm:resnet18", Origin(tree, repository))


@pytest.fixture
def cores() -> Iterator[list[int]]:
    """The cores that there are; this process gets them all back."""
    found = sorted(os.sched_getaffinity(0))
    yield found
    bind(found)


def test_every_thread_is_bound(cores: list[int]) -> None:
    done, seen = threading.Event(), []

    def wait() -> None:
        done.wait()
        seen.append(os.sched_getaffinity(0))

    other = threading.Thread(target=wait)
    other.start()
    bind(cores[:1])
    done.set()
    other.join()
    assert seen == [{cores[0]}] == [os.sched_getaffinity(0)]
    bind(())  # leaves it so
    assert os.sched_getaffinity(0) == {cores[0]}


@pytest.fixture
def side() -> LiveSide:
    return LiveSide("cpu", 1, None)


def prepare(side: LiveSide, model: str, cores: list[int], **spec: Any) -> dict[str, Any]:
    made = asdict(Spec(model=model, image_size=16, **spec))
    return side.answer({"do": "prepare", "spec": made, "seed": 7, "cores": cores})


def test_a_row_from_its_building_to_its_end(side: LiveSide, factories: Factories, cores: list[int]) -> None:
    threads = torch.get_num_threads()
    assert prepare(side, factories("tiny"), cores) == {"done": True}
    assert torch.get_num_threads() == 1
    warm = side.answer({"do": "warm", "cores": cores[:1]})
    assert warm["seconds"] > 0
    assert warm["finite"]
    assert os.sched_getaffinity(0) == {cores[0]}

    taken = side.answer({"do": "turn", "drop": 1, "readings": 3, "iterations": 2})
    assert {name: len(values) for name, values in taken.items()} == {"cpu": 3, "wall": 3, "device": 0}
    assert all(seconds > 0 for name in ("cpu", "wall") for seconds in taken[name])

    end = side.answer({"do": "finish"})
    assert end["sm_clock"] is None  # a CPU's clock is not read
    assert set(end["flags"]) <= {"noisy_env"}
    assert torch.get_num_threads() == threads  # the row is closed


class PlayedTime:
    """A clock that passes only when somebody sleeps; the CPU is at work for a quarter of that."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.sleeps = 1000.0, 50.0, 0

    def sleep(self) -> None:
        self.wall, self.cpu, self.sleeps = self.wall + 4.0, self.cpu + 1.0, self.sleeps + 1


def test_a_reading_is_of_one_iteration(side: LiveSide, monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedTime()
    monkeypatch.setattr(side_process.time, "perf_counter", lambda: played.wall)
    monkeypatch.setattr(side_process.time, "process_time", lambda: played.cpu)
    side._workload = SimpleNamespace(step=played.sleep, synchronize=lambda: None, close=lambda: None)
    taken = side.answer({"do": "turn", "drop": 2, "readings": 3, "iterations": 5})
    assert played.sleeps == 2 + 3 * 5
    assert taken == {"cpu": (1.0,) * 3, "wall": (4.0,) * 3, "device": []}


@pytest.mark.parametrize(
    ("factory", "kind", "words"),
    [
        ("raises", "error", "ValueError: first line"),
        ("exits", "crashed", "sys.exit(3)"),
        ("memory_error", "out_of_memory", "MemoryError"),
        ("no_such_factory", "error", "no_such_factory"),
    ],
)
def test_what_a_model_raises_is_an_answer_and_the_next_row_is_fine(
    factory: str, kind: str, words: str, side: LiveSide, factories: Factories, cores: list[int]
) -> None:
    threads = torch.get_num_threads()
    failed = prepare(side, factories(factory), cores)["failed"]
    assert (failed["kind"], failed["stage"]) == (kind, "build")
    assert words in failed["message"]
    assert torch.get_num_threads() == threads
    assert prepare(side, factories("tiny"), cores) == {"done": True}
    side.answer({"do": "finish"})


def test_a_machine_that_cannot_says_so(side: LiveSide, factories: Factories, cores: list[int]) -> None:
    assert prepare(side, factories("tiny"), cores, precision="tf32")["failed"]["kind"] == "unsupported"


def test_a_failure_between_turns_has_its_stage(side: LiveSide, factories: Factories, cores: list[int]) -> None:
    for do, stage in (("warm", "warm-up"), ("turn", "time")):
        order: dict[str, Any] = {"warm": {"cores": []}, "turn": {"drop": 1, "readings": 1, "iterations": 1}}[do]
        assert side.answer({"do": do, **order})["failed"]["stage"] == stage  # no row was prepared


def test_both_sides_draw_the_same_weights(factories: Factories, cores: list[int], tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(
        "from torch import nn\ndef make():\n    net = nn.Linear(16, 4)\n    raise ValueError(net.weight.sum().item())\n"
    )
    said = [prepare(LiveSide("cpu", 1, None), "user:tells:make", cores)["failed"]["message"] for _ in range(2)]
    assert said[0] == said[1]
    sys.modules.pop("tells")
