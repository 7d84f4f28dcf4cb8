"""What a news server does, asked of INN and of the embedded server alike.

That the same suite passes against both is why the embedded one may stand in for a provider in every
other test. Replies are compared by code, never by text.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import BinaryIO

from tests.conformance.conftest import MAX_ARTICLE, PASSWORD, USER, NewsServer


class Talk:
    """One session, line by line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines: BinaryIO = connection.makefile("rb")
        self.greeting = self.code()

    def send(self, octets: bytes) -> None:
        self._connection.sendall(octets)

    def code(self) -> int:
        self.line = self._lines.readline()
        assert self.line.endswith(b"\r\n"), self.line
        return int(self.line[:3])

    def ask(self, command: str) -> int:
        self.send(command.encode() + b"\r\n")
        return self.code()

    def block(self) -> bytes:
        content = b""
        while (line := self._lines.readline()) != b".\r\n":
            assert line.endswith(b"\r\n"), line
            content += line[1:] if line.startswith(b"..") else line
        return content

    def post(self, article: bytes) -> int:
        code = self.ask("POST")
        if code != 340:
            return code
        self.send(article + b".\r\n")
        return self.code()

    def ended(self) -> bool:
        return not self._lines.read(1)


@contextmanager
def session(server: NewsServer) -> Iterator[Talk]:
    with socket.create_connection(server.address, timeout=20) as connection:
        talk = Talk(connection)
        assert talk.greeting in {200, 201}
        talk.ask("MODE READER")
        yield talk


def new_id() -> str:
    return f"<{secrets.token_hex(12)}@example.net>"


def article(
    message_id: str,
    *,
    body: bytes = b"Hello.\r\n",
    group: str = "alt.binaries.test",
    date: datetime | None = None,
) -> bytes:
    """An article, dots already stuffed."""
    headers = (
        f"From: me <me@example.net>\r\nNewsgroups: {group}\r\nSubject: a test\r\n"
        f"Message-ID: {message_id}\r\n"
    )
    if date is not None:
        headers += f"Date: {format_datetime(date)}\r\n"
    return headers.encode() + b"\r\n" + body


def posted(server: NewsServer, body: bytes = b"Hello.\r\n") -> str:
    message_id = new_id()
    with session(server) as talk:
        assert talk.post(article(message_id, body=body)) == 240
    return message_id


# --- the session ---------------------------------------------------------------------------------


