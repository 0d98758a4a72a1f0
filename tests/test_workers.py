"""How the suite is spread over processes: the whole of it, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def config_of(*places: str, **options: Any) -> Any:
    """What the hook reads of a pytest that was called in the checkout with these folders and options."""
    asked = {"numprocesses": None, "dist": "no", "loadscopereorder": True, "tx": [], "usepdb": False}
    option = SimpleNamespace(**{**asked, "collectonly": False, "update_golden": False, **options})
    return SimpleNamespace(
        option=option,
        args=list(places),
        getoption=lambda name, default=None: getattr(option, name, False),
        invocation_params=SimpleNamespace(dir=ROOT),
        pluginmanager=SimpleNamespace(hasplugin=lambda name: name == "xdist"),
    )


@pytest.fixture
def hook(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hook of the checkout's conftest, on a machine with two cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (conftest,) = (
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", "") == str(ROOT / "conftest.py")
    )
    return conftest.pytest_cmdline_main


@pytest.mark.parametrize("places", [("tests", "perf"), ("tests",), (str(ROOT / "tests"),), ("docs", "tests/")])
def test_the_whole_suite_takes_a_process_per_core_file_by_file(places: tuple[str, ...], hook: Any) -> None:
    config = config_of(*places)
    hook(config)
    assert (config.option.numprocesses, config.option.dist, config.option.loadscopereorder) == (2, "loadfile", False)


@pytest.mark.parametrize(
    ("places", "options"),
    [
        (("tests/trace",), {}),
        (("tests/test_cli.py",), {}),
        (("tests/test_cli.py::test_it",), {}),
        (("perf",), {}),
        (("tests", "perf"), {"numprocesses": 0}),
        (("tests", "perf"), {"usepdb": True}),
        (("tests", "perf"), {"collectonly": True}),
        (("tests", "perf"), {"update_golden": True}),
        (("tests", "perf"), {"benchmark_only": True}),
        (("tests", "perf"), {"benchmark_save": "main"}),
    ],
)
def test_what_is_small_asked_otherwise_or_timed_stays_in_one_process(
    places: tuple[str, ...], options: dict[str, Any], hook: Any
) -> None:
    config = config_of(*places, **options)
    hook(config)
    assert config.option.numprocesses == options.get("numprocesses")
    assert config.option.dist == "no"


def test_one_core_has_one_process(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    config = config_of("tests", "perf")
    hook(config)
    assert config.option.numprocesses is None


def test_a_pytest_that_a_test_starts_is_not_distributed() -> None:
    assert not [name for name in os.environ if name.startswith("PYTEST_XDIST_")]
