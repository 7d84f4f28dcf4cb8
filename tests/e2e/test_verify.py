"""``verify`` in real mounts: it says exactly what the servers have lost, and nothing that they have
not; against the embedded server, with every way of lying about an article, and against INN."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.private_inn import PrivateInn
from scripts.world import COMMAND, PASSPHRASE, Endpoint, Mount, ServerProcess, World, wait_until
from tests.e2e import spools
from tests.e2e.conftest import NAME
from tests.e2e.test_reading import lie, second_server
from usenetfs.article.key_file import read_info, unlock
from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.index.index import Index
from usenetfs.transfer.fetch.tree_articles import find
from usenetfs.types import BlockNumber

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

BLOCK = 716_800
OPTIONS = ("--set", "upload.check_timeout=1s")
"""What was posted a second ago must be everywhere by now."""
DATA_UNAVAILABLE, NETWORK = 17, 3


@dataclass(frozen=True)
class Report:
    """What ``verify --json`` said."""

    status: int
    end: dict[str, Any]
    lost: list[tuple[str, int, int, bool]]
    said: str

    @property
    def articles(self) -> dict[str, int]:
        """By outcome, those that there are."""
        named: dict[str, int] = self.end["articles"]
        return {key: n for key, n in named.items() if n and key not in {"found", "done"}}


@dataclass
class Stored:
    """A filesystem on the servers: ``double`` has the first block of ``long`` in its middle, and
    the small files share an article."""

    world: World
    files: dict[str, bytes] = field(default_factory=dict)

    def fill(self) -> None:
        shared = os.urandom(BLOCK)
        self.files = {
            "long": shared + os.urandom(4 * BLOCK + 1000),
            "double": os.urandom(BLOCK) + shared + os.urandom(70_000),
            **{f"small-{number}": os.urandom(500 + 97 * number) for number in range(20)},
        }
        mount = self.world.mount(NAME, *OPTIONS)
        (mount.path / "dir").mkdir()
        for name, content in self.files.items():
            (mount.path / "dir" / name).write_bytes(content)
        mount.stop()

    @property
    def keys(self) -> KeySet:
        key_file = (self.world.data_dir / NAME / "keys.json").read_bytes()
        return KeySet.from_master(self.master, read_info(key_file).filesystem_id)

    @property
    def master(self) -> bytes:
        return unlock((self.world.data_dir / NAME / "keys.json").read_bytes(), PASSPHRASE)

    def articles(self, name: str) -> list[str]:
        """Message-IDs of the articles that hold a file's blocks, in order."""
        keys, index_file = self.keys, self.world.data_dir / NAME / "index.db"
        with Index.open(index_file, directory_key=keys.directory_key, read_only=True) as index:
            inode = find(index, f"/dir/{name}")
            blocks = index.blocks.locate(inode, BlockNumber(0), 100)
            return [message_id(keys.message_id_key, b.article, b.attempt) for b in blocks]

    def all_articles(self) -> set[str]:
        return {one for name in self.files for one in self.articles(name)}

    def verify(self, *options: str, path: str | None = None, timeout: float = 120) -> Report:
        """``path`` None: everything."""
        place = NAME if path is None else f"{NAME}:{path}"
        done = self.world.run(
            "verify", place, "--json", *OPTIONS, *options, check=False, timeout=timeout
        )
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert events, done.stderr
        assert events[-1]["event"] == "end", events[-1]
        lost = [
            (event["path"], event["offset"], event["length"], event["cached"])
            for event in events
            if event["event"] == "lost"
        ]
        return Report(done.returncode, events[-1], lost, done.stderr)


@pytest.fixture
def stored(world: World) -> Stored:
    """Not mounted."""
    made = Stored(world)
    made.fill()
    return made


def take_away(server: ServerProcess, articles: Collection[str]) -> None:
    server.stop()
    assert spools.remove(server.spool, articles) == len(set(articles))
    server.start()


