"""What a whole test run leaves where a secret might have leaked, kept for ``scripts.find_secrets``.

With ``UFS_EVIDENCE=DIR`` in the environment (``scripts.run_tests --keep-logs DIR`` sets it), the
tests' worlds hand over what their commands said, what daemons answered, their logs, arguments and
environment, and the secrets that they used; without it nothing here does anything.

Left out is what is meant to show a secret: standard output of the commands that print the recovery
key or the page's link. Below DIR there is a folder for each process, with ``secrets`` (hexadecimal,
a line each; for this machine's eyes only) beside the evidence.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from usenetfs.article.recovery_key import parse_recovery_key
from usenetfs.errors import UsenetfsError

VARIABLE: Final = "UFS_EVIDENCE"
SECRETS: Final = "secrets"
SHOWING: Final = frozenset({"init", "show-recovery", "--link"})
"""Words of the commands whose standard output shows a secret, as it should."""
SECRET_VARIABLES: Final = ("USENETFS_PASSPHRASE", "USENETFS_VAULT_PASSPHRASE")
SECRET_FILES: Final = (
    "--passphrase-file",
    "--vault-passphrase-file",
    "--password-file",
    "--recovery-key-file",
)
ANSWERS: Final = ("status", "history", "operations", "metrics", "cache", "limits", "openapi.json")
PATIENCE: Final = 5.0
"""Seconds that a daemon has for each answer."""

_RECOVERY_KEY: Final = re.compile(r"\b(?:[0-9A-Z]{4,12}-){5,20}[0-9A-Z]{4,12}\b")
_numbers = itertools.count(1)


def folder() -> Path | None:
    """Where this process keeps what it has; None: it keeps nothing."""
    top = os.environ.get(VARIABLE)
    if not top:
        return None
    place = Path(top) / str(os.getpid())
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def keep(kind: str, *texts: str | bytes) -> None:
    """Something that was said."""
    place = folder()
    if place is not None:
        with (place / f"{kind}.said").open("ab") as file:
            for text in texts:
                file.write((text if isinstance(text, bytes) else os.fsencode(text)) + b"\n")


def secret(*values: str | bytes) -> None:
    """Something that must not be found."""
    place = folder()
    if place is not None:
        with (place / SECRETS).open("a") as file:
            for value in values:
                raw = value if isinstance(value, bytes) else os.fsencode(value)
                file.write(raw.strip(b"\r\n").hex() + "\n")


def command(
    arguments: Sequence[object],
    environment: Mapping[str, str],
    stdout: str | bytes,
    stderr: str | bytes,
    *,
    name: str = "commands",
) -> None:
    """A command of usenetfs has ended."""
    if folder() is None:
        return
    words = [str(argument) for argument in arguments]
    shown = stdout if isinstance(stdout, str) else stdout.decode("utf-8", "replace")
    secret(*(environment[name] for name in SECRET_VARIABLES if environment.get(name)))
    _secrets_of_files(
        [environment.get(f"{name}_FILE", "") for name in SECRET_VARIABLES],
        _values(words, SECRET_FILES),
    )
    for key in _RECOVERY_KEY.findall(shown):
        with contextlib.suppress(UsenetfsError):
            secret(parse_recovery_key(key), key, key[:11])
    keep(name, " ".join(words), stderr)
    if not SHOWING.intersection(words):
        keep(name, stdout)


def _values(words: Sequence[str], options: Iterable[str]) -> Iterator[str]:
    """What stands behind these options, or after their equals sign."""
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name in options:
            yield value if equals else following


def _secrets_of_files(*groups: Iterable[str]) -> None:
    for name in itertools.chain(*groups):
        with contextlib.suppress(OSError):
            if name and name != "-" and Path(name).is_file():
                secret(Path(name).read_bytes())


def answers(data_dir: Path) -> None:
    """What the daemons below a data directory answer now, and what the kernel shows of them."""
    if folder() is None:
        return
    sockets = (*data_dir.glob("*/control.sock"), *data_dir.glob("*/views/*/control.sock"))
    for path in sockets:
        for target in ANSWERS:
            with contextlib.suppress(OSError):
                keep("answers", _get(path, f"/v1/{target}"))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if b"usenetfs" in line:
                keep("processes", line)
    for lock in data_dir.glob("*/lock"):
        with contextlib.suppress(OSError, IndexError):
            keep("processes", Path(f"/proc/{lock.read_text().split()[0]}/environ").read_bytes())


def _get(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(65536), b""))


def logs(top: Path) -> None:
    """The logs and crash reports below a folder, and the tokens that they must not show."""
    place = folder()
    if place is None or not top.is_dir():
        return
    # Path.rglob fails at a link whose target is too long for a name, and at a disk that is gone.
    for directory, directories, names in os.walk(top):
        directories[:] = [name for name in directories if not name.startswith("mnt-")]
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(OSError):
                if path.is_symlink() or not path.is_file():
                    continue
                if path.name == "token":
                    secret(path.read_bytes())
                elif path.parent.name == "logs" or path.suffix in {".log", ".err"}:
                    shutil.copyfile(path, place / f"{next(_numbers):06}-{path.name}")
