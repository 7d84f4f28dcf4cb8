"""One run of whoever moves a payload over NNTP without a filesystem, each checked afterwards.

Used by all benchmarks: our two clients (``bare.py`` and ``net_client.py``), Nyuu and NZBGet.
Uploads meet a server of their own; what they posted is fetched by the bare loop and compared with
the payload, outside of the time taken.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench import nyuu, nzbget, peers, servers
from scripts.bench.articles import BLOCK, NAME, count, fresh_ids, nzb, opened
from scripts.bench.command import settle
from scripts.bench.machine import CHECKOUT
from scripts.bench.processes import run_measured
from scripts.bench.samples import BenchError, Contestant, Sample
from scripts.bench.transfer import Check
from scripts.world import Endpoint
from usenetfs.article.seal import SEAL_OVERHEAD
from usenetfs.errors import SealError
from usenetfs.types import MessageId

BARE: Final = "scripts.bench.bare"
OURS: Final = "scripts.bench.net_client"
CLIENT_TIMEOUT: Final = 600.0
ENCODED_SIZE: Final = 740_000
"""About what an article has on the wire, for the NZB."""

ServerKind = Callable[[Path], AbstractContextManager[Endpoint]]


@dataclass(frozen=True, slots=True)
class Mover:
    """What is moved, and from where the work is done (``folder``)."""

    payload: Path
    folder: Path
    connections: int

    @property
    def size(self) -> int:
        """Octets of the payload."""
        return self.payload.stat().st_size

    def client(
        self,
        module: str,
        work: str,
        server: Endpoint,
        ids: Path,
        *,
        depth: int = 4,
        check: Check = "open",
        post_ahead: bool = False,
    ) -> Sample:
        """Run one of our two clients; its own figures."""
        command = [sys.executable, "-m", module, work, "--port", str(server.port)]
        command += ["--connections", str(self.connections), "--depth", str(depth)]
        command += ["--check", check, "--ids", str(ids), "--file", str(self.payload)]
        command += ["--post-ahead"] if post_ahead else []
        ended = run_measured(command, timeout=CLIENT_TIMEOUT, directory=CHECKOUT)
        said = json.loads(ended.stdout)
        return Sample(said["size"], said["seconds"], said["cpu_seconds"], said["peak_rss"])

    def new_ids(self) -> Path:
        """A file of Message-IDs that were never used."""
        return self.write_ids(fresh_ids(count(self.size)))

    def write_ids(self, ids: Sequence[MessageId]) -> Path:
        """A file of these."""
        path = self.folder / "ids"
        path.write_text("\n".join(ids) + "\n")
        return path

    # --- uploads ---------------------------------------------------------------------------------

    def uploader(
        self, name: str, module: str, kind: ServerKind, far: float, *, post_ahead: bool = False
    ) -> Contestant:
        """One of our clients, posting to a server ``far`` seconds away and back."""
        return Contestant(name, lambda _: self._upload(module, kind, far, post_ahead))

    def nyuu(self, kind: ServerKind, far: float) -> Contestant:
        """Nyuu, doing the same."""
        program = peers.nyuu()
        if program is None:
            return Contestant("Nyuu", _nothing, peers.ABSENT)

        def run(_: int) -> Sample:
            try:
                return self._upload_by_nyuu(program, kind, far)
            except BenchError:
                # Nyuu 0.4.0 now and then ends with "Timer already set" where a reply comes at once;
                # that says nothing about its speed. A second time it counts.
                return self._upload_by_nyuu(program, kind, far)

        return Contestant("Nyuu", run)

    def _upload(self, module: str, kind: ServerKind, far: float, post_ahead: bool) -> Sample:
        with kind(self.folder) as server:
            ids = self.new_ids()
            settle()
            with servers.distance(server, far) as distant:
                sample = self.client(module, "upload", distant, ids, post_ahead=post_ahead)
            self.client(BARE, "download", server, ids, check="bytes")
        return sample

    def _upload_by_nyuu(self, program: Path, kind: ServerKind, far: float) -> Sample:
        out = self.folder / "nyuu.nzb"
        with kind(self.folder) as server:
            settle()
            with servers.distance(server, far) as distant:
                lines = self.connections
                ended = nyuu.post(program, distant, [self.payload], out, connections=lines)
            (ids,) = nyuu.posted(out)
            self.client(BARE, "download", server, self.write_ids(ids), check="plain")
        return Sample(self.size, ended.seconds, ended.cpu_seconds, ended.peak_rss)

    # --- downloads -------------------------------------------------------------------------------

    def downloader(
        self, name: str, module: str, server: Endpoint, ids: Path, depth: int
    ) -> Contestant:
        """One of our clients, fetching what was posted under ``ids``."""
        return Contestant(name, lambda _: self.client(module, "download", server, ids, depth=depth))

    def nzbget(self, server: Endpoint, ids: Path) -> Contestant:
        """NZBGet, doing the same."""
        program = peers.nzbget()
        if program is None:
            return Contestant("NZBGet", _nothing, peers.ABSENT)
        text = nzb([MessageId(line) for line in ids.read_text().split()], ENCODED_SIZE)
        return Contestant("NZBGet", lambda _: self._download_by_nzbget(program, server, text))

    def _download_by_nzbget(self, program: Path, server: Endpoint, text: str) -> Sample:
        folder = self.folder / "nzbget"
        lines = self.connections
        try:
            with nzbget.running(program, server, folder, connections=lines) as peer:
                fetched = peer.fetch(text, "payload")
            self.compare(fetched.folder / NAME)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Sample(self.size, fetched.seconds, fetched.cpu_seconds, fetched.peak_rss)

    def compare(self, joined: Path) -> None:
        """A file of sealed pieces with the payload; BenchError where they differ."""
        if not joined.exists():
            raise BenchError(f"there is no {joined.name} among what was downloaded")
        with joined.open("rb") as theirs, self.payload.open("rb") as ours:
            for number in range(count(self.size)):
                piece = ours.read(BLOCK)
                try:
                    right = opened(number, theirs.read(len(piece) + SEAL_OVERHEAD)) == piece
                except SealError as error:
                    raise BenchError(f"piece {number} does not open: {error}") from error
                if not right:
                    raise BenchError(f"piece {number} differs from the payload")
            if theirs.read(1):
                raise BenchError("there is more than was posted")


def _nothing(_: int) -> Sample:
    raise BenchError("it is not there")
