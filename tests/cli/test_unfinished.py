"""What a command that was killed leaves behind, the next one removes; nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from usenetfs.cli.unfinished import unfinished

MAKE = """
import sys
from pathlib import Path
from usenetfs.cli.unfinished import unfinished
with unfinished(Path(sys.argv[1]), ".name.") as making:
    (making / "part").write_bytes(b"x")
    print(making, flush=True)
    sys.stdin.read()
"""


def test_it_is_gone_with_the_block(tmp_path: Path) -> None:
    with unfinished(tmp_path, ".name.") as making:
        (making / "part").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_was_renamed_stays(tmp_path: Path) -> None:
    with unfinished(tmp_path, ".name.") as making:
        making.rename(tmp_path / "name")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(
    tmp_path: Path,
) -> None:
    others = (
        ".name.replaced-20260101-000000-abcd",
        ".name.other.abcdefgh",
        "name",
        ".names.12345678",
    )
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".name.a_file__").write_bytes(b"")
    (tmp_path / ".name.a_link__").symlink_to(tmp_path / "name")
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    with unfinished(tmp_path, ".name."):
        assert (left / "part").exists()
    process.kill()
    process.communicate()
    assert (left / "part").exists()
    with unfinished(tmp_path, ".name."):
        assert not left.exists()
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*others, ".name.a_file__", ".name.a_link__"}
