"""``make bench-net``: the news client by itself, beside the bare loop, Nyuu and NZBGet.

Uploads and downloads of one random file in 700 KiB articles. Each upload meets a server with an
empty spool, and afterwards all of it is fetched by the bare loop and compared with the file. All
downloads fetch the same articles; before the rounds each of our clients fetches all of them once
and compares them with the file, in the rounds each article has to open under its seal, which is
bound to its number. What NZBGet joined is opened and compared each time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench import nyuu, nzbget, peers, servers
from scripts.bench.articles import BLOCK, NAME, count, fresh_ids, nzb, opened
from scripts.bench.command import Options, run_benchmark, settle
from scripts.bench.data import write_random
from scripts.bench.processes import run_measured
from scripts.bench.samples import BenchError, Contestant, Sample, Scenario
from scripts.bench.transfer import Check
from scripts.world import Endpoint
from usenetfs.article.seal import SEAL_OVERHEAD
from usenetfs.config.units import human_size
from usenetfs.errors import SealError
from usenetfs.types import MessageId

BARE: Final = "scripts.bench.bare"
OURS: Final = "scripts.bench.net_client"
CLIENT_TIMEOUT: Final = 600.0
ENCODED_SIZE: Final = 740_000
"""About what an article has on the wire, for the NZB."""

ServerKind = Callable[[Path], AbstractContextManager[Endpoint]]
SERVERS: Final[dict[str, tuple[str, ServerKind]]] = {
    "inn": ("INN", servers.inn),
    "nntpd": ("the embedded server", servers.embedded),
}
ROUND_TRIPS: Final = (0, 30)
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class NetBench:
    """The file that is moved, and the ways to move it."""

    options: Options
    payload: Path

    def scenarios(self) -> Iterator[Scenario]:
        """Both directions, both servers, near and far."""
        size, lines = human_size(self.options.size), self.options.connections
        for way, opening in (("download", self._downloads), ("upload", self._uploads)):
            for key, (name, kind) in SERVERS.items():
                for milliseconds in ROUND_TRIPS:
                    yield Scenario(
                        f"{way}-{key}-{milliseconds}",
                        f"{way} {size}, {name}, {milliseconds} ms, {lines} connections",
                        "bare loop",
                        partial(opening, kind, milliseconds / 1000),
                    )

    # --- one client, once ------------------------------------------------------------------------

    def client(
        self,
        module: str,
        work: str,
        server: Endpoint,
        ids: Path,
        *,
        depth: int = 4,
        check: Check = "open",
    ) -> Sample:
        """Run one of our two clients; its own figures."""
        command = [sys.executable, "-m", module, work, "--port", str(server.port)]
        command += ["--connections", str(self.options.connections), "--depth", str(depth)]
        command += ["--check", check, "--ids", str(ids), "--file", str(self.payload)]
        ended = run_measured(command, timeout=CLIENT_TIMEOUT)
        said = json.loads(ended.stdout)
        return Sample(said["size"], said["seconds"], said["cpu_seconds"], said["peak_rss"])

    def new_ids(self) -> Path:
        """A file of Message-IDs that were never used."""
        return self.write_ids(fresh_ids(count(self.options.size)))

    def write_ids(self, ids: Sequence[MessageId]) -> Path:
        path = self.options.folder / "ids"
        path.write_text("\n".join(ids) + "\n")
        return path

    # --- uploads ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _uploads(self, kind: ServerKind, far: float) -> Iterator[Sequence[Contestant]]:
        program = peers.nyuu()
        absent = "" if program else peers.ABSENT

        def by(module: str) -> Callable[[int], Sample]:
            return lambda _: self._upload(module, kind, far)

        yield [
            Contestant("usenetfs", by(OURS)),
            Contestant("bare loop", by(BARE)),
            Contestant("Nyuu", lambda _: self._upload_by_nyuu(program, kind, far), absent),
        ]

    def _upload(self, module: str, kind: ServerKind, far: float) -> Sample:
        with kind(self.options.folder) as server:
            ids = self.new_ids()
            settle()
            with servers.distance(server, far) as distant:
                sample = self.client(module, "upload", distant, ids)
            self.client(BARE, "download", server, ids, check="bytes")
        return sample

    def _upload_by_nyuu(self, program: Path | None, kind: ServerKind, far: float) -> Sample:
        assert program is not None
        out = self.options.folder / "nyuu.nzb"
        with kind(self.options.folder) as server:
            settle()
            with servers.distance(server, far) as distant:
                ended = nyuu.post(
                    program, distant, [self.payload], out, connections=self.options.connections
                )
            (ids,) = nyuu.posted(out)
            self.client(BARE, "download", server, self.write_ids(ids), check="plain")
        return Sample(self.options.size, ended.seconds, ended.cpu_seconds, ended.peak_rss)

    # --- downloads -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _downloads(self, kind: ServerKind, far: float) -> Iterator[Sequence[Contestant]]:
        program = peers.nzbget()
        absent = "" if program else peers.ABSENT
        depth = 8 if far else 4
        with kind(self.options.folder) as server, contextlib.ExitStack() as stack:
            ids = self.new_ids()
            self.client(BARE, "upload", server, ids)
            settle()
            for module in (OURS, BARE):
                self.client(module, "download", server, ids, depth=depth, check="bytes")
            distant = stack.enter_context(servers.distance(server, far))
            text = nzb([MessageId(line) for line in ids.read_text().split()], ENCODED_SIZE)

            def by(module: str) -> Callable[[int], Sample]:
                return lambda _: self.client(module, "download", distant, ids, depth=depth)

            yield [
                Contestant("usenetfs", by(OURS)),
                Contestant("bare loop", by(BARE)),
                Contestant(
                    "NZBGet", lambda _: self._download_by_nzbget(program, distant, text), absent
                ),
            ]

    def _download_by_nzbget(self, program: Path | None, server: Endpoint, text: str) -> Sample:
        assert program is not None
        folder = self.options.folder / "nzbget"
        lines = self.options.connections
        try:
            with nzbget.running(program, server, folder, connections=lines) as peer:
                fetched = peer.fetch(text, "payload")
            self._compare(fetched.folder / NAME)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Sample(self.options.size, fetched.seconds, fetched.cpu_seconds, fetched.peak_rss)

    def _compare(self, joined: Path) -> None:
        """A file of sealed pieces with the payload."""
        if not joined.exists():
            raise BenchError(f"there is no {joined.name} among what was downloaded")
        with joined.open("rb") as theirs, self.payload.open("rb") as ours:
            for number in range(count(self.options.size)):
                body = theirs.read(BLOCK + SEAL_OVERHEAD)
                try:
                    right = opened(number, body) == ours.read(BLOCK)
                except SealError as error:
                    raise BenchError(f"piece {number} does not open: {error}") from error
                if not right:
                    raise BenchError(f"piece {number} differs from the payload")
            if theirs.read(1):
                raise BenchError("there is more than was posted")


def _scenarios(options: Options) -> list[Scenario]:
    return list(NetBench(options, options.folder / "payload.bin").scenarios())


def _prepare(options: Options) -> None:
    write_random(options.folder / "payload.bin", options.size)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    purpose = "Measure the news client beside the bare loop, Nyuu and NZBGet."
    return run_benchmark("net", purpose, _scenarios, arguments, prepare=_prepare)


if __name__ == "__main__":
    sys.exit(main())
