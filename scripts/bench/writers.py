"""A program that copies the files of a folder with many writers at once: ``SOURCE TARGET WRITERS``.

Each writer is a thread that takes the next file, as a hundred users of a file server would.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main(source: Path, target: Path, writers: int) -> None:
    """Copy; the first error that any writer met is raised."""
    with ThreadPoolExecutor(writers) as pool:
        names = [path.name for path in source.iterdir()]
        for copied in pool.map(lambda name: shutil.copyfile(source / name, target / name), names):
            assert copied.parent == target


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
