"""The single-file reader against the golden vectors: it shares no code with the package."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scripts import recover_standalone as standalone
from tests.vectors import cases, chain_cases
from usenetfs.article.yenc import encode_body
from usenetfs.types import article_id

VECTORS = cases.load()
CHAIN = chain_cases.load()
MASTER = bytes.fromhex(VECTORS["inputs"]["master"])
FILESYSTEM = bytes.fromhex(VECTORS["inputs"]["filesystem_id"])


class Bodies(standalone.Server):
    """Answers from a dictionary instead of a socket."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self.bodies = bodies

    def body(self, wanted: str) -> bytes:
        if wanted not in self.bodies:
            raise standalone.LostError(wanted)
        return self.bodies[wanted]


def filesystem(bodies: dict[str, bytes] | None = None) -> standalone.Filesystem:
    return standalone.Filesystem(Bodies(bodies or {}), MASTER, FILESYSTEM)


def test_it_is_one_short_file_without_the_package() -> None:
    text = Path(standalone.__file__).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 500
    assert "import usenetfs" not in text
    assert "from usenetfs" not in text


def test_keys() -> None:
    for name, purpose in (("data_key", "data"), ("chain_key", "chain"), ("digest_key", "digest")):
        assert standalone.hkdf(MASTER, purpose, FILESYSTEM).hex() == VECTORS["keys"][name]
    assert standalone.parse_recovery_key(VECTORS["recovery_key"].lower()) == MASTER
    assert standalone.unlock(VECTORS["key_file"].encode(), "pässword") == MASTER
    with pytest.raises(SystemExit):
        standalone.parse_recovery_key(VECTORS["recovery_key"].replace("0", "7", 1))


def test_message_ids() -> None:
    fs = filesystem()
    for place, wanted in VECTORS["message_ids"].items():
        epoch, number, attempt = map(int, place.split("/"))
        assert fs.article_id(article_id(epoch, number), attempt) == wanted
    for place, wanted in VECTORS["chain_message_ids"].items():
        number, copy = map(int, place.split("/"))
        assert fs.checkpoint_id(number, copy) == wanted


def test_a_checkpoint() -> None:
    fs = filesystem()
    bodies = {fs.checkpoint_id(5, 1): bytes.fromhex(CHAIN["checkpoint_sealed"])}
    record, inline = filesystem(bodies).checkpoint(5)
    assert record["base"] == 3
    assert list(inline) == ["changeset"]
    with pytest.raises(standalone.LostError):
        filesystem(bodies).checkpoint(6)


def test_a_changeset_and_a_digest() -> None:
    tables: standalone.Tables = {
        "inodes": {(3,): (3, 0, 0, 0, 0, 10, 0, 0, 0, 0)},
        "dirents": {(1, 2**61 + 5): (1, 2**61 + 5, b"gone\xff", 3)},
    }
    standalone.apply(tables, bytes.fromhex(CHAIN["changeset"]))
    assert tables["inodes"][3,] == (3, 0, 0, 0, 0, 20, 0, 0, 0, 0)
    assert tables["dirents"] == {}
    assert tables["meta"]["name",] == ("name", "nämlich")
    inodes = {key: row for key, row in tables["inodes"].items() if key != (3,)}
    both = standalone.digest_of({"inodes": inodes}, bytes.fromhex(VECTORS["keys"]["digest_key"]))
    assert both == CHAIN["row_digests"]["both"]


@pytest.mark.parametrize("length", [0, 127, 128, 16_383, 16_384, 70_000])
def test_long_values(length: int) -> None:
    value = bytes(length)
    again, end = standalone.fields(standalone.encoded(value), 0, 1)
    assert (again, end) == ([value], len(standalone.encoded(value)))


def test_blocks_of_every_codec() -> None:
    raw = bytes.fromhex(VECTORS["inputs"]["raw"])
    for codec, name in enumerate(("ZSTD", "LZMA", "ZLIB"), 1):
        stored = bytes.fromhex(VECTORS["decode_only"][name])
        assert standalone.decompress(codec, stored, len(raw)) == raw


def test_yenc() -> None:
    data = bytes(range(256)) * 40

    class Lines:
        def __init__(self) -> None:
            text = encode_body(data, name="n")
            self.lines = [b"222 body\r\n", *text.splitlines(keepends=True), b".\r\n"]

        def ask(self, command: str, *_: bytes) -> bytes:
            return self.lines.pop(0)

    assert standalone.Server.body(Lines(), "<a@b>") == data  # type: ignore[arg-type]


@pytest.mark.parametrize("reply", [b"400 going down", b"480 log in", b"503 timeout"])
def test_what_a_server_cannot_say_now_is_not_missing(reply: bytes) -> None:
    """Else an older state would be restored as the newest."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = standalone.Server.__new__(standalone.Server)
        server._socket, server._file = ours, ours.makefile("rb")
        with server._file:
            missing = b"430 no such article\r\n"
            theirs.sendall(missing + reply + b"\r\n" + 40 * missing)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(SystemExit, match="the server says"):
                standalone.Filesystem(server, MASTER, FILESYSTEM).last()
