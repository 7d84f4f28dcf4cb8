"""The words of NNTP: verbs, limits, reply codes, lines and dot-stuffing.

Owns the tables that both roles read, and the only functions that turn arguments into a command
line and back. A command line is built here or nowhere, so a CR, LF or NUL that would smuggle in a
second command cannot leave the program. Knows no state: what may be said *when* is in ``client``
and ``server``.

Limits (octets), with their sources:

====================  =====  =================================================
a command line          512  RFC 3977 §3.1, including CRLF
a Message-ID          3–250  RFC 3977 §3.6, including the angle brackets
====================  =====  =================================================

Replies that go on. Every code from 400 up is one line, whatever the verb; below 400 a verb has
exactly these, and anything else is a violation:

==============  =====================  ==========================================
verb            codes                  what follows
==============  =====================  ==========================================
CAPABILITIES    101                    a block (RFC 3977 §5.2)
MODE READER     200 201                nothing (§5.3)
STARTTLS        382                    the TLS handshake (RFC 4642 §2.2)
AUTHINFO USER   281 381                nothing; 381 asks for PASS (RFC 4643 §2.3)
AUTHINFO PASS   281                    nothing
GROUP           211                    nothing (RFC 3977 §6.1.1)
POST            340, then 240          after 340 the article (§6.3.1)
IHAVE           335, then 235          after 335 the article (§6.3.2)
ARTICLE         220                    a block (§6.2.1)
HEAD            221                    a block (§6.2.2)
BODY            222                    a block (§6.2.3)
STAT            223                    nothing (§6.2.4)
DATE            111                    nothing (§7.1)
QUIT            205                    the end of the session (§5.4)
==============  =====================  ==========================================

May not be followed by another command before its reply ("MUST NOT be pipelined"): MODE READER,
POST, IHAVE (RFC 3977), STARTTLS (RFC 4642 §2.2.1), AUTHINFO (RFC 4643 §2.2). Such a command may
end a pipeline (RFC 3977 §3.5). QUIT ends the session, so nothing follows it either.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

from usenetfs.errors import LocalProtocolError

MAX_COMMAND: Final = 512
CRLF: Final = b"\r\n"
BLOCK_END: Final = b"\r\n.\r\n"
"""The end of a block, with the CRLF that ends its last line (or the line before the block)."""


class Verb(enum.Enum):
    """A command, by its words."""

    CAPABILITIES = "CAPABILITIES"
    MODE_READER = "MODE READER"
    STARTTLS = "STARTTLS"
    AUTHINFO_USER = "AUTHINFO USER"
    AUTHINFO_PASS = "AUTHINFO PASS"  # noqa: S105 - a command, not a password
    GROUP = "GROUP"
    POST = "POST"
    ARTICLE = "ARTICLE"
    HEAD = "HEAD"
    BODY = "BODY"
    STAT = "STAT"
    DATE = "DATE"
    QUIT = "QUIT"
    IHAVE = "IHAVE"


SECRET_VERBS: Final = frozenset({Verb.AUTHINFO_USER, Verb.AUTHINFO_PASS})
"""Their arguments, and replies to them, appear in no ``repr`` and no error."""

EXCLUSIVE_VERBS: Final = frozenset(
    {
        Verb.MODE_READER,
        Verb.STARTTLS,
        Verb.AUTHINFO_USER,
        Verb.AUTHINFO_PASS,
        Verb.POST,
        Verb.IHAVE,
    }
)
"""Nothing may be sent after one of these before its reply."""

REPLY_CODES: Final[Mapping[Verb, frozenset[int]]] = {
    Verb.CAPABILITIES: frozenset({101}),
    Verb.MODE_READER: frozenset({200, 201}),
    Verb.STARTTLS: frozenset({382}),
    Verb.AUTHINFO_USER: frozenset({281, 381}),
    Verb.AUTHINFO_PASS: frozenset({281}),
    Verb.GROUP: frozenset({211}),
    Verb.POST: frozenset({340}),
    Verb.IHAVE: frozenset({335}),
    Verb.ARTICLE: frozenset({220}),
    Verb.HEAD: frozenset({221}),
    Verb.BODY: frozenset({222}),
    Verb.STAT: frozenset({223}),
    Verb.DATE: frozenset({111}),
    Verb.QUIT: frozenset({205}),
}
"""First reply to a verb, below 400."""

GO_AHEAD_CODES: Final[Mapping[Verb, int]] = {Verb.POST: 340, Verb.IHAVE: 335}
"""After this reply the client sends an article."""

ARTICLE_CODES: Final[Mapping[Verb, int]] = {Verb.POST: 240, Verb.IHAVE: 235}
"""The article was taken."""

BLOCK_CODES: Final[Mapping[Verb, int]] = {
    Verb.CAPABILITIES: 101,
    Verb.ARTICLE: 220,
    Verb.HEAD: 221,
    Verb.BODY: 222,
}
"""The reply that has a block."""

WELCOME_CODES: Final = frozenset({200, 201})

_MESSAGE_ID: Final = re.compile(r"<[!-=?-~]{1,248}>")
_ARTICLE_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_GROUP_NAME: Final = re.compile(r"[^\x00-\x20\x7f*?!,\[\\\]]+")
_KEYWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9.-]{2,}")
_NOT_IN_A_LINE: Final = re.compile(rb"[\x00\r\n]")


class CommandSyntaxError(Exception):
    """A command line is not one we know: ``code`` (500 or 501) and ``reason`` are for the reply.

    ``reason`` never repeats what was received. Caught by the server role; never leaves ``nntp``.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


