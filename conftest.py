"""pytest's face of visionbench: options, markers and fixtures of this repository's own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
GOLDEN = ROOT / "tests" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what the tests see instead of comparing it."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files of tests/golden, to be read in a diff"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Without `--benchmark-only` or `--benchmark-enable` a benchmark runs once, as a test that it still works."""
    asked = config.getoption("benchmark_only", default=True) or config.getoption("benchmark_enable", default=True)
    if not asked:
        config.option.benchmark_disable = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped, and say so, where torch finds no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("table1.md", text)`: `text` must equal the file of that name, or becomes it under `--update-golden`."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"tests/golden/{name} is missing: run pytest with --update-golden and read the diff"
        assert path.read_text(encoding="utf-8") == text

    return check
