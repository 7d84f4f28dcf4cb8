"""What a download makes on the local disk, and leaves there when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from usenetfs.trees.local_tree import make_link


def test_a_link_that_cannot_take_its_name_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        make_link(os.fsencode(tmp_path / "file"), os.fsencode(tmp_path / "taken"))
    assert sorted(os.listdir(tmp_path)) == ["file", "taken"]
    assert (tmp_path / "file").stat().st_nlink == 1
