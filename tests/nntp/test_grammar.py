"""Command lines, limits, dot-stuffing."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usenetfs.errors import LocalProtocolError
from usenetfs.nntp import grammar
from usenetfs.nntp.grammar import (
    CommandSyntaxError,
    Verb,
    clean_text,
    dot_stuff,
    dot_unstuff,
    encode_command,
    is_message_id,
    parse_command,
)

ID = "<a.b@c>"


@pytest.mark.parametrize(
    ("verb", "arguments", "line"),
    [
        (Verb.CAPABILITIES, (), b"CAPABILITIES\r\n"),
        (Verb.CAPABILITIES, ("AUTOUPDATE",), b"CAPABILITIES AUTOUPDATE\r\n"),
        (Verb.MODE_READER, (), b"MODE READER\r\n"),
        (Verb.STARTTLS, (), b"STARTTLS\r\n"),
        (Verb.AUTHINFO_USER, ("me",), b"AUTHINFO USER me\r\n"),
        (Verb.AUTHINFO_PASS, ("two words é",), "AUTHINFO PASS two words é\r\n".encode()),
        (Verb.GROUP, ("alt.binaries.test",), b"GROUP alt.binaries.test\r\n"),
        (Verb.POST, (), b"POST\r\n"),
        (Verb.IHAVE, (ID,), b"IHAVE <a.b@c>\r\n"),
        (Verb.ARTICLE, (ID,), b"ARTICLE <a.b@c>\r\n"),
        (Verb.HEAD, (ID,), b"HEAD <a.b@c>\r\n"),
        (Verb.BODY, ("12",), b"BODY 12\r\n"),
        (Verb.STAT, (), b"STAT\r\n"),
        (Verb.DATE, (), b"DATE\r\n"),
        (Verb.QUIT, (), b"QUIT\r\n"),
    ],
)
def test_every_verb_there_and_back(verb: Verb, arguments: tuple[str, ...], line: bytes) -> None:
    assert encode_command(verb, arguments) == line
    assert parse_command(line[:-2]) == (verb, arguments)
    if verb not in grammar.SECRET_VERBS:
        assert parse_command(line[:-2].lower().replace(b" ", b" \t ")) == (
            verb,
            tuple(argument.lower() for argument in arguments),
        )


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        (Verb.DATE, ("now",)),
        (Verb.POST, (ID,)),
        (Verb.IHAVE, ()),
        (Verb.IHAVE, ("12",)),
        (Verb.GROUP, ()),
        (Verb.GROUP, ("a b",)),
        (Verb.GROUP, ("alt.*",)),
        (Verb.BODY, (ID, ID)),
        (Verb.BODY, ("a@b",)),
        (Verb.BODY, ("",)),
        (Verb.STAT, ("-1",)),
        (Verb.STAT, ("١٢",)),
        (Verb.AUTHINFO_USER, ()),
        (Verb.AUTHINFO_USER, ("",)),
        (Verb.AUTHINFO_USER, ("a", "b")),
        (Verb.CAPABILITIES, ("a b",)),
        (Verb.MODE_READER, ("x",)),
    ],
)
def test_arguments_that_do_not_fit(verb: Verb, arguments: tuple[str, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_command(verb, arguments)


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("bad", ["\r\nQUIT", "\n", "\r", "\0", "x\r\nPOST\r\n", "<a@b>\n", "1\n"])
def test_no_second_command_can_be_smuggled_in(verb: Verb, bad: str) -> None:
    for argument in (bad, "x" + bad, f"<a{bad}@b>"):
        with pytest.raises(LocalProtocolError):
            encode_command(verb, (argument,))


@given(st.sampled_from(list(Verb)), st.lists(st.text(), max_size=3))
def test_whatever_is_sent_is_one_line_that_means_what_was_asked(
    verb: Verb, arguments: list[str]
) -> None:
    try:
        line = encode_command(verb, tuple(arguments))
    except LocalProtocolError:
        return
    assert len(line) <= 512
    assert line.endswith(b"\r\n")
    assert not set(line[:-2]) & set(b"\r\n\0")
    if verb in grammar.SECRET_VERBS:
        assert parse_command(line[:-2])[0] is verb or not arguments[0].strip(" \t")
    else:
        assert parse_command(line[:-2]) == (verb, tuple(arguments))


def test_secrets_are_in_no_error() -> None:
    for secret in ("hunter2\r\n", "hunter2\0", "hunter2" * 100, "hunter2\ud800\udfff"):
        with pytest.raises(LocalProtocolError) as caught:
            encode_command(Verb.AUTHINFO_PASS, (secret,))
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in str(caught.value) + repr(caught.value)
        assert "hunter2" not in shown
    for line in (b"AUTHINFO PASS hunter2\n", b"AUTHINFO SECRET hunter2", b"PASS hunter2"):
        with pytest.raises(CommandSyntaxError) as refused:
            parse_command(line)
        assert "hunter2" not in str(refused.value)


def test_the_longest_command() -> None:
    name = "g" * (512 - len("GROUP \r\n"))
    assert len(encode_command(Verb.GROUP, (name,))) == 512
    with pytest.raises(LocalProtocolError):
        encode_command(Verb.GROUP, (name + "g",))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("<a@b>", True),
        ("<a>", True),
        ("<" + "x" * 248 + ">", True),
        ("<" + "x" * 249 + ">", False),
        ("<>", False),
        ("<a b@c>", False),
        ("<a>b@c>", False),
        ("<a<b@c>", True),
        ("<é@c>", False),
        ("a@b", False),
        ("<a@b>\n", False),
    ],
)
def test_message_ids(text: str, good: bool) -> None:
    assert is_message_id(text) is good


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 500),
        (b" \t", 500),
        (b"XYZZY", 500),
        (b"\xff\xfe", 500),
        (b"MODE", 501),
        (b"MODE STREAM", 501),
        (b"AUTHINFO", 501),
        (b"AUTHINFO SASL PLAIN", 501),
        (b"AUTHINFO USER", 501),
        (b"BODY <a@b> <c@d>", 501),
        (b"BODY nonsense", 501),
        (b"DATE\n", 501),
        (b"DA\0TE", 501),
    ],
)
def test_lines_that_are_no_command(line: bytes, code: int) -> None:
    with pytest.raises(CommandSyntaxError) as caught:
        parse_command(line)
    assert caught.value.code == code


@given(st.binary(max_size=600))
def test_any_line_is_a_command_or_refused(line: bytes) -> None:
    try:
        verb, arguments = parse_command(line)
    except CommandSyntaxError as error:
        code = error.code
    else:
        code = 0
        if len(line) <= 400:
            assert encode_command(verb, arguments).upper()[:4] == line.strip(b" \t").upper()[:4]
    assert code in {0, 500, 501}


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"..\r\nx\r\n...y\r\n", b"...\r\nx\r\n....y\r\n"),
        (b"a.b\r\n", b"a.b\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n"),
    ],
)
def test_dot_stuffing(content: bytes, wire: bytes) -> None:
    assert dot_stuff(content) == wire
    assert dot_unstuff(wire) == (content if content.endswith(b"\r\n") or not content else b"a\r\n")


@given(st.lists(st.sampled_from([b".", b"\r\n", b"a", b"\r", b"\n"])).map(b"".join))
@example(b"\r\n.\r\n.\r\n")
def test_stuffing_hides_every_terminator_and_comes_off(content: bytes) -> None:
    wire = dot_stuff(content)
    assert b"\r\n.\r\n" not in b"\r\n" + wire
    whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert dot_unstuff(wire) == whole


def test_clean_text() -> None:
    assert clean_text("crème".encode()) == "crème"
    assert clean_text(b"a\x1b[31mb\xff\t") == "a\ufffd[31mb\ufffd\t"


def test_the_tables_agree() -> None:
    assert set(grammar.REPLY_CODES) == set(Verb)
    for verb, code in [*grammar.BLOCK_CODES.items(), *grammar.GO_AHEAD_CODES.items()]:
        assert code in grammar.REPLY_CODES[verb]
    assert set(grammar.GO_AHEAD_CODES) == set(grammar.ARTICLE_CODES) <= grammar.EXCLUSIVE_VERBS
    assert grammar.SECRET_VERBS <= grammar.EXCLUSIVE_VERBS
