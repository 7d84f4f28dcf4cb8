"""One suite for the embedded server and INN, so that the first is a verified stand-in.

Where replies differ in words only the codes are compared; where clients read the words (the
Message-ID after 240, "435" after 441) the words are too.
"""

from __future__ import annotations

import datetime
import re

import pytest

from tests.servers import (
    GROUP,
    OTHER_GROUP,
    PASSWORD,
    USER,
    NewsServer,
    RawSession,
    article,
    fresh_id,
)

DOTS = [b".", b"..", b".text", b"", b"..two", b"text.", b". ", b"\xff.\xfe\x7f"]
DOTS_WIRE = b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in DOTS)


def _now(*, days: float = 0) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return f"{moment:%a, %d %b %Y %H:%M:%S} +0000"


def _wide_body(octets: int) -> bytes:
    return (b"x" * 126 + b"\r\n") * (octets // 128)


def test_greeting_invites_to_post(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.greeting.startswith("200 ")


def test_capabilities(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.ask("CAPABILITIES").startswith("101 ")
        lines = session.block()
        assert lines[0] == b"VERSION 2"
        assert {b"READER", b"POST", b"IHAVE"} <= set(lines)
        assert not any(line.startswith(b"AUTHINFO USER") for line in lines)


def test_mode_reader(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.code("MODE READER") == 200
        assert session.code("MODE WRITER") == 501


def test_date(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert re.fullmatch(r"111 20\d{12}", session.ask("DATE"))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("XYZZY", 500),
        ("GROUP", 501),
        ("DATE now", 501),
        ("POST now", 501),
        ("IHAVE", 501),
        ("IHAVE nonsense", 501),
        ("STAT <open", 501),
        ("STAT a@b", 501),
        ("STAT <a b@c>", 501),
        (f"STAT <{'a' * 250}@b>", 501),
        ("CAPABILITIES ?", 501),
        ("quit", 205),
    ],
)
def test_bad_commands_and_case(server: NewsServer, command: str, code: int) -> None:
    with RawSession(server) as session:
        assert session.code(command) == code


def test_overlong_command_is_refused_and_the_session_goes_on(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.code("STAT <" + "a" * 2000 + "@b>") in {500, 501}
        assert session.code("DATE") == 111


def test_group(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.code("GROUP no.such.group") == 411
        before = session.ask(f"GROUP {OTHER_GROUP}").split()
        assert before[0] == "211"
        assert before[4] == OTHER_GROUP
        assert session.submit(article(fresh_id(), groups=OTHER_GROUP)).startswith("240")
        after = session.ask(f"GROUP {OTHER_GROUP}").split()
        assert int(after[3]) == int(before[3]) + 1


def test_articles_by_number(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.code("STAT 1") == 412
        assert session.code("STAT") == 412
        message_id = fresh_id()
        session.submit(article(message_id, groups=OTHER_GROUP))
        number = session.ask(f"GROUP {OTHER_GROUP}").split()[3]
        assert session.ask(f"STAT {number}").startswith(f"223 {number} {message_id}")
        assert session.ask("STAT").startswith(f"223 {number} {message_id}")
        assert session.code("STAT 999999") == 423


def test_post_and_read_back(server: NewsServer) -> None:
    message_id = fresh_id()
    with RawSession(server) as session:
        assert session.ask("POST").startswith("340")
        session.send(article(message_id, extra="X-Own: kept\r\n"))
        assert re.match(rf"240 .*{re.escape(message_id)}", session.line())
        assert session.ask(f"STAT {message_id}").startswith(f"223 0 {message_id}")
        assert session.ask(f"HEAD {message_id}").startswith(f"221 0 {message_id}")
        head = session.block()
        assert session.ask(f"BODY {message_id}").startswith(f"222 0 {message_id}")
        assert session.block() == [b"some text"]
        assert session.ask(f"ARTICLE {message_id}").startswith(f"220 0 {message_id}")
        assert session.block() == [*head, b"", b"some text"]
    fields = {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in head}
    assert fields[b"message-id"] == message_id.encode()
    assert fields[b"newsgroups"] == GROUP.encode()
    assert fields[b"x-own"] == b"kept"
    assert fields[b"path"].endswith(b"!not-for-mail")
    assert fields[b"date"]


def test_missing_message_id_is_made_and_told(server: NewsServer) -> None:
    with RawSession(server) as session:
        reply = session.submit(article(None))
        made = re.match(r"240 .*(<[^>]+>)", reply)
        assert made, reply
        assert session.code(f"STAT {made[1]}") == 223


def test_duplicate_post(server: NewsServer) -> None:
    message_id = fresh_id()
    with RawSession(server) as session, RawSession(server) as other:
        assert session.submit(article(message_id)).startswith("240")
        assert session.submit(article(message_id, b"other text\r\n")).startswith("441 435")
        assert other.submit(article(message_id)).startswith("441 435")
        session.ask(f"BODY {message_id}")
        assert session.block() == [b"some text"]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(article(None, groups="no.such.group"), id="unknown-group"),
        pytest.param(article(None).replace(b"From:", b"X-From:"), id="no-from"),
        pytest.param(article(None).replace(b"Subject:", b"X-Subject:"), id="no-subject"),
        pytest.param(article(None).replace(b"Newsgroups:", b"X-Groups:"), id="no-newsgroups"),
        pytest.param(article(None).replace(b"@tests.example", b""), id="from-without-address"),
        pytest.param(article("nonsense"), id="bad-message-id"),
        pytest.param(article(None, extra="no colon here\r\n"), id="bad-field"),
        pytest.param(article(None, extra="Date: yesterday\r\n"), id="bad-date"),
        pytest.param(article(None, extra=f"Date: {_now(days=-30)}\r\n"), id="too-old"),
        pytest.param(article(None, extra=f"Date: {_now(days=30)}\r\n"), id="in-the-future"),
        pytest.param(article(None, extra="Xref: here a:1\r\n"), id="xref"),
        pytest.param(article(None, b""), id="no-body"),
        pytest.param(b".\r\n", id="nothing"),
        pytest.param(b"From: someone@tests.example\r\n.\r\n", id="no-empty-line"),
    ],
)
def test_refused_posts_leave_the_session_usable(server: NewsServer, wire: bytes) -> None:
    with RawSession(server) as session:
        reply = session.submit(wire)
        assert reply.startswith("441 "), reply
        assert not re.search(r"\b435\b|[Dd]uplicate", reply), "reads like a duplicate"
        assert session.submit(article(None)).startswith("240")


def test_one_known_group_is_enough(server: NewsServer) -> None:
    with RawSession(server) as session:
        assert session.submit(article(None, groups=f"no.such.group,{GROUP}")).startswith("240")


def test_oversize_is_refused_and_not_kept(server: NewsServer) -> None:
    message_id = fresh_id()
    with RawSession(server) as session:
        reply = session.submit(article(message_id, _wide_body(server.max_article + 100_000)))
        assert reply.startswith("441 ")
        assert str(server.max_article) in reply
        assert session.code(f"STAT {message_id}") == 430


def test_large_articles_come_back_whole(server: NewsServer) -> None:
    message_id, body = fresh_id(), _wide_body(server.max_article - 2000)
    with RawSession(server) as session:
        assert session.submit(article(message_id, body)).startswith("240")
        assert session.code(f"BODY {message_id}") == 222
        assert b"".join(line + b"\r\n" for line in session.block()) == body


def test_missing_articles(server: NewsServer) -> None:
    with RawSession(server) as session:
        for command in ("ARTICLE", "HEAD", "BODY", "STAT"):
            assert session.code(f"{command} {fresh_id()}") == 430


def test_dots_survive(server: NewsServer) -> None:
    message_id = fresh_id()
    with RawSession(server) as session:
        assert session.submit(article(message_id, DOTS_WIRE)).startswith("240")
        session.ask(f"BODY {message_id}")
        assert session.block() == DOTS
        session.ask(f"ARTICLE {message_id}")
        assert session.block()[-len(DOTS) :] == DOTS


def test_every_octet_of_an_article_may_come_alone(server: NewsServer) -> None:
    message_id = fresh_id()
    with RawSession(server) as session:
        assert session.code("POST") == 340
        for octet in article(message_id, b"a\r\n..\r\nb\r\n"):
            session.send(bytes([octet]))
        assert session.line().startswith("240")
        session.ask(f"BODY {message_id}")
        assert session.block() == [b"a", b".", b"b"]


def test_pipelined_commands_are_answered_in_order(server: NewsServer) -> None:
    known = [fresh_id() for _ in range(5)]
    with RawSession(server) as session:
        for message_id in known:
            session.submit(article(message_id, f"{message_id}\r\n".encode()))
        commands = [
            f"{verb} {message_id}\r\n"
            for message_id in (*known, fresh_id())
            for verb in ("BODY", "STAT", "HEAD")
        ]
        session.send("".join([*commands, "DATE\r\n", "QUIT\r\n"]).encode())
        for message_id in known:
            assert session.line().startswith(f"222 0 {message_id}")
            assert session.block() == [message_id.encode()]
            assert session.line().startswith(f"223 0 {message_id}")
            assert session.line().startswith(f"221 0 {message_id}")
            session.block()
        assert [session.line()[:3] for _ in range(5)] == ["430", "430", "430", "111", "205"]
        assert not session.line(), "the server closes after QUIT"


def test_post_may_end_a_pipeline(server: NewsServer) -> None:
    """RFC 3977 §3.5: what may not be followed may still be the last of several."""
    message_id = fresh_id()
    with RawSession(server) as session:
        session.send(f"DATE\r\nSTAT {message_id}\r\nPOST\r\n".encode())
        assert [session.line()[:3] for _ in range(3)] == ["111", "430", "340"]
        session.send(article(message_id))
        assert session.line().startswith("240")


def test_ihave(server: NewsServer) -> None:
    message_id = fresh_id()
    transfer = f"Path: elsewhere!not-for-mail\r\nDate: {_now()}\r\n"
    with RawSession(server) as session:
        wire = article(message_id, extra=transfer)
        assert session.submit(wire, f"IHAVE {message_id}").startswith("235")
        assert session.code(f"IHAVE {message_id}") == 435
        assert session.code(f"BODY {message_id}") == 222
        session.block()
        refused = article(fresh_id(), extra=transfer, groups="no.such.group")
        assert session.submit(refused, f"IHAVE {fresh_id()}")[:3] in {"436", "437"}


def test_login(server_with_users: NewsServer) -> None:
    with RawSession(server_with_users) as session:
        assert session.greeting[:3] in {"200", "201"}
        session.ask("CAPABILITIES")
        assert any(re.match(rb"AUTHINFO.* USER|AUTHINFO USER", line) for line in session.block())
        for command in (f"STAT {fresh_id()}", f"GROUP {GROUP}", "POST", f"IHAVE {fresh_id()}"):
            assert session.code(command) == 480
        assert session.code("DATE") == 111
        assert session.code("MODE READER") in {200, 201}
        assert session.code("AUTHINFO PASS early") == 482
        assert session.code(f"AUTHINFO USER {USER}") == 381
        assert session.code("AUTHINFO PASS wrong") == 481
        assert session.code(f"STAT {fresh_id()}") == 480
        assert session.code("AUTHINFO USER nobody") == 381
        assert session.code(f"AUTHINFO PASS {PASSWORD}") == 481
        assert session.code(f"AUTHINFO USER {USER}") == 381
        assert session.code(f"AUTHINFO PASS {PASSWORD}") == 281
        assert session.code(f"STAT {fresh_id()}") == 430
        assert session.submit(article(None)).startswith("240")
        assert session.code(f"AUTHINFO USER {USER}") == 502


def test_sessions_know_nothing_of_each_other(server: NewsServer) -> None:
    with RawSession(server) as first, RawSession(server) as second:
        assert first.code(f"GROUP {GROUP}") == 211
        assert second.code("STAT 1") == 412
        assert first.code("POST") == 340
        assert second.code("DATE") == 111
        message_id = fresh_id()
        first.send(article(message_id))
        assert first.line().startswith("240")
        assert second.code(f"STAT {message_id}") == 223


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_acknowledged_articles_outlive_the_server(server: NewsServer, how: str) -> None:
    known = [fresh_id() for _ in range(20)]
    with RawSession(server) as session:
        for message_id in known:
            wire = article(message_id, f"{message_id}\r\n".encode() + _wide_body(50_000))
            assert session.submit(wire).startswith("240")
        if how == "kill":
            server.kill()
            server.start()
        else:
            server.restart()
    with RawSession(server) as session:
        for message_id in known:
            assert session.code(f"BODY {message_id}") == 222
            assert session.block()[0] == message_id.encode()
            assert session.submit(article(message_id)).startswith("441 435")