def test_capabilities(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.ask("CAPABILITIES") == 101
        lines = talk.block().split(b"\r\n")
        assert lines[0].startswith(b"VERSION 2")
        assert b"READER" in lines
        assert b"POST" in lines


def test_date(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.ask("DATE") == 111
        text = talk.line.split()[1].decode()
        told = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)


def test_quit_ends_the_session(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.ask("QUIT") == 205
        assert talk.ended()


def test_unknown_commands_do_not_end_the_session(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.ask("XYZZY") == 500
        assert talk.ask("STAT <nonsense") in {500, 501, 430}
        assert talk.ask("DATE") == 111


def test_commands_are_told_apart_whatever_their_case(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.ask("date") == 111
        assert talk.ask("Stat <no.such@article>") == 430


def test_groups(server: NewsServer) -> None:
    posted(server)
    with session(server) as talk:
        assert talk.ask("GROUP alt.binaries.test") == 211
        count, low, high = map(int, talk.line.split()[1:4])
        assert count >= 1
        assert high >= low >= 1
        assert talk.ask("GROUP no.such.group") == 411


# --- reading -------------------------------------------------------------------------------------


def test_an_article_in_all_its_parts(server: NewsServer) -> None:
    body = b"One.\r\n\r\nTwo.\r\n"
    message_id = posted(server, body)
    with session(server) as talk:
        assert talk.ask(f"STAT {message_id}") == 223
        assert message_id.encode() in talk.line
        assert talk.ask(f"BODY {message_id}") == 222
        assert talk.block() == body
        assert talk.ask(f"HEAD {message_id}") == 221
        head = talk.block()
        assert f"Message-ID: {message_id}\r\n".encode() in head
        assert re.search(rb"^Path: ", head, re.MULTILINE)
        assert talk.ask(f"ARTICLE {message_id}") == 220
        assert talk.block() == head + b"\r\n" + body


def test_what_is_not_there(server: NewsServer) -> None:
    with session(server) as talk:
        for verb in ("STAT", "HEAD", "BODY", "ARTICLE"):
            assert talk.ask(f"{verb} {new_id()}") == 430


def test_dots_at_line_starts(server: NewsServer) -> None:
    message_id = new_id()
    with session(server) as talk:
        stuffed = b"..\r\n..leading\r\n...two\r\nin.side\r\n"
        assert talk.post(article(message_id, body=stuffed)) == 240
        assert talk.ask(f"BODY {message_id}") == 222
        assert talk.block() == b".\r\n.leading\r\n..two\r\nin.side\r\n"


def test_all_octets_pass(server: NewsServer) -> None:
    octets = bytes(i for i in range(1, 256) if i not in b"\r\n")
    body = b"=" + octets + b"\r\n"
    message_id = posted(server, body)
    with session(server) as talk:
        assert talk.ask(f"BODY {message_id}") == 222
        assert talk.block() == body


def test_pipelined_commands_are_answered_in_order(server: NewsServer) -> None:
    ids = [posted(server, f"Number {number}.\r\n".encode()) for number in range(5)]
    with session(server) as talk:
        commands = "".join(f"BODY {i}\r\nSTAT {i}\r\nBODY {new_id()}\r\n" for i in ids)
        talk.send(commands.encode())
        for number in range(5):
            assert talk.code() == 222
            assert talk.block() == f"Number {number}.\r\n".encode()
            assert talk.code() == 223
            assert talk.code() == 430


# --- posting -------------------------------------------------------------------------------------


def test_a_message_id_is_taken_once(server: NewsServer) -> None:
    message_id = posted(server)
    with session(server) as talk:
        assert talk.post(article(message_id, body=b"Another.\r\n")) == 441
        assert b"435" in talk.line or b"uplicate" in talk.line
        assert talk.ask(f"BODY {message_id}") == 222
        assert talk.block() == b"Hello.\r\n"


def test_an_unknown_group_is_refused(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.post(article(new_id(), group="no.such.group")) == 441
        assert talk.ask("DATE") == 111


def test_headers_that_lack_something_are_refused(server: NewsServer) -> None:
    with session(server) as talk:
        assert talk.post(b"Subject: x\r\n\r\nNo groups.\r\n") == 441
        assert (
            talk.post(b"From: a@example.net\r\nNewsgroups: alt.binaries.test\r\n\r\nx\r\n") == 441
        )


def test_an_old_date_is_refused(server: NewsServer) -> None:
    old = datetime.now(UTC) - timedelta(days=30)
    with session(server) as talk:
        assert talk.post(article(new_id(), date=old)) == 441


def test_a_large_article_is_taken_and_one_too_large_refused(server: NewsServer) -> None:
    line = b"x" * 126 + b"\r\n"
    lines = (MAX_ARTICLE - 2000) // len(line)
    message_id = posted(server, line * lines)
    with session(server) as talk:
        assert talk.ask(f"BODY {message_id}") == 222
        assert talk.block() == line * lines
        too_large = new_id()
        assert talk.post(article(too_large, body=line * (MAX_ARTICLE // len(line) + 10))) == 441
        assert talk.ask(f"STAT {too_large}") == 430


def test_a_missing_message_id_is_made(server: NewsServer) -> None:
    with session(server) as talk:
        plain = article(new_id())
        head, _, rest = plain.partition(b"Message-ID: ")
        assert talk.post(head + rest.partition(b"\r\n")[2]) == 240


def test_what_was_acknowledged_survives_a_restart_and_a_kill(server: NewsServer) -> None:
    first = posted(server)
    server.stop()
    server.start()
    second = posted(server)
    server.kill()
    server.start()
    with session(server) as talk:
        for message_id in (first, second):
            assert talk.ask(f"BODY {message_id}") == 222
            assert talk.block() == b"Hello.\r\n"
        assert talk.post(article(second)) == 441


# --- logging in ----------------------------------------------------------------------------------


def test_nothing_is_given_before_logging_in(guarded_server: NewsServer) -> None:
    with session(guarded_server) as talk:
        assert talk.ask("GROUP alt.binaries.test") == 480
        assert talk.ask(f"BODY {new_id()}") == 480
        assert talk.ask("POST") == 480


def test_logging_in(guarded_server: NewsServer) -> None:
    with session(guarded_server) as talk:
        assert talk.ask(f"AUTHINFO USER {USER}") == 381
        assert talk.ask(f"AUTHINFO PASS {PASSWORD}") == 281
        assert talk.ask("GROUP alt.binaries.test") == 211
        message_id = new_id()
        assert talk.post(article(message_id)) == 240
        assert talk.ask(f"STAT {message_id}") == 223


def test_a_wrong_password(guarded_server: NewsServer) -> None:
    with session(guarded_server) as talk:
        assert talk.ask(f"AUTHINFO USER {USER}") == 381
        assert talk.ask("AUTHINFO PASS wrong") == 481
