"""Real programs work inside the mount: version control, compilers, databases."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from scripts.world import Mount, World
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

SOURCES = 24
"""Translation units of the C project."""


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.net",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.net",
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _remounted(world: World, mount: Mount) -> None:
    mount.stop()
    world.drop_cache()
    mount.start()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a history: standard library packages, one commit each."""
    path = tmp_path / "origin"
    path.mkdir()
    _run("git", "init", "-q", "-b", "main", cwd=path)
    library = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("json", "email", "http", "asyncio", "importlib", "xml", "unittest", "logging"):
        shutil.copytree(library / package, path / package, ignore=ignored)
        _run("git", "add", ".", cwd=path)
        _run("git", "commit", "-qm", f"Add {package}", cwd=path)
    return path


def test_git(world: World, mount: Mount, repository: Path) -> None:
    clone = mount.path / "clone"
    _run("git", "clone", "-q", "--no-local", repository, clone, cwd=mount.path)
    _run("git", "fsck", "--full", "--strict", cwd=clone)
    (clone / "json" / "new.py").write_text("print('new')\n")
    _run("git", "mv", "http", "hypertext", cwd=clone)
    _run("git", "add", ".", cwd=clone)
    _run("git", "commit", "-qm", "Change inside the mount", cwd=clone)
    _run("git", "gc", "-q", "--aggressive", "--prune=now", cwd=clone)
    _run("git", "checkout", "-q", "HEAD~5", cwd=clone)
    _run("git", "checkout", "-q", "main", cwd=clone)
    head = _run("git", "rev-parse", "HEAD", cwd=clone)
    _remounted(world, mount)
    _run("git", "fsck", "--full", "--strict", cwd=clone)
    assert _run("git", "rev-parse", "HEAD", cwd=clone) == head
    assert _run("git", "status", "--porcelain", cwd=clone) == ""
    assert _run("git", "log", "--oneline", cwd=clone).count("\n") == 9


def test_compileall(world: World, mount: Mount) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    target = mount.path / "library"
    ignored = shutil.ignore_patterns(
        "__pycache__", "site-packages", "dist-packages", "lib-dynload", "test", "idlelib", "lib2to3"
    )
    shutil.copytree(library, target, ignore=ignored, symlinks=True)
    _run(sys.executable, "-m", "compileall", "-q", target, cwd=mount.path)
    _remounted(world, mount)
    program = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import json; print(json.__cached__)"
    )
    command = [sys.executable, "-I", "-B", "-S", "-c", program]
    assert str(target / "json" / "__pycache__") in _run(*command, cwd=mount.path)


def _write_c_project(top: Path) -> None:
    top.mkdir()
    calls = "".join(f"    total += part_{n}();\n" for n in range(SOURCES))
    declarations = "".join(f"int part_{n}(void);\n" for n in range(SOURCES))
    (top / "parts.h").write_text(declarations)
    for number in range(SOURCES):
        (top / f"part_{number}.c").write_text(
            f'#include "parts.h"\nint part_{number}(void) {{ return {number}; }}\n'
        )
    (top / "main.c").write_text(
        '#include <stdio.h>\n#include "parts.h"\n'
        f"int main(void) {{\n    int total = 0;\n{calls}"
        '    printf("%d\\n", total);\n    return 0;\n}\n'
    )
    (top / "Makefile").write_text(
        "PARTS := $(patsubst %.c,%.o,$(wildcard part_*.c))\n"
        "program: main.o libparts.a\n\t$(CC) -o $@ $^\n"
        "libparts.a: $(PARTS)\n\t$(AR) rcs $@ $^\n"
        "%.o: %.c parts.h\n\t$(CC) -O1 -c -o $@ $<\n"
    )


def test_a_build_with_make(world: World, mount: Mount) -> None:
    project = mount.path / "project"
    _write_c_project(project)
    _run("make", "-s", "-j2", cwd=project)
    assert _run("./program", cwd=project) == f"{sum(range(SOURCES))}\n"
    assert "up to date" in _run("make", cwd=project)
    _remounted(world, mount)
    assert _run("./program", cwd=project) == f"{sum(range(SOURCES))}\n"
    assert "up to date" in _run("make", cwd=project), "modification times came back changed"


def test_a_database(world: World, mount: Mount) -> None:
    path = mount.path / "data.sqlite"
    rows = ((n, n * n) for n in range(20_000))
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, square INTEGER)")
        database.executemany("INSERT INTO numbers VALUES (?, ?)", rows)
    for step in range(5):
        with database:
            database.execute("UPDATE numbers SET square = square + 1 WHERE n % 5 = ?", (step,))
    database.close()
    _remounted(world, mount)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT count(*), sum(square - n * n) FROM numbers").fetchall() == [
        (20_000, 20_000)
    ]
    database.close()


def test_a_database_with_a_log_and_two_connections(world: World, mount: Mount) -> None:
    """The write-ahead log, whose index both connections map into memory."""
    path = mount.path / "data.sqlite"
    writer = sqlite3.connect(path)
    assert writer.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    writer.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, square INTEGER)")
    reader = sqlite3.connect(path)
    for step in range(20):
        with writer:
            rows = ((n, n * n) for n in range(step * 500, step * 500 + 500))
            writer.executemany("INSERT INTO numbers VALUES (?, ?)", rows)
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (step * 500 + 500,)
        if step % 7 == 6:
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    reader.close()
    writer.close()
    _remounted(world, mount)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT count(*), sum(square - n * n) FROM numbers").fetchall() == [
        (10_000, 0)
    ]
    database.close()


def _save_as_vim_does(path: Path, content: bytes) -> None:
    """What strace shows of ``:w`` with a backup: a probe, the old file aside, a new one, fsync."""
    probe, backup = path.with_name("4913"), path.with_name(f"{path.name}~")
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o100640)
    os.fchown(descriptor, os.getuid(), os.getgid())
    os.close(descriptor)
    probe.unlink()
    mode = path.stat().st_mode
    path.rename(backup)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640)
    os.write(descriptor, content)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)
    os.close(descriptor)
    backup.unlink()


def test_an_editor_saves_by_rename(world: World, mount: Mount) -> None:
    """Killed after any save, the file is as the last one left it."""
    path = mount.path / "notes.txt"
    path.write_bytes(b"first\n")
    path.chmod(0o600)
    content = b""
    for number in range(1, 13):
        content = b"line %d\n" % number * number * 100
        _save_as_vim_does(path, content)
        assert path.read_bytes() == content
        if number % 4 == 0:
            mount.kill()
            mount.start()
            assert path.read_bytes() == content
            assert os.listdir(mount.path) == [path.name]
    _remounted(world, mount)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600


def test_rewriting_what_is_already_stored(world: World, mount: Mount) -> None:
    path = mount.path / NAME
    content = bytearray(os.urandom(3_000_000))
    path.write_bytes(content)
    mount.sync()
    with path.open("r+b") as file:
        for offset in (0, 716_795, 1_433_600, 2_999_990):
            file.seek(offset)
            file.write(b"0123456789")
            content[offset : offset + 10] = b"0123456789"
        file.truncate(2_900_001)
    del content[2_900_001:]
    mount.sync()
    with path.open("ab") as file:
        file.write(b"the end")
    content += b"the end"
    os.truncate(path, 3_500_000)
    content += bytes(3_500_000 - len(content))
    _remounted(world, mount)
    assert path.read_bytes() == content
