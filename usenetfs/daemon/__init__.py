"""The daemon: every part made once, wired, run in one nursery, and taken down in order."""

from usenetfs.daemon.run import run_daemon

__all__ = ["run_daemon"]
