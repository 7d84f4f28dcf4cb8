"""``usenetfs sync``: wait until everything is safe."""

from __future__ import annotations

from typing import Final

from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say_json
from usenetfs.cli.progress import while_draining
from usenetfs.config.units import human_duration
from usenetfs.control.client import ControlClient

LEAVE: Final = (
    "Ctrl-C stops waiting; what is staged is safe on this disk and the mount goes on trying"
)


def run(common: Common, name: str | None, *, as_json: bool) -> None:
    """Sync the filesystem ``name``, which must be mounted."""
    directories = common.directories
    paths = directories.existing(name) if name else directories.only()
    client = ControlClient(paths.control_socket, name=paths.name)
    client.status()  # quick: says so when it is not mounted
    report = while_draining(client, client.sync, "syncing", leave=LEAVE)
    if as_json:
        say_json(report.to_json())
    else:
        note(f"Everything in {paths.name} is safe ({human_duration(report.duration)}).")
