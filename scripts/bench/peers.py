"""The programs that usenetfs is compared with: where they are, and how to fetch them.

Found on PATH or in ``.cache/peers`` of the checkout. Fetched only when asked: ``make bench-peers``
runs this module, which gets Nyuu by npm (its yEnc module is compiled here, with the headers that
came with node) and unpacks Debian's NZBGet without installing it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.bench.machine import CHECKOUT

PEERS: Final = CHECKOUT / ".cache" / "peers"
NYUU_VERSION: Final = "0.4.0"
ABSENT: Final = "not installed; `make bench-peers` fetches it"


def nyuu() -> Path | None:
    """The program, if it is there."""
    return _find("nyuu", PEERS / "nyuu" / "node_modules" / ".bin" / "nyuu")


def nzbget() -> Path | None:
    """The program, if it is there."""
    return _find("nzbget", PEERS / "nzbget" / "prefix" / "usr" / "bin" / "nzbget")


def _find(name: str, fetched: Path) -> Path | None:
    if fetched.exists():
        return fetched
    found = shutil.which(name)
    return Path(found) if found else None


def fetch_nyuu() -> None:
    """Into ``.cache/peers/nyuu``."""
    folder = PEERS / "nyuu"
    folder.mkdir(parents=True, exist_ok=True)
    # The compiled module wants node's headers; those of the installed node need no download.
    node = shutil.which("node")
    headers = Path(node).resolve().parents[1] if node else Path("/usr")
    common = ["--no-audit", "--no-fund", f"--nodedir={headers}"]
    _run(["npm", "install", *common, "--ignore-scripts", f"nyuu@{NYUU_VERSION}"], folder)
    _run(["npm", "rebuild", *common, "--dangerously-allow-all-scripts", "yencode"], folder)


def fetch_nzbget() -> None:
    """Into ``.cache/peers/nzbget``."""
    folder = PEERS / "nzbget"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run(["apt-get", "-qq", "download", "nzbget"], folder)
    (package,) = folder.glob("nzbget_*.deb")
    _run(["dpkg-deb", "-x", package.name, "prefix"], folder)


def _run(command: list[str], folder: Path) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(command, cwd=folder, check=True)


def main() -> int:
    """Fetch what is not there yet; 1 when something could not be had."""
    status = 0
    for name, find, fetch in (("Nyuu", nyuu, fetch_nyuu), ("NZBGet", nzbget, fetch_nzbget)):
        if find() is None:
            try:
                fetch()
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{name} could not be fetched: {error}", file=sys.stderr)
                status = 1
                continue
        print(f"{name}: {find()}")
    return status


if __name__ == "__main__":
    sys.exit(main())
