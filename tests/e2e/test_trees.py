"""The judges of copies: they must find what is different, or their silence means nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.trees import diff_differences, differences, make_odd_files, rsync_differences


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    make_odd_files(left / "odd")
    subprocess.run(["cp", "-a", left, right], check=True)
    return left, right


def test_a_faithful_copy_has_no_differences(copies: tuple[Path, Path]) -> None:
    assert differences(*copies) == []
    assert rsync_differences(*copies) == ""
    assert diff_differences(*copies) == ""


def _flip_a_bit(top: Path) -> None:
    before = (top / "text").stat()
    with (top / "text").open("r+b") as file:
        file.seek(1_000_000)
        octet = file.read(1)[0]
        file.seek(1_000_000)
        file.write(bytes([octet ^ 1]))
    os.utime(top / "text", ns=(before.st_atime_ns, before.st_mtime_ns))


def _break_a_hard_link(top: Path) -> None:
    path = top / "links" / "two"
    status = path.stat()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _lose_a_nanosecond(top: Path) -> None:
    os.utime(top / "text", ns=(0, (top / "text").stat().st_mtime_ns - 1))


def _lose_an_attribute(top: Path) -> None:
    os.removexattr(top / "xattrs" / "file", "user.empty")


CHANGES: list[Callable[[Path], None]] = [
    _flip_a_bit,
    _break_a_hard_link,
    _lose_a_nanosecond,
    _lose_an_attribute,
    lambda top: (top / "modes" / "file-644").chmod(0o600),
    lambda top: (top / "names" / " ").unlink(),
    lambda top: (top / "new").touch(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_loss_is_found(
    copies: tuple[Path, Path], change: Callable[[Path], None]
) -> None:
    left, right = copies
    change(right / "odd")
    assert differences(left, right) != []
    assert rsync_differences(left, right) != ""
