"""How long ``usenetfs mount`` takes over an index of a given size, and what its daemon then holds.

The filesystem is a real one, made by ``init`` on the embedded server; its empty index is exchanged
for the one that was built, which is given the filesystem's identity and its place in the chain. (So
names cannot be looked up, their places being keyed; listing works.)
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from scripts.world import Mount, ServerProcess, World
from usenetfs.index.shard_files import shard_files

NAME: Final = "bench"
_SAME: Final = ("meta", "local_chain", "local_publication", "local_held", "local_meta")
_NEW_FILES: Final = 2000


def mounting(path: Path) -> dict[str, float]:
    """Seconds of the command (its own start included) after a clean stop and after kill -9, and
    octets that the daemon holds at rest. The index at ``path`` is used up."""
    with (
        tempfile.TemporaryDirectory(prefix="b.", dir=path.parent) as text,
        ServerProcess(Path(text) / "s") as server,
        World(Path(text) / "w", server.endpoint) as world,
    ):
        world.run("init", NAME)
        _exchange(world.data_dir / NAME / "index.db", path)
        mount = world.mount(NAME)  # takes in what the exchange left
        mount.stop()
        figures = {"mount s": _seconds(mount.start), "RSS of the daemon at rest MB": _held(mount)}
        for number in range(_NEW_FILES):
            (mount.path / f"new {number}").write_bytes(b"")
        mount.kill()
        figures["mount after kill -9 s"] = _seconds(mount.start)
        found = sum(entry.name.startswith("new ") for entry in os.scandir(mount.path))
        assert found > _NEW_FILES // 2, found  # what was not synced yet may be gone
        mount.stop()
        return figures


def _exchange(place: Path, built: Path) -> None:
    made = place.with_name("made.db")
    place.rename(made)
    built.rename(place)
    for file in shard_files(built):
        file.rename(place.with_name(file.name))
    connection = apsw.Connection(str(place))
    connection.execute("ATTACH ? AS made", (str(made),))
    with connection:
        for table in _SAME:
            # but for which files it is spread over, all of it is the made one's
            rest = "WHERE key NOT LIKE 'shard%'" if table == "local_meta" else ""
            connection.execute(f"DELETE FROM main.{table} {rest}")
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM made.{table}")
    connection.close()


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _held(mount: Mount) -> float:
    pid = mount.pid
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024 / 1e6
