"""A pytest plugin for other people's repositories: their models under both parts of the gate, as ordinary tests.

    @pytest.mark.visionbench(image_size=64)
    def test_my_model(visionbench):
        visionbench("user:my_pkg.nets:small")

The structure (parameters, operators, bytes, graphs: exact, no hardware) is compared with a file in their repository,
always. With `--visionbench-base REVISION` the model is also timed against that revision, in turns. The outcome is
reported as any test's: worse is a failure, "cannot tell" a skip, "could not be measured" an error.

pytest loads this module in every project of an environment that has visionbench in it, so it imports pytest and
nothing else and adds no cost to a run without the fixture. It refuses only what one of its options asked for.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from visionbench.plugin.check import Settings

ENTRY_POINT = "visionbench"
"""The plugin's name where it is installed (`-p visionbench`)."""

MARKER = (
    "visionbench(**settings): how the `visionbench` fixture runs the model. Settings: fields of a spec (batch_size, "
    "image_size, inputs, loss, precision, memory_format, compile_mode, attention, task), device and threads for "
    "timing, and training=False to count no training step"
)

Check = Callable[..., None]
"""What the fixture gives: call it with a model's name, a function that returns the network, or the network itself."""

_VERDICTS = pytest.StashKey[list[str]]()
_NAMES = pytest.StashKey[dict[str, str]]()


class NotMeasuredError(Exception):
    """There is no number to judge: an error in pytest's sense, and not a failure of the model."""


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Named twice, by the entry point and by `-p visionbench.plugin.hooks` or a conftest, it is loaded once."""
    if plugin is sys.modules[__name__]:
        for name in {ENTRY_POINT, __name__} - {manager.get_name(plugin)}:
            manager.set_blocked(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options on the command line, and `visionbench_baseline` in the ini file."""
    group = parser.getgroup("visionbench", "models under test (visionbench)")
    group.addoption(
        "--visionbench-update",
        action="store_true",
        help="write the structure of the models under test into the baseline, to be read in its diff",
    )
    group.addoption(
        "--visionbench-base",
        metavar="REVISION",
        help="also time each model against that git revision, in turns (about a minute each)",
    )
    group.addoption(
        "--visionbench-budget", metavar="TIME", type=_seconds, help="of timing one model: 90s, 2m (default: no end)"
    )
    group.addoption(
        "--visionbench-strict", action="store_true", help="a model about whose speed nothing can be said is a failure"
    )
    parser.addini(
        "visionbench_baseline",
        "file that keeps the models' structure, relative to the rootdir (default: visionbench-structure.json)",
        default="",
    )


def _seconds(text: str) -> float:
    """The same times as on our own command line, which is loaded only where the option is used."""
    from visionbench.command.values import seconds

    return seconds(text)


def pytest_configure(config: pytest.Config) -> None:
    """The marker; and what cannot be done by several processes at once is refused before any test runs."""
    config.addinivalue_line("markers", MARKER)
    asked = [name for name in ("base", "update") if config.getoption(f"visionbench_{name}")]
    # pytest-xdist spreads the tests over processes, seen from the parent or from one of them.
    if asked and (config.getoption("dist", "no") != "no" or "PYTEST_XDIST_WORKER" in os.environ):
        why = {
            "base": "models are timed one at a time, and nothing else may run beside them",
            "update": "several processes would write one file",
        }
        raise pytest.UsageError(f"--visionbench-{asked[0]}: {why[asked[0]]}: leave pytest-xdist's -n away.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What fails outside a test's call is an error to pytest: so is what was not measured."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, NotMeasuredError):
        report.when, report.longrepr = "setup", str(call.excinfo.value)
    return report


@pytest.fixture
def visionbench(request: pytest.FixtureRequest) -> Check:
    """`visionbench("user:my_pkg.nets:small")`: its structure is as committed; with a base, it is no slower than there.

    Takes any model of visionbench's (`timm:resnet18`, or `user:package.module:function` for a function that returns a
    network), such a function itself, or a network, which is called by the test's name and is counted but not timed.
    The marker `visionbench` says how it is run, and for one call its settings do: `visionbench(small, image_size=64)`.
    """
    numbers = itertools.count(1)

    def check(model: str | Callable[..., Any], **settings: Any) -> None:
        __tracebackhide__ = True
        from visionbench.plugin.check import check as check_model

        name, handed = (model, None) if isinstance(model, str) else _name(model, request, numbers)
        outcome = check_model(name, _marker(request.node) | settings, _settings(request), handed)
        request.node.user_properties += [(f"visionbench.{name}", value) for name, value in outcome.properties]
        if outcome.summary:
            request.config.stash.setdefault(_VERDICTS, []).append(outcome.summary)
        # In pytest's words, and without a traceback: it would be of our code.
        if outcome.word == "failed":
            pytest.fail(outcome.text, pytrace=False)
        if outcome.word == "error":
            raise NotMeasuredError(outcome.text)
        if outcome.word == "skipped":
            pytest.skip(outcome.text)

    return check


def _name(
    model: Callable[..., Any], request: pytest.FixtureRequest, numbers: Iterator[int]
) -> tuple[str, Callable[..., Any] | None]:
    """`user:package.module:function` of a function, which other processes and the base import; None with it.

    A network, and a function that no module holds, have the test's name, and go with it; a test's second and later
    ones have their number, too. Two tests of one name would share a row of the baseline: that is a failure.
    """
    if not callable(model):
        pytest.fail(
            f"visionbench takes a network, a function that returns one, or its name, as in 'user:my_pkg.nets:small', "
            f"and not an object of type {type(model).__name__}.",
            pytrace=False,
        )
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and name.isidentifier():
        return f"user:{module}:{name}", None
    test, number = request.node.nodeid, next(numbers)
    words = re.sub(r"\W+", "_", test.partition("::")[2]).strip("_")  # with its class, and the id of its parameters
    called = f"user:{request.module.__name__}:{words}" + (f"_{number}" if number > 1 else "")
    other = request.config.stash.setdefault(_NAMES, {}).setdefault(called, test)
    if other != test:
        pytest.fail(
            f"visionbench would call the networks of {other} and {test} both {called}: give one test another name, "
            "or its parameters another id.",
            pytrace=False,
        )
    return called, model


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The verdict of each timed model, passed ones too: a green run says what it rests on."""
    if lines := terminalreporter.config.stash.get(_VERDICTS, []):
        terminalreporter.section("visionbench")
        for line in lines:
            terminalreporter.line(line)


def _marker(node: pytest.Item) -> dict[str, Any]:
    """The markers' keywords; the one nearest to the test wins."""
    settings: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("visionbench"))):
        if marker.args:
            pytest.fail("the marker visionbench takes settings by name: image_size=64.", pytrace=False)
        settings |= marker.kwargs
    return settings


def _settings(request: pytest.FixtureRequest) -> Settings:
    """What pytest's command line and ini file say."""
    from visionbench.comparison.structure import baseline_in
    from visionbench.plugin.check import Settings

    config, uses = request.config, request.fixturename
    named = str(config.getini("visionbench_baseline"))
    return Settings(
        folder=Path(config.rootpath),
        baseline=config.rootpath / named if named else baseline_in(config.rootpath),
        update=config.getoption("visionbench_update"),
        base=config.getoption("visionbench_base"),
        budget=config.getoption("visionbench_budget"),
        strict=config.getoption("visionbench_strict"),
        models=sum(uses in getattr(item, "fixturenames", ()) for item in request.session.items),
    )