def test_what_is_whole_is_said_to_be_whole(stored: Stored) -> None:
    count = len(stored.all_articles())
    unmounted = stored.verify()
    mount = stored.world.mount(NAME, *OPTIONS)
    for quick in (unmounted, stored.verify()):
        assert (quick.status, quick.articles) == (0, {"present": count})
        assert quick.end["chain"]["outcome"] == quick.end["chain"]["keys"] == "present"
        assert quick.end["bytes"]["read"] == 0
    small = stored.verify(path="/dir/small-3")
    assert (small.articles, small.end["chain"]) == ({"present": 1}, None)
    data = stored.verify("--data")
    assert (data.status, data.articles) == (0, {"present": count})
    assert data.end["bytes"]["read"] == data.end["bytes"]["found"] > 6 * BLOCK
    state = os.getxattr(mount.path / "dir" / "double", "user.usenetfs.state")
    assert state == b"verified"
    again = stored.verify("--unverified")
    assert (again.status, again.articles, again.end["bytes"]["read"]) == (0, {}, 0)
    status = json.loads(stored.world.run("status", NAME, "--json").stdout)
    assert status["last_verification"]["lost"] == 0
    assert status["verified"]["present"] == 2 * count + 1
    mount.stop()


@pytest.mark.parametrize("mounted", [False, True], ids=["not mounted", "mounted"])
@pytest.mark.parametrize("how", ["--data", None])
def test_lost_articles_are_named_by_file_and_offset(
    stored: Stored, embedded: ServerProcess, how: str | None, *, mounted: bool
) -> None:
    options = () if how is None else (how,)
    count = len(stored.all_articles())
    gone = [stored.articles("long")[0], stored.articles("long")[3], stored.articles("double")[2]]
    packed = {name for name in stored.files if stored.articles(name)[-1] in gone}
    assert {"double", "small-0"} <= packed
    take_away(embedded, gone)
    if mounted:
        stored.world.mount(NAME, *OPTIONS)
    report = stored.verify(*options)
    assert report.status == DATA_UNAVAILABLE
    assert report.articles == {"lost": 3, "present": count - 3}
    expected = {("long", 0, BLOCK), ("long", 3 * BLOCK, BLOCK), ("double", BLOCK, BLOCK + 70_000)}
    for name in packed - {"double"}:
        size = len(stored.files[name])
        start = size // BLOCK * BLOCK
        expected.add((name, start, size - start))
    assert {(path.removeprefix("/dir/"), at, n) for path, at, n, _ in report.lost} == expected
    assert report.end["lost"]["files"] == len({name for name, _, _ in expected})
    assert report.end["lost"]["bytes"] == sum(length for _, _, length in expected)
    assert "3 articles are lost on every server" in report.said
    other = stored.verify(*options, path="/dir/double")
    assert {at for _, at, _, _ in other.lost} == {BLOCK}
    assert other.articles == {"lost": 2, "present": 1}


def test_a_lost_checkpoint_and_lost_keys_are_noticed(
    stored: Stored, embedded: ServerProcess
) -> None:
    chain = stored.keys.chain_key
    there = set(spools.message_ids(embedded.spool))
    newest = stored.verify().end["chain"]["newest"]
    last = [chain_message_id(chain, newest, copy) for copy in range(6)]
    keys = KeyRecordLocator.from_master(stored.master)
    take_away(embedded, [last[0]])
    one = stored.verify()
    assert (one.status, one.end["chain"]["outcome"]) == (0, "degraded")
    assert "1 of 2 copies are lost" in one.end["chain"]["problems"][0]
    take_away(embedded, [copy for copy in last[1:] if copy in there])
    take_away(embedded, [keys.message_id(0, copy) for copy in range(2)])
    all_gone = stored.verify()
    assert all_gone.status == DATA_UNAVAILABLE
    assert set(all_gone.articles) == {"present"}
    assert all_gone.end["chain"]["outcome"] == all_gone.end["chain"]["keys"] == "lost"
    assert all_gone.end["chain"]["newest"] == newest
    recoverable = all_gone.end["chain"]["recoverable"]
    assert recoverable is None or recoverable < newest
    assert stored.verify(path="/dir").status == 0


LIES = {
    "altered": "BODY always corrupt octets=3",
    "another article": "BODY always wrong-article",
    "cut short": "BODY always truncate after=2000",
    "gone, and STAT does not say so": 'BODY always reply code=430 text="No such article"',
}


@pytest.mark.parametrize("how", LIES)
def test_only_data_finds_what_stat_hides(stored: Stored, embedded: ServerProcess, how: str) -> None:
    with lie(embedded, LIES[how]):
        quick, data = stored.verify(path="/dir"), stored.verify("--data", path="/dir")
    assert (quick.status, set(quick.articles)) == (0, {"present"})
    assert (data.status, set(data.articles)) == (DATA_UNAVAILABLE, {"lost"})
    assert data.end["lost"]["files"] == len(stored.files)
    assert data.end["lost"]["bytes"] == sum(map(len, stored.files.values()))


