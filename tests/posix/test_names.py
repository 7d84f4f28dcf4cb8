"""Names: creating, removing, linking and renaming, and what each refuses."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.fuse]

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old: Path, new: Path, flags: int) -> None:
    """renameat2(2), which Python does not have."""
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fails(number: int, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """The call is refused with that errno."""
    found = 0
    try:
        call(*arguments, **named)
    except OSError as error:
        found = error.errno or 0
    assert found, f"{call.__name__}{arguments} was not refused"
    assert errno.errorcode[found] == errno.errorcode[number]


def file(path: Path, content: bytes = b"x") -> Path:
    path.write_bytes(content)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


# --- what is there and what is not


def test_names_up_to_255_bytes_and_any_byte_but_two(here: Path) -> None:
    odd = [b"a" * 255, "ü".encode() * 127, b"\xff\xfe", b"new\nline", b" ", b"-rf", b"..."]
    for name in odd:
        file(here / os.fsdecode(name), name)
    assert sorted(os.listdir(os.fsencode(here))) == sorted(odd)
    assert all((here / os.fsdecode(name)).read_bytes() == name for name in odd)
    fails(errno.ENAMETOOLONG, os.mkdir, here / ("a" * 256))
    fails(errno.ENAMETOOLONG, os.stat, here / ("a" * 256))
    fails(errno.ENAMETOOLONG, os.rename, here / ("a" * 255), here / ("b" * 256))


def test_what_is_not_there(here: Path) -> None:
    missing = here / "missing"
    for call in (os.stat, os.unlink, os.rmdir, os.readlink, os.listdir):
        fails(errno.ENOENT, call, missing)
    fails(errno.ENOENT, os.mkdir, missing / "below")
    fails(errno.ENOENT, os.rename, missing, here / "else")
    fails(errno.ENOENT, os.link, missing, here / "else")
    fails(errno.ENOENT, os.open, missing, os.O_RDONLY)
    fails(errno.ENOENT, os.truncate, missing, 0)


def test_what_is_there_already(here: Path) -> None:
    path = file(here / "file")
    fails(errno.EEXIST, os.mkdir, path)
    fails(errno.EEXIST, os.symlink, "target", path)
    fails(errno.EEXIST, os.link, path, path)
    fails(errno.EEXIST, os.mkfifo, path)
    fails(errno.EEXIST, os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    link = here / "dangling"
    link.symlink_to("nowhere")
    fails(errno.EEXIST, os.open, link, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_a_file_is_no_directory_and_the_other_way_round(here: Path) -> None:
    path, directory = file(here / "file"), folder(here / "directory")
    for call in (os.stat, os.mkdir, os.unlink, os.rmdir, os.listdir):
        fails(errno.ENOTDIR, call, path / "below")
    fails(errno.ENOTDIR, os.rmdir, path)
    fails(errno.EISDIR, os.unlink, directory)
    fails(errno.EISDIR, os.open, directory, os.O_WRONLY)
    fails(errno.EISDIR, os.truncate, directory, 0)
    fails(errno.EPERM, os.link, directory, here / "else")
    fails(errno.ENOTDIR, os.open, path, os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.ENOTDIR, os.rename, directory, path)
    fails(errno.EISDIR, os.rename, path, directory)


def test_symlinks_lead_and_loops_are_refused(here: Path) -> None:
    file(here / "target", b"content")
    (here / "link").symlink_to("target")
    assert (here / "link").read_bytes() == b"content"
    assert (here / "link").readlink() == Path("target")
    assert (here / "link").lstat().st_size == len("target")
    fails(errno.EINVAL, os.readlink, here / "target")
    fails(errno.ELOOP, os.open, here / "link", os.O_RDONLY | os.O_NOFOLLOW)
    (here / "a").symlink_to("b")
    (here / "b").symlink_to("a")
    fails(errno.ELOOP, os.stat, here / "a")
    longest = "x/" * 2047 + "x"
    (here / "long").symlink_to(longest)
    assert os.readlink(here / "long") == longest
    fails(errno.ENAMETOOLONG, os.symlink, "y" * 4096, here / "longer")


# --- directories


def test_directories_count_their_links_and_go_only_empty(here: Path) -> None:
    directory = folder(here / "directory")
    assert directory.stat().st_nlink == 2
    folder(directory / "one")
    folder(directory / "two")
    assert directory.stat().st_nlink == 4
    fails(errno.ENOTEMPTY, os.rmdir, directory)
    (directory / "one").rename(here / "one")
    (directory / "two").rmdir()
    assert directory.stat().st_nlink == 2
    file(directory / "file")
    fails(errno.ENOTEMPTY, os.rmdir, directory)
    (directory / "file").unlink()
    directory.rmdir()
    fails(errno.ENOENT, os.stat, directory)


def test_a_removed_directory_that_is_open_takes_nothing_more(here: Path) -> None:
    directory = folder(here / "directory")
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        directory.rmdir()
        fails(errno.ENOENT, os.mkdir, "below", dir_fd=descriptor)
        fails(errno.ENOENT, os.open, "below", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
        assert os.listdir(descriptor) == []
        assert os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)


def test_listing_goes_on_in_its_place_while_names_come_and_go(here: Path) -> None:
    stays = {f"stays-{number:04}" for number in range(1500)}
    goes = {f"goes-{number:04}" for number in range(500)}
    for name in stays | goes:
        (here / name).touch()
    listed: list[str] = []
    with os.scandir(here) as entries:
        for number, entry in enumerate(entries):
            listed.append(entry.name)
            if number < 500:
                (here / f"goes-{number:04}").unlink()
                (here / f"comes-{number:04}").touch()
    assert len(listed) == len(set(listed)), "a name was listed twice"
    assert stays <= set(listed), "a name that was there all the time was not listed"
    assert set(os.listdir(here)) == stays | {f"comes-{number:04}" for number in range(500)}


# --- hard links


def test_hard_links_are_one_file(here: Path) -> None:
    first = file(here / "first", b"1")
    second = here / "second"
    second.hardlink_to(first)
    assert first.stat().st_nlink == second.stat().st_nlink == 2
    assert first.samefile(second)
    second.write_bytes(b"22")
    second.chmod(0o600)
    assert first.read_bytes() == b"22"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    first.unlink()
    assert second.stat().st_nlink == 1
    assert second.read_bytes() == b"22"


def test_an_unlinked_file_lives_while_it_is_open(here: Path) -> None:
    path = here / "file"
    with path.open("w+b", buffering=0) as opened:
        opened.write(b"before")
        path.unlink()
        assert os.fstat(opened.fileno()).st_nlink == 0
        opened.write(b" and after")
        opened.truncate(12)
        os.fsync(opened.fileno())
        opened.seek(0)
        assert opened.read() == b"before and a"
        os.fchmod(opened.fileno(), 0o600)
        fails(errno.ENOENT, os.stat, path)
        file(path, b"another")
        assert os.fstat(opened.fileno()).st_ino != path.stat().st_ino


# --- renaming


def test_rename_over_what_is_there(here: Path) -> None:
    new, old = file(here / "new", b"new"), file(here / "old", b"old")
    with old.open("rb") as opened:
        new.rename(old)
        assert opened.read() == b"old", "who has it open keeps what it had"
    assert old.read_bytes() == b"new"
    assert os.listdir(here) == ["old"]
    first, second = folder(here / "first"), folder(here / "second")
    file(second / "inside")
    fails(errno.ENOTEMPTY, os.rename, first, second)
    (second / "inside").unlink()
    inode = first.stat().st_ino
    first.rename(second)
    assert second.stat().st_ino == inode
    assert here.stat().st_nlink == 3


def test_rename_onto_itself_does_nothing(here: Path) -> None:
    path = file(here / "file")
    path.rename(path)
    link = here / "link"
    link.hardlink_to(path)
    path.rename(link)  # two names of one file: both stay
    assert sorted(os.listdir(here)) == ["file", "link"]
    directory = folder(here / "directory")
    directory.rename(directory)
    fails(errno.EINVAL, os.rename, directory, directory / "below")


def test_rename_moves_a_directory_with_all_below(here: Path) -> None:
    source, target = folder(here / "source"), folder(here / "target")
    folder(source / "sub")
    file(source / "sub" / "file", b"content")
    (source / "sub").rename(target / "moved")
    assert (target / "moved" / "file").read_bytes() == b"content"
    assert (source.stat().st_nlink, target.stat().st_nlink) == (2, 3)
    assert (target / "moved" / "..").stat().st_ino == target.stat().st_ino


def test_rename_noreplace_and_exchange(here: Path) -> None:
    one, two = file(here / "one", b"1"), file(here / "two", b"2")
    fails(errno.EEXIST, renameat2, one, two, NOREPLACE)
    renameat2(one, here / "three", NOREPLACE)
    one = here / "three"
    renameat2(one, two, EXCHANGE)
    assert (one.read_bytes(), two.read_bytes()) == (b"2", b"1")
    fails(errno.ENOENT, renameat2, one, here / "missing", EXCHANGE)
    directory = folder(here / "directory")
    sub = folder(directory / "sub")
    renameat2(one, sub, EXCHANGE)
    assert sub.read_bytes() == b"2"
    assert one.is_dir()
    assert (directory.stat().st_nlink, here.stat().st_nlink) == (2, 4)
    fails(errno.EINVAL, renameat2, sub, two, WHITEOUT)


def test_rename_out_of_the_mount(here: Path, tmp_path: Path) -> None:
    fails(errno.EXDEV, os.rename, file(here / "file"), tmp_path / "file")
    fails(errno.EXDEV, os.link, here / "file", tmp_path / "file")


# --- special files


def test_special_files_are_what_they_are(here: Path) -> None:
    os.mkfifo(here / "pipe", 0o600)
    os.mknod(here / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(here / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 65_537))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(here / "socket"))
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)
    assert stat.S_ISSOCK((here / "socket").stat().st_mode)
    assert (here / "device").stat().st_rdev == os.makedev(1, 3)
    assert (here / "disk").stat().st_rdev == os.makedev(259, 65_537)
    fails(errno.ENXIO, os.open, here / "pipe", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(here / "pipe", os.O_WRONLY)
    os.write(writer, b"through")
    assert os.read(reader, 100) == b"through"
    os.close(writer)
    os.close(reader)
