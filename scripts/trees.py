"""Real files to copy: the interpreter's standard library and pip, some thousands of files.

Benchmarks have a tree of the same size everywhere (:func:`copy_sized_tree`): a standard library
differs from one machine to the next.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

TREE_FILES: Final = 2400
TREE_SIZE: Final = 100_000_000


def copy_real_tree(target: Path) -> None:
    """Copy the standard library (without what was installed beside it) and pip below ``target``."""
    _copy_library(target)
    shutil.copytree(Path(sysconfig.get_path("purelib")) / "pip", target / "pip", symlinks=True)


def _copy_library(target: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    installed = shutil.ignore_patterns("site-packages", "dist-packages", "lib-dynload")
    shutil.copytree(library, target / library.name, symlinks=True, ignore=installed)


def copy_sized_tree(target: Path, *, files: int = TREE_FILES, size: int = TREE_SIZE) -> None:
    """The standard library below ``target``, and beside it as much of its text in other cuts as
    makes ``files`` files of ``size`` octets in all, about (or one more than there are already)."""
    _copy_library(target)
    sources = library_text()
    missing = max(1, files - sum(len(names) for _, _, names in os.walk(target)))
    each = max(1, (size - total_size(target)) // missing)
    for number in range(missing):
        folder = target / "more" / f"{number // 50:02}"
        folder.mkdir(parents=True, exist_ok=True)
        start = number * each % max(1, len(sources) - each)
        text = b"# %d\n%s" % (number, sources[start : start + each])
        (folder / f"{number:04}.py").write_bytes(text[:each])


def library_text() -> bytes:
    """The standard library's modules one after the other: some megabytes of text."""
    library = Path(sysconfig.get_path("stdlib"))
    return b"".join(file.read_bytes() for file in sorted(library.glob("*.py")))


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
