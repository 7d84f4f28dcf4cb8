"""Real files to copy: the interpreter's standard library and pip, some thousands of files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from pathlib import Path


def copy_real_tree(target: Path) -> None:
    """Copy the standard library (without what was installed beside it) and pip below ``target``."""
    library = Path(sysconfig.get_path("stdlib"))
    installed = shutil.ignore_patterns("site-packages", "dist-packages", "lib-dynload")
    shutil.copytree(library, target / library.name, symlinks=True, ignore=installed)
    shutil.copytree(Path(sysconfig.get_path("purelib")) / "pip", target / "pip", symlinks=True)


def write_random(path: Path, size: int) -> None:
    """A file of ``size`` random octets: neither compression nor deduplication helps with it."""
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(os.urandom(min(1 << 20, size - start)))


def hashes(top: Path) -> dict[str, bytes]:
    """SHA-256 of each file below ``top`` (of a symbolic link: its target), by relative path."""
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                digest = b"-> " + os.fsencode(path.readlink())
            else:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            found[str(path.relative_to(top))] = digest
    return found


def total_size(top: Path) -> int:
    """Octets in the files below ``top``."""
    return sum(
        Path(folder, name).lstat().st_size for folder, _, names in os.walk(top) for name in names
    )
