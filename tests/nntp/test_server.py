"""The server role: commands to events, articles, replies, and what a client may not do to us."""

from __future__ import annotations

import pytest

from tests.nntp.examples import (
    MESSAGE_ID,
    commands,
    pieces,
    random_bytes,
    ready_server,
    server_state,
    yenc,
)
from usenetfs.errors import ConnectionLostError, LocalProtocolError
from usenetfs.nntp.grammar import BLOCK_CODES, Verb, dot_stuff, encode_command
from usenetfs.nntp.server import (
    TRANSITIONS,
    ArticleReceived,
    ArticleTooLarge,
    BadCommand,
    CommandReceived,
    Event,
    ServerProtocol,
    ServerState,
    Step,
)

CHUNKS = (1, 2, 3, 5, 7, 100, 4096, 1 << 20)


def feed(server: ServerProtocol, octets: bytes, step: int) -> list[Event]:
    events: list[Event] = []
    for piece in pieces(octets, [step] * (len(octets) // step + 1)):
        events += server.feed(piece)
    return events


# --- the greeting -----------------------------------------------------------------------------


def test_nothing_is_looked_at_before_the_greeting() -> None:
    server = ServerProtocol()
    assert server.feed(b"DATE\r\n") == []
    assert server.reply(200, "hello") == b"200 hello\r\n"
    assert commands(server.events()) == [(Verb.DATE, ())]
    assert server.reply(111, "now") == b"111 now\r\n"


def test_a_refusing_greeting_ends_the_session() -> None:
    server = ServerProtocol()
    server.feed(b"DATE\r\n")
    server.reply(502, "too many")
    assert server_state(server) is ServerState.CLOSING
    assert server.events() == []
    assert server.feed(b"DATE\r\n" * 100_000) == []


# --- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", CHUNKS)
def test_pipelined_commands_come_in_order(step: int) -> None:
    server = ready_server()
    asked: list[tuple[Verb, tuple[str, ...]]] = [
        (Verb.CAPABILITIES, ()),
        (Verb.MODE_READER, ()),
        (Verb.AUTHINFO_USER, ("me and you",)),
        (Verb.AUTHINFO_PASS, ("pass word",)),
        (Verb.GROUP, ("alt.binaries.test",)),
        (Verb.STAT, (MESSAGE_ID,)),
        (Verb.HEAD, (MESSAGE_ID,)),
        (Verb.BODY, ("12",)),
        (Verb.ARTICLE, ()),
        (Verb.DATE, ()),
        (Verb.QUIT, ()),
    ]
    wire = b"".join(encode_command(verb, arguments) for verb, arguments in asked)
    assert commands(feed(server, wire, step)) == asked
    assert server.owed == len(asked)
    assert server.reply_block(101, "list", b"VERSION 2\r\n") == b"101 list\r\nVERSION 2\r\n.\r\n"


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 500),
        (b"XYZZY", 500),
        (b"MODE STREAM", 501),
        (b"DATE\0", 501),
        (b"DA\rTE", 501),
        (b"DATE\nDATE", 501),
        (b"GROUP " + b"g" * 505, 501),
        (b"x" * 511, 501),
        (b"x" * 70_000, 501),
        (b"\r" * 600, 501),
    ],
)
def test_bad_lines_get_a_reply_and_the_session_goes_on(step: int, line: bytes, code: int) -> None:
    server = ready_server()
    events = feed(server, b"DATE\r\n" + line + b"\r\nDATE\r\n", step)
    assert [type(event) for event in events] == [CommandReceived, BadCommand, CommandReceived]
    bad = events[1]
    assert isinstance(bad, BadCommand)
    assert bad.code == code
    server.reply(111, "now")
    assert server.reply(bad.code, bad.reason).startswith(b"%d " % code)
    server.reply(111, "now")
    assert server.owed == 0


@pytest.mark.parametrize("step", [1, 1000])
def test_the_longest_line(step: int) -> None:
    server = ready_server()
    wire = encode_command(Verb.GROUP, ("g" * 504,))
    assert len(wire) == 512
    assert commands(feed(server, wire, step)) == [(Verb.GROUP, ("g" * 504,))]


def test_an_endless_line_is_not_kept() -> None:
    server = ready_server()
    for _ in range(1000):
        assert server.feed(b"x" * 10_000) == []
    assert server_state(server) is ServerState.LONG_LINE
    assert len(server.buffer()) <= 1 << 17
    server.reply(400, "enough")
    assert server_state(server) is ServerState.CLOSING


