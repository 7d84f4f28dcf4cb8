"""``make run``: the main job from end to end, on this machine alone, with figures.

Starts the embedded news server, makes a filesystem on it, mounts it, copies a real tree and one
large file in, syncs, drops every cache and remounts, reads everything back from the server and
compares hashes. On a terminal the filesystem then stays mounted until Ctrl-C. Everything lives in a
temporary directory that is gone afterwards. Exit status 0 only if every byte came back.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.trees import copy_real_tree, hashes, total_size, write_random
from scripts.world import CommandError, Mount, ServerProcess, World, interrupted_by

MB: Final = 1_000_000
LARGE_FILE: Final = 210 * MB
"""Random, so that neither compression nor deduplication flatters the figures."""
NAME: Final = "demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 if everything came back, 1 with the reason otherwise, 130 when interrupted."""
    parser = argparse.ArgumentParser(description="show usenetfs working on this machine")
    parser.add_argument(
        "--leave",
        action="store_true",
        help="end at once, even on a terminal (make run ARGS=--leave)",
    )
    stay = not parser.parse_args(arguments).leave and sys.stdin.isatty() and sys.stdout.isatty()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up, too
    folder = Path(tempfile.mkdtemp(prefix="usenetfs-"))
    try:
        return _demonstrate(folder, stay=stay)
    except (CommandError, TimeoutError) as error:
        print(f"\nThat went wrong:\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _demonstrate(folder: Path, *, stay: bool) -> int:
    source = folder / "source"
    with ServerProcess(folder / "server") as server, World(folder, server.endpoint) as world:
        _say(f"news server on {server.endpoint.host}:{server.endpoint.port}, in {folder}")
        copy_real_tree(source)
        write_random(source / "large.bin", LARGE_FILE)
        expected = hashes(source)
        world.run("init", NAME)
        mount = world.mount(NAME)
        _say(f"filesystem made and mounted on {mount.path}")
        _copy_in(source, mount, expected)
        mount.stop()
        world.drop_cache()
        mount.start()
        _say("unmounted, every cache deleted, mounted again: now all of it is on the server alone")
        came_back = _read_back(mount, expected)
        print(world.run("status", NAME).stdout)
        if stay:
            _wait_for_ctrl_c(world, mount)
        mount.stop()
        spool = total_size(server.spool)
        _say(f"unmounted; the server's spool held {spool / MB:,.0f} MB of sealed articles")
    return 0 if came_back else 1


def _copy_in(source: Path, mount: Mount, expected: dict[str, bytes]) -> None:
    size = total_size(source)
    started = time.monotonic()
    subprocess.run(["cp", "-a", f"{source}/.", mount.path], check=True)
    copied = time.monotonic()
    _say(f"cp -a: {len(expected):,} files, {_rate(size, copied - started)}")
    mount.sync()
    seconds = time.monotonic() - started
    _say(f"cp and sync, until all of it was seen on the server: {_rate(size, seconds)}")


def _read_back(mount: Mount, expected: dict[str, bytes]) -> bool:
    started = time.monotonic()
    actual = hashes(mount.path)
    seconds = time.monotonic() - started
    _say(f"read back: {len(actual):,} files, {_rate(total_size(mount.path), seconds)}")
    for path in sorted(expected.keys() | actual.keys()):
        if expected.get(path) != actual.get(path):
            print(f"  DIFFERS: {path}")
    if actual == expected:
        _say("every SHA-256 is the same as before")
    return actual == expected


def _wait_for_ctrl_c(world: World, mount: Mount) -> None:
    print(f"It stays mounted on {mount.path}. Look around; Ctrl-C ends it. In another terminal:\n")
    print(f"    export USENETFS_CONFIG={world.config_file} USENETFS_DATA_DIR={world.data_dir}")
    print(f"    {Path(sys.executable).parent / 'usenetfs'} status --watch\n", flush=True)
    with interrupted_by(signal.SIGINT, signal.SIGTERM) as event:
        event.wait()
    print()


def _rate(size: int, seconds: float) -> str:
    return f"{size / MB:,.0f} MB in {seconds:.1f} s ({size / MB / seconds:,.0f} MB/s)"


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