def is_message_id(text: str) -> bool:
    """Whether ``text`` is a Message-ID as RFC 3977 §3.6 has it."""
    return _MESSAGE_ID.fullmatch(text) is not None


def _is_article(text: str) -> bool:
    return is_message_id(text) or _ARTICLE_NUMBER.fullmatch(text) is not None


def _arguments_fit(verb: Verb, arguments: tuple[str, ...]) -> bool:
    """Whether the number and the shape of the arguments are right for the verb."""
    match verb, arguments:
        case ((Verb.AUTHINFO_USER | Verb.AUTHINFO_PASS), (secret,)):
            return bool(secret)  # B-CHAR of RFC 4643 §3.1: blanks are allowed
        case Verb.GROUP, (name,):
            return _GROUP_NAME.fullmatch(name) is not None
        case Verb.IHAVE, (message_id,):
            return is_message_id(message_id)
        case ((Verb.ARTICLE | Verb.HEAD | Verb.BODY | Verb.STAT), (article,)):
            return _is_article(article)
        case Verb.CAPABILITIES, (keyword,):
            return _KEYWORD.fullmatch(keyword) is not None
        case ((Verb.AUTHINFO_USER | Verb.AUTHINFO_PASS | Verb.GROUP | Verb.IHAVE), _):
            return False
    return not arguments


def encode_command(verb: Verb, arguments: tuple[str, ...] = ()) -> bytes:
    """The command line with its CRLF. LocalProtocolError if NNTP has no such line.

    The error names the verb and never an argument, because that may be a password.
    """
    if not _arguments_fit(verb, arguments):
        raise LocalProtocolError(f"{verb.value}: the arguments do not fit the command")
    try:
        line = " ".join((verb.value, *arguments)).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # The cause would quote the argument.
        raise LocalProtocolError(f"{verb.value}: an argument has no octets") from None
    if _NOT_IN_A_LINE.search(line):
        raise LocalProtocolError(f"{verb.value}: an argument holds CR, LF or NUL")
    if len(line) + len(CRLF) > MAX_COMMAND:
        raise LocalProtocolError(f"{verb.value}: the line is longer than {MAX_COMMAND} octets")
    return line + CRLF


_VERBS: Final = {verb.value: verb for verb in Verb}
_FIRST_WORDS: Final = frozenset(verb.value.partition(" ")[0] for verb in Verb)
_TWO_WORDS: Final = frozenset({"MODE", "AUTHINFO"})


def parse_command(line: bytes) -> tuple[Verb, tuple[str, ...]]:
    """Verb and arguments of a command line without its CRLF. CommandSyntaxError if it is none.

    Words are parted by blanks and tabs; the argument of AUTHINFO is the rest of the line, blanks
    included (RFC 4643 §3.1). Octets that are not UTF-8 survive as surrogate escapes.
    """
    if _NOT_IN_A_LINE.search(line):
        raise CommandSyntaxError(501, "a command line may not hold CR, LF or NUL")
    text = line.decode("utf-8", "surrogateescape").lstrip(" \t")
    word, rest = _split_word(text)
    name = word.upper()
    if name not in _FIRST_WORDS:
        raise CommandSyntaxError(500, "what is that?")
    if name in _TWO_WORDS:
        word, rest = _split_word(rest)
        name = f"{name} {word.upper()}"
    verb = _VERBS.get(name)
    if verb is None:
        raise CommandSyntaxError(501, "no such variant of the command")
    if verb in SECRET_VERBS:
        arguments: tuple[str, ...] = (rest,) if rest else ()
    else:
        arguments = tuple(part for part in re.split(r"[ \t]+", rest) if part)
    if not _arguments_fit(verb, arguments):
        raise CommandSyntaxError(501, "the arguments do not fit the command")
    return verb, arguments


def _split_word(text: str) -> tuple[str, str]:
    """First word, and what follows the one blank or the blanks after it."""
    match = re.match(r"([^ \t]*)[ \t]*", text)
    assert match is not None
    return match[1], text[match.end() :]


def clean_text(text: bytes) -> str:
    """A status line's text for people: UTF-8 where it is, control characters made visible."""
    decoded = text.decode("utf-8", "replace")
    if decoded.isprintable():
        return decoded
    return "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in decoded
    )


def dot_stuff(block: bytes) -> bytes:
    """The block as it goes over the wire, without the terminator: leading dots doubled.

    Lines end with CRLF; a missing last one is added. Without leading dots it is returned as it is.
    """
    if block and not block.endswith(CRLF):
        block += CRLF
    if block.startswith(b"."):
        block = b"." + block
    # rfind is a third faster than "in" (CPython 3.11), and most blocks have no such line.
    return block.replace(b"\r\n.", b"\r\n..") if block.rfind(b"\r\n.") >= 0 else block


def dot_unstuff(wire: bytes) -> bytes:
    """The inverse of :func:`dot_stuff` (RFC 3977 §3.1.1)."""
    if wire.startswith(b"."):
        wire = wire[1:]
    return wire.replace(b"\r\n.", b"\r\n") if wire.rfind(b"\r\n.") >= 0 else wire