# --- articles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b".\r\n",
        b"..\r\n",
        b"a\r\n.\r\n",
        b"Subject: x\r\n\r\n.\r\n..\r\n...\r\nbody\r\n\r\n",
        b"Subject: x\r\n\r\n" + yenc(random_bytes(20_000)),
        b"bare \n.\n and \r.\r\n",
        b"\r\n" * 50,
    ],
)
def test_articles_arrive_octet_for_octet(step: int, content: bytes) -> None:
    for verb, go_ahead in ((b"POST", 340), (b"IHAVE <a@b>", 335)):
        server = ready_server()
        assert len(feed(server, verb + b"\r\n", step)) == 1
        server.reply(go_ahead, "go")
        events = feed(server, dot_stuff(content) + b".\r\nDATE\r\n", step)
        article, date = events
        assert isinstance(article, ArticleReceived)
        assert article.content == content
        assert article.wire == dot_stuff(content)
        assert date == CommandReceived(Verb.DATE)
        server.reply(240, "thanks")
        server.reply(111, "now")
        assert server.owed == 0


def test_an_unstuffed_article_is_not_copied() -> None:
    article = ArticleReceived(Verb.POST, b"a\r\n")
    assert article.content is article.wire


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize("reply", [340, 440])
def test_what_follows_post_waits_for_the_reply(step: int, reply: int) -> None:
    """The same octets are an article or commands, as the reply has it."""
    server = ready_server()
    events = feed(server, b"STAT <a@b>\r\nPOST\r\nDATE\r\n.\r\nDATE\r\n", step)
    assert commands(events) == [(Verb.STAT, ("<a@b>",)), (Verb.POST, ())]
    server.reply(223, "0 <a@b>")
    assert server_state(server) is ServerState.DECIDING
    assert server.events() == []
    server.reply(reply, "so")
    if reply == 340:
        article, date = server.events()
        assert article == ArticleReceived(Verb.POST, b"DATE\r\n")
        assert date == CommandReceived(Verb.DATE)
    else:
        kinds = [type(event) for event in server.events()]
        assert kinds == [CommandReceived, BadCommand, CommandReceived]


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize("size", [1000, 1001, 1002, 1004, 5000, 300_000])
def test_articles_too_large_are_read_to_their_end(step: int, size: int) -> None:
    server = ready_server(max_article=1000)
    content = b"x" * (size - 2) + b"\r\n"
    server.feed(b"POST\r\n")
    server.reply(340)
    article, date = feed(server, content + b".\r\nDATE\r\n", step)
    if size <= 1000:
        assert article == ArticleReceived(Verb.POST, content)
    else:
        assert article == ArticleTooLarge(Verb.POST, size)
    assert date == CommandReceived(Verb.DATE)


def test_memory_for_articles_is_bounded() -> None:
    server = ready_server(max_article=100_000)
    server.feed(b"POST\r\n")
    server.reply(340)
    for _ in range(300):
        assert server.feed(b"x" * 10_000) == []
        assert len(server.buffer()) <= 100_000 + (1 << 17)
    (event,) = server.feed(b"\r\n.\r\n")
    assert event == ArticleTooLarge(Verb.POST, 3_000_002)


def test_a_flood_while_a_reply_is_due_is_refused() -> None:
    server = ready_server(max_article=1000)
    server.feed(b"POST\r\n")
    with pytest.raises(LocalProtocolError):
        server.feed(b"DATE\r\n" * 100_000)


def test_many_small_articles_in_one_buffer() -> None:
    server = ready_server()
    assert commands(server.feed(b"POST\r\n.\r\n" * 20_000)) == [(Verb.POST, ())]
    count = 0
    while True:
        server.reply(340)
        events = server.events()
        assert events[0] == ArticleReceived(Verb.POST, b"")
        count += 1
        server.reply(240)
        if len(events) == 1:
            break
    assert count == 20_000


def test_large_articles_one_after_the_other() -> None:
    server = ready_server()
    content = b"Subject: x\r\n\r\n" + yenc(random_bytes(716_800))
    for _ in range(5):
        server.feed(b"POST\r\n")
        server.reply(340)
        (event,) = feed(server, content + b".\r\n", 50_000)
        assert isinstance(event, ArticleReceived)
        assert event.content == content
        server.reply(240)


# --- TLS and the end --------------------------------------------------------------------------


def test_octets_before_tls_are_dropped() -> None:
    server = ready_server()
    assert commands(server.feed(b"STARTTLS\r\nAUTHINFO USER eve\r\n")) == [(Verb.STARTTLS, ())]
    server.reply(382, "go")
    assert server.events() == []
    assert commands(server.feed(b"DATE\r\n")) == [(Verb.DATE, ())]


def test_without_tls_the_commands_go_on() -> None:
    server = ready_server()
    server.feed(b"STARTTLS\r\nDATE\r\n")
    server.reply(580, "no TLS")
    assert commands(server.events()) == [(Verb.DATE, ())]


