"""What programs do with many small files, timed from within; figures as JSON on stdout.

``create FOLDER COUNT SIZE``  make, write and close files, one after the other
``stat FOLDER``               ask for the attributes of every file, twice; the second time counts
``list FOLDER``               list a directory, names alone, as ``ls -f`` does
``find FOLDER``               walk a tree as ``find`` does, with the attributes of everything
``remove FOLDER``             ``rm -rf``
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path


def create(folder: Path, count: int, size: int) -> int:
    folder.mkdir(exist_ok=True)
    data = bytearray(os.urandom(size))
    for number in range(count):
        data[:4] = number.to_bytes(4, "big")  # no two are equal
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        descriptor = os.open(folder / f"file {number:06}", flags, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
    return count


def stat(folder: Path) -> int:
    paths = [os.path.join(folder, name) for name in os.listdir(folder)]
    for path in paths:
        os.lstat(path)
    started = time.perf_counter()
    for path in paths:
        os.lstat(path)
    print(json.dumps({"count": len(paths), "seconds": time.perf_counter() - started}))
    return 0


def list_names(folder: Path) -> int:
    return len(os.listdir(folder))


def find(folder: Path) -> int:
    found = 0
    for top, directories, files in os.walk(folder):
        for name in files:
            os.lstat(os.path.join(top, name))
        found += len(files) + len(directories)
    return found


def remove(folder: Path) -> int:
    count = len(os.listdir(folder))
    shutil.rmtree(folder)
    return count


def main(what: str, folder: str, *numbers: str) -> None:
    """Do it; ``count`` is how many files it was about."""
    works: dict[str, Callable[..., int]] = {
        "create": create,
        "stat": stat,
        "list": list_names,
        "find": find,
        "remove": remove,
    }
    started = time.perf_counter()
    count = works[what](Path(folder), *map(int, numbers))
    if count:
        print(json.dumps({"count": count, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
