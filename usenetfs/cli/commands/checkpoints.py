"""``usenetfs checkpoints``: the points in time that can be mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import console, note, say_json
from usenetfs.cli.states import moment
from usenetfs.config.units import human_size
from usenetfs.errors import DataUnavailableError

if TYPE_CHECKING:
    from usenetfs.checkpoint.record import Record
    from usenetfs.daemon.recovery import Servers

Found = list["Record | tuple[int, str]"]


def run(common: Common, name: str, *, count: int, as_json: bool) -> None:
    """List the last ``count`` checkpoints of ``name``; 0: all."""
    from usenetfs.article.keys import KeySet
    from usenetfs.cli.unlock import unlock_filesystem, vault_passwords
    from usenetfs.daemon.recovery import list_checkpoints, with_servers

    paths = common.directories.existing(name)
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    unlocked = unlock_filesystem(paths, passphrases)
    passwords = vault_passwords(common, passphrases)

    async def work(servers: Servers) -> Found:
        keys = KeySet.from_master(unlocked.master_key, unlocked.filesystem_id)
        reader = servers.chain(keys, unlocked.filesystem_id)
        newest = await reader.find_end()
        if newest is None:
            raise DataUnavailableError(
                "there is no checkpoint on the servers",
                hint="the first one is published at init, or at the next sync",
            )
        return await list_checkpoints(reader, newest, count or newest + 1)

    found = with_servers(common.settings, passwords, work)
    if as_json:
        say_json([_as_json(item) for item in found])
    else:
        _show(found)


def _as_json(item: Record | tuple[int, str]) -> dict[str, object]:
    if isinstance(item, tuple):
        return {"number": item[0], "lost": item[1]}
    return {
        "number": item.number,
        "time": item.time,
        "writer": item.writer.hex(),
        "epoch": item.epoch,
        "files": item.counters.files,
        "directories": item.counters.directories,
        "bytes": item.counters.bytes,
        "held": item.counters.held,
        "snapshot": item.snapshot is not None,
    }


def _show(found: Found) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("number", "time", "files", "bytes", "writer", ""):
        table.add_column(heading, justify="right" if heading in {"files", "bytes"} else "left")
    writers: set[bytes] = set()
    for item in found:
        if isinstance(item, tuple):
            table.add_row(str(item[0]), "lost", "", "", "", item[1])
            continue
        remarks = []
        if writers and item.writer not in writers:
            remarks.append("another writer took over")
        if item.snapshot is not None:
            remarks.append("whole")
        writers.add(item.writer)
        table.add_row(
            str(item.number),
            moment(item.time),
            str(item.counters.files),
            human_size(item.counters.bytes),
            item.writer.hex()[:8],
            ", ".join(remarks),
        )
    console().print(table)
    note('Mount one: usenetfs mount NAME MOUNTPOINT --at NUMBER, or a time: --at "2 h ago"')
