"""Search what a test run left for every secret that it used: nothing must be found.

    python -m scripts.find_secrets DIR       DIR as scripts.run_tests --keep-logs DIR filled it

``grep`` does the searching, for each secret in every spelling: as it is, as JSON, in an address, in
hex and base64, as Python shows it. Status 1 when something is found, or when there is nothing to
search or to search for: no evidence is not evidence that all is well.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from scripts.evidence import SECRETS

SHORTEST: Final = 8
"""Octets of a secret that is searched for: shorter ones, which tests give to see them refused, are
words of every log."""
MOST_SHOWN: Final = 20


def spellings(secret: bytes) -> Iterator[bytes]:
    """A secret as text, JSON, address, hex, base64, and as Python shows it."""
    yield secret
    yield repr(secret)[2:-1].encode()
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    text = secret.decode("latin-1")
    yield json.dumps(text)[1:-1].encode()
    yield urllib.parse.quote(text).encode()


def patterns(secrets: Iterable[bytes]) -> set[bytes]:
    """What grep is to look for, a line each. Of a spelling with line ends in it the longest piece
    without, if that is long enough to mean anything."""
    found = set()
    for secret in secrets:
        for spelling in spellings(secret):
            pieces = re.split(rb"[\n\r\0]", spelling)
            longest = max(pieces, key=len)
            if len(longest) >= SHORTEST:
                found.add(longest)
    return found


def main(arguments: Sequence[str]) -> int:
    """The program."""
    if len(arguments) != 1:
        print(__doc__)
        return 2
    return search(Path(arguments[0]))


def search(top: Path) -> int:
    """0: there was something to search, and no secret in it."""
    secrets = set[bytes]()
    for file in top.rglob(SECRETS):
        secrets.update(bytes.fromhex(line) for line in file.read_text().split())
    searched = {secret for secret in secrets if len(secret) >= SHORTEST}
    files = [path for path in top.rglob("*") if path.is_file() and path.name != SECRETS]
    size = sum(path.stat().st_size for path in files)
    if not searched or not size:
        print(f"{top}: nothing to search for, or nothing to search: this shows nothing")
        return 1
    hits = _grep(top, patterns(searched))
    for hit in hits[:MOST_SHOWN]:
        print(f"found: {hit}")
    print(
        f"{len(hits)} lines with a secret, in {len(files)} files ({size / 1e6:.1f} MB) that were "
        f"searched for {len(searched)} secrets in every spelling"
        f" ({len(secrets) - len(searched)} shorter than {SHORTEST} octets were left out)"
    )
    return int(bool(hits))


def _grep(top: Path, wanted: set[bytes]) -> list[str]:
    """``file:line`` of each line that has one; never the line itself, which would tell it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(sorted(wanted)) + b"\n")
        file.flush()
        done = subprocess.run(
            ["grep", "-aFrn", f"--exclude={SECRETS}", "-f", file.name, str(top)],
            stdout=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"grep ended with status {done.returncode}")
    return [
        b":".join(line.split(b":", 2)[:2]).decode("utf-8", "replace")
        for line in done.stdout.splitlines()
        if line.startswith(os.fsencode(top))
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
