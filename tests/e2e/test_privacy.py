"""What lies on the server tells nothing: no name, no content, nothing that links two articles.

Looks at the articles as INN keeps them, one file each as they arrived, and at the raw spool of the
embedded server.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.private_inn import PrivateInn
from scripts.world import PASSPHRASE, Endpoint, Mount, ServerProcess, World
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

WINDOW = 16
"""Octets: what two articles may not have in common anywhere."""

ORDINARY = {"from", "subject", "newsgroups", "message-id", "date"}
"""Header fields that every poster writes."""
ADDED_BY_SERVER = {"path", "xref", "lines", "injection-date", "injection-info", "cancel-lock"}
ADDED_BY_SERVER |= {"nntp-posting-host", "nntp-posting-date", "x-trace", "x-complaints-to", "bytes"}
ADDED_BY_SERVER |= {"organization"}  # this INN's own setting: "private"

NAMES = (b"salary-2024.txt", b"diary.txt", b"a-folder-of-mine", b"picture of a friend.raw")
ATTRIBUTE = b"user.a-secret-label", b"a secret value of the label"
SENTENCE = b"Nobody but me should ever be able to read this sentence. "


def _fill(mount: Mount) -> None:
    """Text that compresses, data that does not, small files, equal files; in several articles."""
    folder = mount.path / os.fsdecode(NAMES[2])
    folder.mkdir()
    for step in range(8):
        (folder / f"{step}-{os.fsdecode(NAMES[0])}").write_bytes(SENTENCE * 50 + b"%d" % step)
        (folder / f"{step}-{os.fsdecode(NAMES[1])}").write_bytes(SENTENCE * (500 + step))
        (folder / f"{step}-{os.fsdecode(NAMES[3])}").write_bytes(SENTENCE + os.urandom(20_000))
        os.setxattr(folder / f"{step}-{os.fsdecode(NAMES[0])}", *ATTRIBUTE)
        mount.sync()
    (folder / "large").write_bytes(os.urandom(1_500_000) + SENTENCE)
    mount.sync()


@pytest.fixture
def own_inn() -> Iterator[PrivateInn]:
    """An INN whose spool holds this test's articles only."""
    path = Path(tempfile.mkdtemp(prefix="ufs-inn-"))
    path.chmod(0o755)
    with PrivateInn(path) as server:
        yield server
    shutil.rmtree(path)


def _articles(inn: PrivateInn) -> list[bytes]:
    """All articles as INN's tradspool keeps them: one file each, as it is on the wire."""
    spool = inn.directory / "spool" / "articles"
    files = [path for path in spool.rglob("*") if path.name.isdigit() and path.is_file()]
    raw = [path.read_bytes() for path in files if not path.is_symlink()]
    assert all(article.endswith(b"\r\n.\r\n") for article in raw)
    return [article[:-3].replace(b"\r\n", b"\n") for article in raw]


def _headers(article: bytes) -> dict[str, str]:
    head = article.partition(b"\n\n")[0].decode("ascii")
    fields = re.sub(r"\n[ \t]+", " ", head).split("\n")
    return {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}


def _nothing_readable(raw: bytes, world: World) -> None:
    secrets = [*NAMES, *ATTRIBUTE, SENTENCE.strip(), NAME.encode(), PASSPHRASE.encode()]
    secrets += [b"usenetfs", b"zstd", str(world.directory).encode(), os.uname().nodename.encode()]
    assert [secret for secret in secrets if len(secret) > 3 and secret in raw] == []


@pytest.mark.inn
def test_articles_tell_nothing(own_inn: PrivateInn, folder: Path) -> None:
    with World(folder, Endpoint(own_inn.host, own_inn.port)) as world:
        world.run("init", NAME)
        mount = world.mount(NAME)
        _fill(mount)
        mount.stop()
        articles = _articles(own_inn)
    assert len(articles) >= 9, "each sync should have made an article at least"
    _only_ordinary_headers(articles)
    _nothing_links(articles)
    _nothing_readable(b"\n".join(articles), world)