def test_a_server_that_denies_by_stat_what_it_gives(
    stored: Stored, embedded: ServerProcess
) -> None:
    with lie(embedded, 'STAT always reply code=430 text="No such article"'):
        report = stored.verify(path="/dir")
    assert (report.status, set(report.articles)) == (0, {"present"})
    assert report.end["bytes"]["read"] > 0


def test_what_could_not_be_asked_is_not_lost(stored: Stored, embedded: ServerProcess) -> None:
    """Neither from the beginning nor from the middle of a run on."""
    with lie(embedded, 'STAT after 3 reply code=503 text="Not today"'):
        some = stored.verify(path="/dir")
    assert (some.status, set(some.articles), some.lost) == (NETWORK, {"present", "unknown"}, [])
    assert sum(some.articles.values()) == len(stored.all_articles())
    assert "nothing is known to be lost" in some.said
    with out_of_reach(stored.world, embedded.endpoint):
        none = stored.verify()
    assert (none.status, set(none.articles), none.lost) == (NETWORK, {"unknown"}, [])
    assert none.end["chain"]["outcome"] == none.end["chain"]["keys"] == "unknown"


@contextmanager
def out_of_reach(world: World, server: Endpoint) -> Iterator[None]:
    """Nobody answers for the server. (Its own port might soon be that of another test's server,
    which has none of the articles.)"""
    before = world.config_file.read_text()
    with socket.socket() as held:
        held.bind((server.host, 0))  # bound, and not listened on: refused
        port = held.getsockname()[1]
        world.config_file.write_text(before.replace(f"port = {server.port}\n", f"port = {port}\n"))
        yield
    world.config_file.write_text(before)


