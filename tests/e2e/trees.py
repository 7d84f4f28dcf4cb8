"""What is copied into mounts, and how two trees are compared.

Two judges look at every copy: ``differences`` here, which compares all that lstat, readlink,
listxattr and read tell, and the programs a user would ask, rsync and diff.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from scripts.trees import copy_real_tree, write_random

BLOCK = 716_800
"""Octets in a block of a filesystem made with defaults: files around it are interesting."""
LARGE = 64 << 20
SECOND = 1_000_000_000


def make_tree(top: Path, *, large: int = LARGE) -> None:
    """Fill ``top``: the standard library and pip, a random file of ``large`` octets, oddities."""
    copy_real_tree(top)
    write_random(top / "large.bin", large)
    make_odd_files(top / "odd")


def make_odd_files(top: Path) -> None:
    """Everything a POSIX filesystem must keep and a lesser one loses."""
    top.mkdir()
    for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 12_345):
        write_random(top / f"size-{size}", size)
    (top / "zeros").write_bytes(bytes(3 * BLOCK))
    (top / "text").write_bytes(b"the same line again and again\n" * 100_000)
    with (top / "sparse").open("wb") as file:
        file.seek(5 * BLOCK + 17)
        file.write(b"in the middle")
        file.truncate(11 * BLOCK + 3)
    _make_names(top / "names")
    _make_links(top / "links")
    _make_modes(top / "modes")
    _make_xattrs(top / "xattrs")
    os.mkfifo(top / "fifo")
    _make_times(top / "times")  # last: making files changes the times of directories


def _make_names(top: Path) -> None:
    top.mkdir()
    folder = os.fsencode(top)
    names = [
        b"n" * 255,
        b"\xff\xfe not UTF-8",
        b"new\nline",
        b" ",
        b"-rf",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
    ]
    names += ["雪".encode(), b"%s%n", b"back\\slash", b'"quoted"', b"..."]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    deep = top
    for level in range(30):
        deep /= f"level {level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("reached")


def _make_links(top: Path) -> None:
    top.mkdir()
    (top / "one").write_text("three names")
    (top / "sub").mkdir()
    os.link(top / "one", top / "two")
    os.link(top / "one", top / "sub" / "three")
    os.symlink("one", top / "relative")
    os.symlink("/etc/hostname", top / "absolute")
    os.symlink("nowhere/at all", top / "dangling")
    os.symlink("x" * 4095, top / "long")
    os.symlink(b"\xff", os.fsencode(top / "not UTF-8"))
    os.symlink("sub", top / "folder")
    os.link(top / "dangling", top / "sub" / "hard link to it", follow_symlinks=False)


def _make_modes(top: Path) -> None:
    top.mkdir()
    for mode in (0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1666):
        path = top / f"file-{mode:o}"
        path.write_text(f"{mode:o}")
        path.chmod(mode)
    for mode in (0o700, 0o1777, 0o2775):
        path = top / f"folder-{mode:o}"
        path.mkdir()
        path.chmod(mode)


def _make_xattrs(top: Path) -> None:
    top.mkdir()
    (top / "file").write_text("with attributes")
    os.setxattr(top / "file", "user.short", b"value")
    os.setxattr(top / "file", "user.empty", b"")
    os.setxattr(top / "file", "user.binary", bytes(range(256)) * 8)
    os.setxattr(top, "user.on.a.folder", "größer".encode())


def _make_times(top: Path) -> None:
    top.mkdir()
    moments = (
        0,
        1,
        1_234_567_890_123_456_789,
        -86_400 * SECOND + 999_999_999,
        4_102_444_800 * SECOND + 7,
    )
    for moment in moments:
        path = top / f"at {moment}"
        path.write_text("t")
        os.utime(path, ns=(moment, moment))
    os.symlink("nowhere", top / "link")
    os.utime(top / "link", ns=(5, 1_111_111_111_111_111_111), follow_symlinks=False)
    (top / "folder").mkdir()
    os.utime(top / "folder", ns=(7, 999_999_999_999_999_999))
    os.utime(top, ns=(8, 1_000_000_000_000_000_001))


# --- comparison ----------------------------------------------------------------------------------


def differences(left: Path, right: Path) -> list[str]:
    """What is not the same in two trees, one line each. Access and change times do not count."""
    ours, theirs = dict(_walk(left)), dict(_walk(right))
    found = [f"only in {left}: {path!r}" for path in sorted(ours.keys() - theirs.keys())]
    found += [f"only in {right}: {path!r}" for path in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        found += [
            f"{path!r}: {what}: {mine!r} and {other!r}"
            for what, mine, other in _differing(ours[path], theirs[path])
        ]
        if ours[path]["type"] == theirs[path]["type"] == stat.S_IFREG and not _same_content(
            os.path.join(os.fsencode(left), path), os.path.join(os.fsencode(right), path)
        ):
            found.append(f"{path!r}: content")
    return found + _differing_links(ours, theirs)


def _walk(top: Path) -> Iterator[tuple[bytes, dict[str, object]]]:
    root = os.fsencode(top)
    yield b".", _description(root)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            yield os.path.relpath(path, root), _description(path)


def _description(path: bytes) -> dict[str, object]:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    return {
        "type": kind,
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "size": status.st_size if kind in {stat.S_IFREG, stat.S_IFLNK} else None,
        "links": status.st_nlink if kind != stat.S_IFDIR else None,
        "target": os.readlink(path) if kind == stat.S_IFLNK else None,
        "xattrs": _xattrs(path) if kind in {stat.S_IFREG, stat.S_IFDIR} else None,
        "inode": status.st_ino,
    }


def _xattrs(path: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")
    }


def _differing(
    ours: dict[str, object], theirs: dict[str, object]
) -> Iterator[tuple[str, object, object]]:
    for what, mine in ours.items():
        if what != "inode" and mine != theirs[what]:
            yield what, mine, theirs[what]


def _same_content(left: bytes, right: bytes) -> bool:
    with open(left, "rb") as first, open(right, "rb") as second:
        while True:
            mine, other = first.read(1 << 20), second.read(1 << 20)
            if mine != other:
                return False
            if not mine:
                return True


def _differing_links(
    ours: dict[bytes, dict[str, object]], theirs: dict[bytes, dict[str, object]]
) -> list[str]:
    """Names that are one file on one side and several on the other."""
    left, right = _link_groups(ours), _link_groups(theirs)
    return [f"linked together on one side only: {sorted(group)!r}" for group in left ^ right]


def _link_groups(entries: dict[bytes, dict[str, object]]) -> set[frozenset[bytes]]:
    groups = defaultdict(set)
    for path, entry in entries.items():
        if entry["type"] != stat.S_IFDIR:
            groups[entry["inode"]].add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def rsync_differences(left: Path, right: Path) -> str:
    """What ``rsync -anc`` would still do to make ``right`` like ``left``; empty when nothing."""
    return _output(
        "rsync",
        "-ancHX",
        "--itemize-changes",
        "--delete",
        "--modify-window=-1",
        f"{left}/",
        f"{right}/",
    )


def diff_differences(left: Path, right: Path) -> str:
    """What ``diff -r`` finds. It calls any two FIFOs different, so those it does not get to see."""
    return _output("diff", "-r", "--no-dereference", "-x", "fifo", str(left), str(right))


def _output(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=300
    )
    return done.stdout + done.stderr
