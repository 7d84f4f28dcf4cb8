"""What bench-metadata has done, on a local disk and on the filesystem that does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench import small_files
from scripts.bench.machine import CHECKOUT
from scripts.bench.metadata import works
from scripts.bench.processes import ended_whatever_happens
from scripts.world import wait_until


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[Path]:
    """The filesystem that does nothing, with three directories of five files."""
    folder = tmp_path / "nothing"
    folder.mkdir()
    command = [sys.executable, "-m", "scripts.bench.nothing", str(folder), "3", "5"]
    with subprocess.Popen(command, cwd=CHECKOUT) as process, ended_whatever_happens(process):
        wait_until(folder.is_mount, "it is mounted", 30)
        yield folder
        subprocess.run(["fusermount3", "-u", str(folder)], check=True)
        assert process.wait(timeout=30) == 0


def said(capsys: pytest.CaptureFixture[str]) -> int:
    found: dict[str, int] = json.loads(capsys.readouterr().out)
    return found["count"]


def test_what_is_done_with_small_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "files")
    small_files.main("create", folder, "20", "4096")
    assert said(capsys) == 20
    contents = {path.read_bytes() for path in Path(folder).iterdir()}
    assert {len(content) for content in contents} == {4096}
    assert len(contents) == 20, "equal files are stored once, and would cost less"
    for what in ("stat", "list", "find"):
        small_files.main(what, folder)
        assert said(capsys) == 20
    small_files.main("remove", folder)
    assert said(capsys) == 20
    assert not Path(folder).exists()


@pytest.mark.fuse
def test_the_filesystem_that_does_nothing_knows_names(
    nothing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_files.find(nothing) == 3 + 15
    assert small_files.list_names(nothing / "d00001") == 5
    small_files.main("create", str(nothing / "files"), "300", "4096")
    assert said(capsys) == 300
    assert (nothing / "files" / "file 000299").stat().st_size == 4096
    assert small_files.list_names(nothing / "files") == 300
    assert small_files.remove(nothing / "files") == 300
    assert not (nothing / "files").exists()


def test_every_kind_of_work_has_a_name_of_its_own(tmp_path: Path) -> None:
    found = works(tmp_path)
    assert len({work.key for work in found}) == len(found)
    assert all(work.command(tmp_path / "top") for work in found)
