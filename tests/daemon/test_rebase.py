"""Names of conflict copies, and that an older state is never written to the servers again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoint.chains import once_only, publisher_of
from tests.checkpoint.test_publish import make_index, open_index
from tests.index.world import make_file
from tests.transfer.world import KEYS, FakeServers
from usenetfs.daemon.rebase import conflict_name, shut_out
from usenetfs.errors import FencedError

DAY = 1_777_600_000_000_000_000
"""On 2026-05-01."""


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        (b"notes.txt", 1, b"notes (conflict desk 2026-05-01).txt"),
        (b"notes.txt", 2, b"notes (conflict desk 2026-05-01 2).txt"),
        (b"Makefile", 1, b"Makefile (conflict desk 2026-05-01)"),
        (b".profile", 1, b".profile (conflict desk 2026-05-01)"),
        (b"a.tar.gz", 1, b"a.tar (conflict desk 2026-05-01).gz"),
        (b"v1.a sentence after a dot", 1, b"v1.a sentence after a dot (conflict desk 2026-05-01)"),
        (b"\xff\xfe.bin", 1, b"\xff\xfe (conflict desk 2026-05-01).bin"),
    ],
)
def test_a_conflict_copy_says_whose_and_when(name: bytes, number: int, expected: bytes) -> None:
    assert conflict_name(name, "desk", DAY, number) == expected


def test_it_is_never_too_long_and_stays_text() -> None:
    made = conflict_name("ä".encode() * 127 + b".txt", "desk", DAY, 12)
    assert len(made) <= 255
    assert made.decode().endswith("ä (conflict desk 2026-05-01 12).txt")
    assert len(conflict_name(b"\xff" * 255, "desk", DAY, 1)) <= 255


def test_a_host_name_cannot_make_a_path_of_it() -> None:
    assert b"/" not in conflict_name(b"a", "../desk", DAY, 1)


async def test_an_older_state_publishes_nothing_even_where_nobody_took_the_next_number(
    tmp_path: Path, autojump_clock: object
) -> None:
    servers = FakeServers()
    once_only(servers)
    path = tmp_path / "index.db"
    with make_index(path) as index:
        await publisher_of(index, servers, tmp_path).publish()
        make_file(index, b"only here")
    shut_out(path, KEYS.directory_key)
    shut_out(path, KEYS.directory_key)
    before = dict(servers.articles)
    with open_index(path) as index:
        with pytest.raises(FencedError):
            await publisher_of(index, servers, tmp_path).publish()
        assert index.changelog.pending() == 1
    assert servers.articles == before
