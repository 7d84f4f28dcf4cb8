"""What a writer was promised by fsync, and what became of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from pathlib import Path

from scripts.world import Mount

SIZES = (0, 1, 3_000, 4_096, 70_000, 716_800, 716_801, 2_500_000)


class Writer:
    """Writes files and syncs them until the filesystem goes away; remembers what was promised."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.promised: dict[str, str] = {}
        """Name to SHA-256, of files whose fsync has returned."""
        self.error: OSError | None = None
        self._folder = folder
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "a write hangs though the daemon is gone"

    def _write(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                self._step(f"file-{number:05}")
        except OSError as error:
            self.error = error

    def _step(self, name: str) -> None:
        content = self._random.randbytes(self._random.choice(SIZES))
        path = self._folder / name
        with path.open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
            self.promised[name] = hashlib.sha256(content).hexdigest()
        if self._random.random() < 0.2:
            self._rename(name)
        elif self._random.random() < 0.2 and len(self.promised) > 3:
            self._rewrite(self._random.choice(sorted(self.promised)))

    def _rename(self, name: str) -> None:
        """A rename followed by an fsync of the folder is promised, too."""
        digest = self.promised.pop(name)  # until it is done either name would be right
        (self._folder / name).rename(self._folder / f"{name}-renamed")
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.promised[f"{name}-renamed"] = digest

    def _rewrite(self, name: str) -> None:
        """While it lasts, neither the old nor the new content is promised."""
        del self.promised[name]
        content = self._random.randbytes(self._random.choice(SIZES))
        with (self._folder / name).open("r+b", buffering=0) as file:
            file.write(content)
            file.truncate(len(content))
            os.fsync(file.fileno())
            self.promised[name] = hashlib.sha256(content).hexdigest()


def broken(mount: Mount, promised: dict[Path, str]) -> list[str]:
    """Names of promised files that are not as promised."""
    found = []
    for path, digest in promised.items():
        try:
            actual = hashlib.sha256((mount.path / path).read_bytes()).hexdigest()
        except OSError as error:
            actual = str(error)
        if actual != digest:
            found.append(f"{path}: {actual}")
    return found


def unsafe_bytes(mount: Mount) -> int:
    """What of the data is on the local disk only, or not yet seen on a server."""
    status = json.loads(mount.world.run("status", mount.name, "--json").stdout)
    durability = status["durability"]
    return int(durability["staged"]["bytes"] + durability["posted"]["bytes"])
