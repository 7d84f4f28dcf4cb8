"""``make bench-net``: the news client by itself, beside the bare loop, Nyuu and NZBGet.

Uploads and downloads of one random file in 700 KiB articles. Each upload meets a server with an
empty spool. All downloads fetch the same articles; before the rounds each of our clients fetches
all of them once and compares them with the file, in the rounds each article has to open under its
seal, which is bound to its number. What NZBGet joined is opened and compared each time.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from scripts.bench import servers
from scripts.bench.command import Options, run_benchmark, settle
from scripts.bench.data import write_random
from scripts.bench.movers import BARE, OURS, Mover, ServerKind
from scripts.bench.samples import Contestant, Scenario
from usenetfs.config.units import human_size

SERVERS: Final[dict[str, tuple[str, ServerKind]]] = {
    "inn": ("INN", servers.inn),
    "nntpd": ("the embedded server", servers.embedded),
}
ROUND_TRIPS: Final = (0, 30)
"""Milliseconds."""

Opening = Callable[[Mover, ServerKind, float], AbstractContextManager[Sequence[Contestant]]]


@contextlib.contextmanager
def uploads(mover: Mover, kind: ServerKind, far: float) -> Iterator[Sequence[Contestant]]:
    """Who posts; from afar also with POST sent ahead, for servers that cope (both of ours do)."""
    found = [
        mover.uploader("usenetfs", OURS, kind, far),
        mover.uploader("bare loop", BARE, kind, far),
        mover.nyuu(kind, far),
    ]
    if far:
        found.append(mover.uploader("POST ahead", OURS, kind, far, post_ahead=True))
    yield found


@contextlib.contextmanager
def downloads(mover: Mover, kind: ServerKind, far: float) -> Iterator[Sequence[Contestant]]:
    """Who fetches, from one server with the payload in it."""
    depth = 8 if far else 4
    with kind(mover.folder) as server, contextlib.ExitStack() as stack:
        ids = mover.new_ids()
        mover.client(BARE, "upload", server, ids)
        settle()
        for module in (OURS, BARE):
            mover.client(module, "download", server, ids, depth=depth, check="bytes")
        distant = stack.enter_context(servers.distance(server, far))
        yield [
            mover.downloader("usenetfs", OURS, distant, ids, depth),
            mover.downloader("bare loop", BARE, distant, ids, depth),
            mover.nzbget(distant, ids),
        ]


def scenarios(options: Options) -> list[Scenario]:
    """Both directions, both servers, near and far."""
    mover = Mover(options.folder / "payload.bin", options.folder, options.connections)
    what = human_size(options.size)
    ways: dict[str, Opening] = {"download": downloads, "upload": uploads}
    return [
        Scenario(
            f"{way}-{key}-{far}",
            f"{way} {what}, {name}, {far} ms, {options.connections} connections",
            "bare loop",
            partial(opening, mover, kind, far / 1000),
        )
        for way, opening in ways.items()
        for key, (name, kind) in SERVERS.items()
        for far in ROUND_TRIPS
    ]


def prepare(options: Options) -> None:
    """Make the payload."""
    write_random(options.folder / "payload.bin", options.size)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    purpose = "Measure the news client beside the bare loop, Nyuu and NZBGet."
    return run_benchmark("net", purpose, scenarios, arguments, prepare=prepare)


if __name__ == "__main__":
    sys.exit(main())
