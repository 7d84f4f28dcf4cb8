"""The kernel's view of mounts. What needs a real mount is in ``tests/e2e``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from usenetfs import mounts
from usenetfs.errors import MountError

MOUNTINFO = """\
22 1 8:1 / / rw,relatime - ext4 /dev/root rw
40 22 0:35 / /mnt/with\\040space rw,nosuid shared:5 - fuse.usenetfs usenetfs:photos rw,user_id=0
41 22 0:36 / /mnt/other rw - fuse.sshfs host:/ rw
42 22 0:37 / /mnt/fake rw - tmpfs usenetfs:books rw
a line of nonsense
"""


def test_mountinfo_is_read() -> None:
    found = mounts.read_mounts(MOUNTINFO)
    assert [(str(m.mountpoint), m.filesystem) for m in found] == [
        ("/", None),
        ("/mnt/with space", "photos"),
        ("/mnt/other", None),
        ("/mnt/fake", None),
    ]


def test_names_that_are_no_utf8() -> None:
    line = "40 22 0:35 / /mnt/\\303\\251\\377 rw - fuse.usenetfs usenetfs:x rw"
    assert os.fsencode(mounts.read_mounts(line)[0].mountpoint) == b"/mnt/\xc3\xa9\xff"


def test_a_good_mount_point_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "point").mkdir()
    (tmp_path / "link").symlink_to("point")
    monkeypatch.chdir(tmp_path)
    assert mounts.prepare_mount_point(Path("link"), filesystem="x") == tmp_path / "point"


def test_bad_mount_points(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for path, message in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "full", "is not empty"),
        (Path("/proc"), "is already a mount point"),
    ):
        with pytest.raises(MountError, match=message) as caught:
            mounts.prepare_mount_point(path, filesystem="x")
        assert caught.value.hint


def test_the_users_of_a_mount_are_named(tmp_path: Path) -> None:
    assert mounts.users_of(tmp_path) == "by a process that cannot be named"
    (tmp_path / "x").touch()
    with (tmp_path / "x").open():
        assert f"({os.getpid()})" in mounts.users_of(tmp_path)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=tmp_path)
    assert f"cat ({child.pid})" in mounts.users_of(tmp_path)
    child.communicate()


def test_unmounting_what_is_not_mounted_is_no_error(tmp_path: Path) -> None:
    mounts.unmount(tmp_path)


def test_the_same_path_in_other_words(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "l").symlink_to("a")
    assert mounts.same_path(tmp_path / "l", tmp_path / "a" / ".." / "a")
    assert not mounts.same_path(tmp_path, tmp_path / "a")
