"""Two writers lose nothing: files that are read, changed and rewritten are locked meanwhile."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
from pathlib import Path

import pytest

from visionbench.record import files, store
from visionbench.record.errors import BenchError


def _count_up(path: Path, times: int) -> None:
    for _ in range(times):
        with files.locked(path):
            before = int(path.read_text()) if path.exists() else 0
            files.write_whole(path, str(before + 1))


@pytest.mark.slow
def test_four_writers_lose_no_change(tmp_path):
    path = tmp_path / "count"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_count_up, args=(path, 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert path.read_text() == "100"
    assert [file.name for file in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_found_before_the_first_launch(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(BenchError, match="no locks available"):
        store.check_writable(tmp_path / "records.jsonl")
    with pytest.raises(BenchError, match="no locks available"), files.locked(tmp_path / "effects.jsonl"):
        pass


def test_a_full_disk_is_found_before_the_first_launch(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "records.jsonl"
    path.write_text("kept\n")
    monkeypatch.setattr(store.os, "write", refuse)
    with pytest.raises(BenchError, match="no space left"):
        store.check_writable(path)
    assert path.read_text() == "kept\n"


def test_the_trial_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("kept\n")
    store.check_writable(path)
    assert path.read_text() == "kept\n"


def test_a_folder_that_is_missing_is_made_only_where_asked(tmp_path):
    path = tmp_path / "of" / "theirs" / "structure.json"
    with pytest.raises(BenchError, match="no such file"), files.locked(path):
        pass
    with files.locked(path, folders=True):
        files.write_whole(path, "{}")
    assert path.read_text() == "{}"
