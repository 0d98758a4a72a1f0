"""A second measurement on a device is told of the first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.pretended.card import H100, pretend
from tests.pretended.nvml import UUID
from visionbench.machine.neighbours import claimed, marked
from visionbench.record.errors import BenchError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_second_hears_of_the_first_and_the_third_of_the_second() -> None:
    heard: list[str] = []
    first = marked(["cpu"], heard.append)
    first.__enter__()
    assert heard == []
    with marked(["cpu"], heard.append):
        assert len(heard) == 1
        assert heard[0].startswith("Another visionbench is measuring on cpu of this machine")
        first.__exit__(None, None, None)
        with marked(["cpu"], heard.append):
            assert len(heard) == 2
    with marked(["cpu"], heard.append):
        assert len(heard) == 2


def test_a_file_of_turns_has_one_writer_by_whatever_name(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(kept.name)
    with claimed(kept), claimed(tmp_path / "other.jsonl"), claimed(None), claimed(None):
        for path in (kept, link):
            with pytest.raises(BenchError, match=r"another visionbench is writing .*--keep"), claimed(path):
                pass
    with claimed(link):
        pass


def test_other_devices_are_no_neighbours() -> None:
    heard: list[str] = []
    with marked(["cpu"], heard.append), marked(["cuda"], heard.append), marked(["cuda:1"], heard.append):
        assert heard == []
        with marked(["cuda:0", "cuda:1"], heard.append):
            assert [text.split(" of this")[0].split()[-1] for text in heard] == ["cuda:0", "cuda:1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(own_folder: Path) -> None:
    own_folder.chmod(0o500)
    with marked(["cpu"], lambda text: pytest.fail(text)):
        pass


def test_a_link_in_its_place_is_not_followed(own_folder: Path) -> None:
    (own_folder / ".visionbench-cpu.lock").symlink_to(own_folder / "elsewhere")
    with marked(["cpu"], lambda text: pytest.fail(text)):
        assert not (own_folder / "elsewhere").exists()


def test_a_card_is_known_by_its_uuid_for_its_number_is_another_in_each_job(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    pretend(monkeypatch, H100)
    with marked(["cuda"], heard.append):
        assert [file.name for file in own_folder.iterdir()] == [f".visionbench-cuda-{UUID}.lock"]
        monkeypatch.setattr("visionbench.machine.accelerator.uuid", lambda _: "another card")
        with marked(["cuda:0"], heard.append):
            assert heard == []
            with marked(["cuda"], heard.append):
                assert len(heard) == 1


def test_another_users_mark_is_heard_where_the_system_lets_nobody_create_over_it(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, heard = os.open, list[str]()

    def protected(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and path.exists():
            raise PermissionError(13, "fs.protected_regular")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", protected)
    with marked(["cpu"], heard.append), marked(["cpu"], heard.append):
        assert len(heard) == 1
