"""One process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from usenetfs import lock
from usenetfs.errors import FilesystemBusyError, LocalStorageError

HOLD = """
import sys
from pathlib import Path
from usenetfs import lock
with lock.exclusive(Path(sys.argv[1]), name="photos", purpose="held by a test"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(FilesystemBusyError) as caught,
            lock.exclusive(file, name="photos", purpose="x"),
        ):
            raise AssertionError("not reached")
        assert str(caught.value) == (
            f'filesystem "photos" is in use: held by a test, by process {holder.pid}'
        )
        holder.kill()
        holder.wait()
    with lock.exclusive(file, name="photos", purpose="after the kill"):
        assert file.read_text() == f"{os.getpid()} after the kill\n"
    assert file.read_text() == ""
    assert file.stat().st_mode & 0o777 == 0o600


def test_children_do_not_hold_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lock.exclusive(file, name="photos", purpose="x"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with lock.exclusive(file, name="photos", purpose="y"):
        pass
    child.communicate()


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalStorageError, match="cannot lock"),
        lock.exclusive(tmp_path / "none" / "lock", name="photos", purpose="x"),
    ):
        raise AssertionError("not reached")