def test_quit_ends_the_session() -> None:
    server = ready_server()
    assert commands(server.feed(b"QUIT\r\nDATE\r\n")) == [(Verb.QUIT, ())]
    assert server.reply(205, "bye") == b"205 bye\r\n"
    assert server_state(server) is ServerState.CLOSING
    assert server.events() == []
    assert server.feed(b"DATE\r\n") == []
    assert server.feed(b"") == []
    assert server_state(server) is ServerState.CLOSED


@pytest.mark.parametrize("unfinished", [b"DA", b"x" * 1000, b"POST\r\nSubject", b"POST\r\n"])
def test_the_end_amid_something(unfinished: bytes) -> None:
    server = ready_server()
    if commands(server.feed(unfinished)):
        server.reply(340)
        server.events()
    with pytest.raises(ConnectionLostError):
        server.feed(b"")
    assert server_state(server) is ServerState.CLOSED
    with pytest.raises(LocalProtocolError):
        server.feed(b"DATE\r\n")


def test_the_end_between_commands() -> None:
    server = ready_server()
    server.feed(b"DATE\r\n")
    assert server.feed(b"") == []
    assert server_state(server) is ServerState.CLOSED


# --- replies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a\r\n200 b", "a\nb", "a\rb", "a\0b", "x" * 600])
def test_no_second_line_can_be_smuggled_into_a_reply(text: str) -> None:
    server = ready_server()
    server.feed(b"HEAD 1\r\n")
    with pytest.raises(LocalProtocolError):
        server.reply(430, text)
    with pytest.raises(LocalProtocolError):
        server.reply_block(221, text, b"")
    assert server.owed == 1
    assert server.reply(430, "no") == b"430 no\r\n"


def test_replies_that_are_not_due() -> None:
    server = ready_server()
    with pytest.raises(LocalProtocolError):
        server.reply(223, "x")
    with pytest.raises(LocalProtocolError):
        server.reply_block(222, "x", b"")
    server.feed(b"STAT 1\r\n")
    with pytest.raises(LocalProtocolError):
        server.reply(99)
    with pytest.raises(LocalProtocolError):
        server.reply_block(222, "x", b"")
    server.reply(223, "1 <a@b>")
    server.feed(b"POST\r\n")
    server.reply(340)
    with pytest.raises(LocalProtocolError):
        server.reply(240)
    assert server.reply(400, "going down") == b"400 going down\r\n"
    assert server_state(server) is ServerState.CLOSING


@pytest.mark.parametrize("verb", sorted(BLOCK_CODES, key=str))
def test_blocks(verb: Verb) -> None:
    code = BLOCK_CODES[verb]
    server = ready_server()
    for _ in range(5):
        server.feed(encode_command(verb))
    with pytest.raises(LocalProtocolError):
        server.reply(code, "x")
    start = b"%d x\r\n" % code
    assert server.reply_block(code, "x", b"") == start + b".\r\n"
    assert server.reply_block(code, "x", b".a\r\n.\r\n") == start + b"..a\r\n..\r\n.\r\n"
    assert server.reply_block(code, "x", b"a") == start + b"a\r\n.\r\n"
    assert server.reply_block(code, "x", b"..a\r\n", stuffed=True) == start + b"..a\r\n.\r\n"
    with pytest.raises(LocalProtocolError):
        server.reply_block(code, "x", b"a", stuffed=True)


def test_a_command_may_be_refused_after_the_session_ended() -> None:
    server = ready_server()
    server.feed(b"DATE\r\nDATE\r\nDATE\r\n")
    server.reply(400, "bye")
    assert server.reply(400, "bye") == b"400 bye\r\n"
    assert server.reply(111, "now") == b"111 now\r\n"


# --- what is shown, and the table -------------------------------------------------------------


def test_secrets_are_in_no_repr() -> None:
    server = ready_server()
    events = server.feed(b"AUTHINFO USER hunter1\r\nAUTHINFO PASS hunter2\r\nPASS hunter3\r\n")
    assert "hunter" not in repr(events) + repr(server)
    assert "alt.test" in repr(CommandReceived(Verb.GROUP, ("alt.test",)))
    assert repr(ArticleReceived(Verb.POST, b"secret")) == "<ArticleReceived POST 6 octets>"
    assert repr(ready_server()) == "<ServerProtocol COMMANDS, 0 replies owed, 0 octets held>"


def test_counts_that_do_not_fit_the_buffer() -> None:
    server = ready_server()
    for count in (-1, len(server.buffer()) + 1):
        with pytest.raises(LocalProtocolError):
            server.received(count)


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(ServerState)
    assert {step for steps in TRANSITIONS.values() for step in steps} == set(Step)
    reached = {state for steps in TRANSITIONS.values() for state in steps.values()}
    assert reached | {ServerState.GREETING} == set(ServerState)
    for steps in TRANSITIONS.values():
        assert steps[Step.END] is ServerState.CLOSED
    assert set(TRANSITIONS[ServerState.CLOSED].values()) == {ServerState.CLOSED}
