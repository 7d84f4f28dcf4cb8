"""Nyuu posting files, as a contestant: how it is called and what it says it posted."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.articles import GROUP
from scripts.bench.processes import Ended, run_measured
from scripts.world import Endpoint
from usenetfs.types import MessageId

TIMEOUT = 600.0
_NZB = "{http://www.newzbin.com/DTD/2003/nzb}"


def post(
    program: Path, server: Endpoint, paths: Sequence[Path], nzb: Path, *, connections: int
) -> Ended:
    """Post files (and the files of folders) in articles of 700 KiB; ``nzb`` is written."""
    command: list[str | Path] = [program, "-h", server.host, "-P", str(server.port)]
    command += ["-n", str(connections), "-a", "700K", "-g", GROUP, "-f", "bench <b@bench.example>"]
    command += ["-r", "keep", "-q", "-O", "-o", nzb]
    return run_measured([*command, *paths], timeout=TIMEOUT)


def posted(nzb: Path) -> list[list[MessageId]]:
    """The Message-IDs of each file that an NZB names, in the order of the parts."""
    files = []
    for file in ET.parse(nzb).getroot().iter(f"{_NZB}file"):
        segments = list(file.iter(f"{_NZB}segment"))
        segments.sort(key=lambda segment: int(segment.get("number", "0")))
        files.append([MessageId(f"<{segment.text}>") for segment in segments])
    return files
