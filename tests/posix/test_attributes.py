"""Attributes: permissions and who may change them, times, extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.posix.conftest import OTHER, USER, Identity
from tests.posix.test_names import fails, file, folder

pytestmark = [pytest.mark.fuse]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- permissions


def test_umask_and_chmod(here: Path) -> None:
    os.umask(0o027)
    assert mode(file(here / "file")) == 0o640
    assert mode(folder(here / "folder")) == 0o750
    for bits in (0o000, 0o777, 0o1777, 0o2755, 0o4711):
        (here / "file").chmod(bits)
        assert mode(here / "file") == bits


def test_others_may_what_the_mode_says(here: Path, act_as: Identity) -> None:
    secret, public = file(here / "secret"), file(here / "public")
    secret.chmod(0o600)
    public.chmod(0o644)
    with act_as(USER):
        fails(errno.EACCES, os.open, secret, os.O_RDONLY)
        assert public.read_bytes() == b"x"
        fails(errno.EACCES, os.open, public, os.O_WRONLY)
        fails(errno.EACCES, os.mkdir, here / "mine")
        fails(errno.EACCES, os.unlink, public)
        fails(errno.EPERM, os.chmod, public, 0o777)
        fails(errno.EPERM, os.chown, public, USER, USER)
        fails(errno.EPERM, os.utime, public, (1, 1))
    here.chmod(0o700)
    with act_as(USER):
        fails(errno.EACCES, os.stat, public)


def test_in_a_sticky_directory_only_owners_remove(here: Path, act_as: Identity) -> None:
    here.chmod(0o1777)
    with act_as(USER):
        mine = file(here / "mine")
    with act_as(OTHER):
        fails(errno.EPERM, os.unlink, mine)
        fails(errno.EPERM, os.rename, mine, here / "yours")
        file(here / "yours")
        fails(errno.EPERM, os.rename, here / "yours", mine)
    with act_as(USER):
        mine.unlink()


def test_the_group_of_a_setgid_directory_is_inherited(here: Path) -> None:
    directory = folder(here / "shared")
    os.chown(directory, 0, OTHER)
    directory.chmod(0o2775)
    assert file(directory / "file").stat().st_gid == OTHER
    below = folder(directory / "below")
    assert below.stat().st_gid == OTHER
    assert mode(below) & stat.S_ISGID


def test_set_id_bits_go_when_a_stranger_writes_or_owners_change(
    here: Path, act_as: Identity
) -> None:
    path = file(here / "program")
    path.chmod(0o6777)
    with act_as(USER), path.open("ab", buffering=0) as opened:
        opened.write(b"changed")
    assert mode(path) == 0o777
    os.chown(path, USER, USER)
    path.chmod(0o6755)
    with act_as(USER):
        os.chown(path, USER, USER)
    assert mode(path) == 0o755


def test_an_owner_may_give_to_own_groups_only(here: Path, act_as: Identity) -> None:
    path = file(here / "file")
    os.chown(path, USER, USER)
    with act_as(USER):
        fails(errno.EPERM, os.chown, path, OTHER, -1)
        fails(errno.EPERM, os.chown, path, -1, OTHER)
        path.chmod(0o600)
    assert mode(path) == 0o600


# --- times


def stamps(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns


def test_times_to_the_nanosecond(here: Path) -> None:
    path = file(here / "file")
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321))
    assert path.stat().st_atime_ns == 1_234_567_890_123_456_789
    assert path.stat().st_mtime_ns == 987_654_321
    os.utime(path, ns=(-1_000_000_001, 5_000_000_000_999_999_999))
    assert path.stat().st_mtime_ns == 5_000_000_000_999_999_999
    (here / "link").symlink_to("file")
    os.utime(here / "link", ns=(1, 2), follow_symlinks=False)
    assert (here / "link").lstat().st_mtime_ns == 2


def test_which_call_changes_which_time(here: Path) -> None:
    path = file(here / "file", b"content")

    history = [stamps(path)]

    def changes(mtime: bool, ctime: bool) -> None:
        history.append(stamps(path))
        before, after = history[-2:]
        assert (after[0] != before[0], after[1] != before[1]) == (mtime, ctime)

    path.read_bytes()
    changes(False, False)
    path.chmod(0o600)
    changes(False, True)
    os.setxattr(path, "user.a", b"1")
    changes(False, True)
    (here / "second").hardlink_to(path)
    changes(False, True)
    with path.open("ab", buffering=0) as opened:
        opened.write(b"more")
    changes(True, True)
    os.truncate(path, 3)
    changes(True, True)
    directory = here.stat().st_mtime_ns
    (here / "second").unlink()
    changes(False, True)
    assert here.stat().st_mtime_ns > directory


# --- extended attributes


def test_extended_attributes(here: Path) -> None:
    path = file(here / "file")
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.binary", bytes(range(256)))
    assert sorted(os.listxattr(path)) == ["user.binary", "user.empty", "user.one"]
    assert os.getxattr(path, "user.empty") == b""
    assert os.getxattr(path, "user.binary") == bytes(range(256))
    fails(errno.EEXIST, os.setxattr, path, "user.one", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, path, "user.two", b"2", os.XATTR_REPLACE)
    os.setxattr(path, "user.one", b"3", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b"3"
    os.removexattr(path, "user.one")
    fails(errno.ENODATA, os.getxattr, path, "user.one")
    fails(errno.ENODATA, os.removexattr, path, "user.one")


def test_extended_attributes_have_limits(here: Path) -> None:
    path = file(here / "file")
    os.setxattr(path, "user.large", bytes(65_536))
    assert len(os.getxattr(path, "user.large")) == 65_536
    fails(errno.E2BIG, os.setxattr, path, "user.larger", bytes(65_537))
    fails(errno.ERANGE, os.setxattr, path, "user." + "n" * 251, b"")


def test_directories_and_links_have_extended_attributes_too(here: Path) -> None:
    directory = folder(here / "directory")
    os.setxattr(directory, "user.note", b"a directory")
    assert os.getxattr(directory, "user.note") == b"a directory"
    (here / "link").symlink_to("directory")
    os.setxattr(here / "link", "trusted.note", b"a link", follow_symlinks=False)
    assert os.listxattr(here / "link", follow_symlinks=False) == ["trusted.note"]


def test_access_control_lists_are_refused_as_documented(here: Path) -> None:
    """docs/posix.md: no POSIX ACLs; who asks for one must not believe it is in force."""
    path = file(here / "file")
    entry = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")
    fails(errno.EOPNOTSUPP, os.setxattr, path, "system.posix_acl_access", entry)
    fails(errno.EOPNOTSUPP, os.getxattr, path, "system.posix_acl_access")