def test_fresh_articles_and_staged_data_are_not_lost(
    stored: Stored, embedded: ServerProcess
) -> None:
    lost = stored.articles("long")[2]
    take_away(embedded, [lost])
    waiting = ("--set", "upload.check_timeout=1h")
    fresh = stored.verify(*waiting, path="/dir")
    assert (fresh.status, fresh.articles["fresh"], fresh.lost) == (0, 1, [])
    mount = stored.world.mount(NAME, *OPTIONS, "--set", "upload.rate=1 B/s")
    with (mount.path / "dir" / "long").open("r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"x" * BLOCK)
    report = stored.verify(path="/dir/long")
    assert (report.articles["lost"], report.lost) == (1, [])
    assert report.end["not_seen_yet"] == BLOCK


def test_what_the_cache_still_has_is_said(stored: Stored, embedded: ServerProcess) -> None:
    mount = stored.world.mount(NAME, *OPTIONS)
    assert (mount.path / "dir" / "long").read_bytes() == stored.files["long"]
    mount.stop()
    take_away(embedded, [stored.articles("long")[2]])
    report = stored.verify(path="/dir/long")
    assert report.lost == [("/dir/long", 2 * BLOCK, BLOCK, True)]
    assert "copy what is still in the cache" in report.said
    plain = stored.world.run("verify", f"{NAME}:/dir", *OPTIONS, check=False).stderr
    assert "lost: /dir/long: 716,800 bytes at byte 1,433,600: " in plain
    assert "still in the cache of this machine" in plain
    for body in (stored.world.cache_dir / NAME / "articles").rglob("*"):
        if body.is_file():
            content = bytearray(body.read_bytes())
            content[len(content) // 2] ^= 1
            body.write_bytes(content)
    assert stored.verify(path="/dir/long").lost == [("/dir/long", 2 * BLOCK, BLOCK, False)]


def test_two_servers(stored: Stored, embedded: ServerProcess, folder: Path) -> None:
    """Missing at one is degraded, at both lost; at one and the other away it is unknown."""
    count = len(stored.all_articles())
    shutil.copytree(embedded.spool, folder / "second" / "spool")
    with ServerProcess(folder / "second") as second:
        second_server(stored.world, second.endpoint)
        assert stored.verify(path="/dir").articles == {"present": count}
        both, one = stored.articles("long")[1], stored.articles("long")[3]
        take_away(embedded, [both, one])
        take_away(second, [both])
        quick, report = stored.verify(path="/dir"), stored.verify("--data", path="/dir")
        for found in (quick, report):
            assert found.status == DATA_UNAVAILABLE
            assert found.articles == {"lost": 1, "degraded": 1, "present": count - 2}
            assert [(path, at) for path, at, _, _ in found.lost] == [("/dir/long", BLOCK)]
        answers = {server["name"]: server for server in report.end["servers"]}
        assert (answers["news"]["missing"], answers["other"]["missing"]) == (2, 1)
    with out_of_reach(stored.world, second.endpoint):
        away = stored.verify(path="/dir")
    assert away.status == NETWORK
    assert away.articles == {"unknown": 2, "present": count - 2}
    assert {s["name"]: s["unasked"] for s in away.end["servers"]} == {"news": 0, "other": count}


def test_a_lost_article_is_not_verified_any_more(stored: Stored, embedded: ServerProcess) -> None:
    assert stored.verify("--data").status == 0
    take_away(embedded, [stored.articles("double")[0]])
    assert stored.verify(path="/dir").status == DATA_UNAVAILABLE
    mount = stored.world.mount(NAME, *OPTIONS)
    states = {
        name: os.getxattr(mount.path / "dir" / name, "user.usenetfs.state")
        for name in ("double", "long")
    }
    assert states == {"double": b"seen", "long": b"verified"}


def test_a_part_at_random_comes_round_to_everything(stored: Stored) -> None:
    count = len(stored.all_articles())
    read = [stored.verify("--subset", "40%").articles["present"] for _ in range(3)]
    assert read == [-(-count * 2 // 5)] * 3
    assert stored.verify("--unverified").articles == {}


def test_killed_and_interrupted_it_leaves_everything_as_it_was(
    stored: Stored, embedded: ServerProcess
) -> None:
    with lie(embedded, "BODY always stall seconds=0.5"):
        mount = stored.world.mount(NAME, *OPTIONS)
        with verifying(stored.world, mount) as command:
            mount.kill()
            said = command.communicate(timeout=30)[1]
            assert command.returncode not in {0, DATA_UNAVAILABLE}
            assert "ended in the middle of it" in said
        mount = stored.world.mount(NAME, *OPTIONS)
        with verifying(stored.world, mount) as command:
            command.send_signal(signal.SIGINT)
            assert command.wait(timeout=30) == 130
        wait_until(lambda: not jobs(stored.world), "the daemon has given it up", 30)
        with verifying(stored.world, mount) as command:
            second = stored.world.run("verify", NAME, check=False)
            assert (second.returncode, "being verified already" in second.stderr) == (8, True)
            command.kill()
            command.wait(timeout=30)
        mount.stop()
    embedded.start()
    stored.world.run("fsck", NAME)
    mount = stored.world.mount(NAME, *OPTIONS)
    for name, content in stored.files.items():
        assert (mount.path / "dir" / name).read_bytes() == content
    assert stored.verify("--data").status == 0


def jobs(world: World) -> list[Any]:
    status: dict[str, list[Any]] = json.loads(world.run("status", NAME, "--json").stdout)
    return status["jobs"]


class verifying:  # noqa: N801  a context manager, used like a function
    """``verify --data`` at work in the daemon of a mount."""

    def __init__(self, world: World, mount: Mount) -> None:
        assert mount.is_mounted
        self._world = world
        self._command = subprocess.Popen(
            [COMMAND, "verify", "--data", NAME],
            env=world.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        wait_until(lambda: any(j["kind"] == "verify" for j in jobs(self._world)), "it began", 30)
        return self._command

    def __exit__(self, *_: object) -> None:
        if self._command.poll() is None:
            self._command.kill()
        self._command.communicate()


@pytest.fixture
def inn_world(folder: Path, inn: PrivateInn) -> Iterator[World]:
    with World(folder, Endpoint(inn.host, inn.port)) as made:
        made.run("init", NAME)
        yield made


@pytest.mark.inn
def test_articles_cancelled_at_inn(inn_world: World, inn: PrivateInn) -> None:
    stored = Stored(inn_world)
    stored.fill()
    count = len(stored.all_articles())
    assert stored.verify("--data").articles == {"present": count}
    cancelled = stored.articles("long")[:2]
    for article in cancelled:
        inn.cancel(article)
    inn_world.mount(NAME, *OPTIONS)
    for options in ((), ("--data",)):
        report = stored.verify(*options)
        assert report.status == DATA_UNAVAILABLE
        assert report.articles == {"lost": 2, "present": count - 2}
        assert {place[:3] for place in report.lost} == {
            ("/dir/long", 0, 2 * BLOCK),
            ("/dir/double", BLOCK, BLOCK),
        }
        assert report.end["chain"]["outcome"] == "present"
