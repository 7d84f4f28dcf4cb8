"""What becomes of an article on its way into the spool. Refusals: see the conformance suite."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.servers import GROUP, article
from usenetfs.nntpd.posting import RefusedPostError, examine, renamed

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def _wire(message_id: str | None = "<a@b.example>", extra: str = "") -> bytes:
    return article(message_id, extra=extra).removesuffix(b".\r\n")


def test_complete_article_gets_a_path_only() -> None:
    wire = _wire(extra="Date: Tue, 24 Nov 2026 11:00:00 +0000\r\n")
    filing = examine(wire, [GROUP], NOW)
    assert filing.message_id == "<a@b.example>"
    assert filing.groups == (GROUP,)
    assert filing.head.endswith(wire[: wire.index(b"\r\n\r\n") + 4])
    assert filing.head.startswith(b"Path: ")
    assert bytes(filing.body) == b"some text\r\n"


def test_what_is_missing_is_added() -> None:
    filing = examine(_wire(None), [GROUP], NOW)
    lines = filing.head.split(b"\r\n")
    assert b"Message-ID: " + filing.message_id.encode() in lines
    assert b"Date: Tue, 24 Nov 2026 12:00:00 +0000" in lines


def test_given_path_is_kept() -> None:
    filing = examine(_wire(extra="Path: a!b\r\n"), [GROUP], NOW)
    assert filing.head.count(b"Path:") == 1


def test_folded_fields_are_read_whole() -> None:
    wire = _wire().replace(GROUP.encode(), b"no.such,\r\n " + GROUP.encode())
    assert examine(wire, [GROUP], NOW).groups == (GROUP,)


def test_foreign_text_in_a_refusal_is_made_harmless() -> None:
    wire = _wire().replace(GROUP.encode(), "grüße\x07".encode())
    with pytest.raises(RefusedPostError) as caught:
        examine(wire, [GROUP], NOW)
    assert caught.value.reason.isascii()
    assert caught.value.reason.isprintable()


def test_renamed_changes_the_field_and_nothing_else() -> None:
    filing = examine(_wire(extra="X-Copy: <a@b.example>\r\n"), [GROUP], NOW)
    other = renamed(filing, "<c@d.example>")
    assert other.message_id == "<c@d.example>"
    assert b"\r\nMessage-ID: <c@d.example>\r\n" in other.head
    assert b"\r\nX-Copy: <a@b.example>\r\n" in other.head
    assert len(other.head.split(b"\r\n")) == len(filing.head.split(b"\r\n"))