def _only_ordinary_headers(articles: list[bytes]) -> None:
    heads = [_headers(article) for article in articles]
    for head in heads:
        assert set(head) - ADDED_BY_SERVER == ORDINARY
        assert head["date"].endswith(("+0000", "-0000", "GMT", "+0000 (UTC)")), "a time zone"
        assert not set(head["newsgroups"].split(",")) - {"alt.binaries.test", "alt.binaries.misc"}
    for name in ("from", "subject", "message-id"):
        values = [head[name] for head in heads]
        assert len(set(values)) == len(values), f"two articles share their {name}"
    for part in (0, 1):
        halves = [head["message-id"].strip("<>").split("@")[part] for head in heads]
        assert len(set(halves)) == len(halves), "two Message-IDs share one side of the @"


def _linkable(article: bytes) -> bytes:
    """An article without what all yEnc posts in these newsgroups at this time have in common."""
    body = article.partition(b"\n\n")[2]
    fields = _headers(article)
    subject = re.fullmatch(r'(?:\[1/1\] - )?"(\S+)" yEnc \(1/1\)', fields["subject"])
    sender = re.fullmatch(r"(\w+) <(\w+)@(\w+)\.[a-z]+>", fields["from"])
    assert subject, "not as ordinary posters write it"
    assert sender, "not as ordinary posters write it"
    kept = [token.encode() for token in (*subject.groups(), *sender.groups())]
    kept.append(fields["message-id"].encode())
    first, _, rest = body.partition(b"\n")
    data, _, last = rest.rstrip(b"\n").rpartition(b"\n")
    assert re.fullmatch(rb"=ybegin (?:part=1 (?:total=1 )?)?line=128 size=\d+ name=\S+", first)
    if data.startswith(b"=ypart"):
        data = data.partition(b"\n")[2]
    assert re.fullmatch(rb"=yend size=\d+(?: part=1)?(?: p?crc32=[0-9a-f]{8})+", last), last
    return b"\n".join([*kept, first.partition(b" name=")[2], data, last.rpartition(b"=")[2]])


def _nothing_links(articles: list[bytes]) -> None:
    """No two articles have any ``WINDOW`` octets in common; of large ones both ends count."""
    seen: dict[bytes, int] = {}
    for number, article in enumerate(articles):
        text = _linkable(article)
        text = text if len(text) < 100_000 else text[:50_000] + text[-50_000:]
        windows = {text[i : i + WINDOW] for i in range(len(text) - WINDOW)}
        shared = {window: seen[window] for window in windows & seen.keys()}
        assert not shared, f"article {number} shares with others: {shared}"
        seen |= dict.fromkeys(windows, number)


def test_the_raw_spool_of_the_embedded_server_holds_nothing_readable(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    _fill(mount)
    mount.stop()
    raw = b"".join(path.read_bytes() for path in embedded.spool.rglob("*") if path.is_file())
    assert len(raw) > 1_500_000
    _nothing_readable(raw, world)


def test_local_files_tell_nothing_to_others(world: World, mount: Mount) -> None:
    """The index holds names, and staging content, so nobody else may read them."""
    (mount.path / "file").write_bytes(SENTENCE)
    mount.sync()
    for path in (world.data_dir / NAME).rglob("*"):
        assert path.lstat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path
    assert (world.data_dir / NAME).stat().st_mode & 0o077 == 0


def test_the_process_list_tells_no_secret(world: World, mount: Mount) -> None:
    pid = mount.pid
    assert pid is not None
    for what in ("cmdline", "environ"):
        assert PASSPHRASE.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
    logs = [path for path in (world.data_dir / NAME / "logs").rglob("*") if path.is_file()]
    assert logs
    assert all(PASSPHRASE.encode() not in path.read_bytes() for path in logs)
