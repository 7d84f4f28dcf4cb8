"""Pins outlive the daemon, and a file that is no pin file is no reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from usenetfs.errors import LocalStorageError
from usenetfs.store import pins
from usenetfs.store.pins import Pins
from usenetfs.types import InodeId


def test_what_is_pinned_is_pinned_after_a_restart(tmp_path: Path) -> None:
    first = Pins(tmp_path / "pins.json")
    first.add(InodeId(7))
    first.add(InodeId(3))
    first.add(InodeId(3))
    first.remove(InodeId(7), InodeId(99))
    again = Pins(tmp_path / "pins.json")
    assert again.all() == [3]
    assert InodeId(3) in again
    assert InodeId(7) not in again
    assert [path.name for path in tmp_path.iterdir()] == ["pins.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"version": 9, "inodes": []}', '{"inodes": 3}'])
def test_a_spoiled_file_means_no_pins(
    tmp_path: Path, content: str, expect_log: Callable[[str], None]
) -> None:
    expect_log("nothing is pinned")
    file = tmp_path / "pins.json"
    file.write_text(content)
    assert len(Pins(file)) == 0


def test_what_cannot_be_written_is_not_pinned(tmp_path: Path) -> None:
    there = Pins(tmp_path / "missing" / "pins.json")
    with pytest.raises(LocalStorageError):
        there.add(InodeId(1))
    assert len(there) == 0


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "MAX_PINS", 2)
    memory = Pins(None)
    memory.add(InodeId(1))
    memory.add(InodeId(2))
    with pytest.raises(LocalStorageError, match="more than 2 pins"):
        memory.add(InodeId(3))
