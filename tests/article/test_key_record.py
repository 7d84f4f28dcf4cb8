"""The key file is found and opened from a passphrase and a name, or from the recovery key."""

from __future__ import annotations

import pytest

from tests.article.examples import DATE, FILESYSTEM_ID, MASTER, member, noise
from usenetfs.article.container import Kind, pack
from usenetfs.article.key_file import create_key_file, unlock, unlock_with_recovery_key
from usenetfs.article.key_record import (
    LOCATOR_COST,
    KeyRecordLocator,
    build_key_record,
    open_key_record,
)
from usenetfs.article.passphrase import DEFAULT_COST, MINIMUM_COST
from usenetfs.article.recovery_key import format_recovery_key, parse_recovery_key
from usenetfs.article.seal import seal
from usenetfs.article.yenc import decode_body
from usenetfs.errors import ContainerError, SealError
from usenetfs.types import article_id

FILE = create_key_file(MASTER, "pass", filesystem_id=FILESYSTEM_ID, name="n", cost=MINIMUM_COST)
BY_PASSPHRASE = KeyRecordLocator.from_passphrase("pass", name="n", cost=MINIMUM_COST)
BY_MASTER = KeyRecordLocator.from_master(MASTER)


def posted_body(locator: KeyRecordLocator, generation: int = 0, copy: int = 0) -> bytes:
    article = build_key_record(
        locator,
        FILE,
        generation=generation,
        copy=copy,
        salt=noise("key record", 32),
        randomness=noise("padding", 4),
        groups=["alt.test"],
        date=DATE,
    )
    assert article.message_id == locator.message_id(generation, copy)
    assert article.wire.startswith(f"Message-ID: {article.message_id}\r\n".encode())
    return bytes(decode_body(article.wire.partition(b"\r\n\r\n")[2]))


def test_a_new_machine_with_the_passphrase() -> None:
    body = posted_body(BY_PASSPHRASE)
    locator = KeyRecordLocator.from_passphrase("pass", name="n", cost=MINIMUM_COST)
    assert locator == BY_PASSPHRASE
    assert unlock(open_key_record(locator, body, generation=0), "pass") == MASTER


def test_a_new_machine_with_the_recovery_key() -> None:
    body = posted_body(BY_MASTER, generation=2, copy=1)
    text = format_recovery_key(MASTER)
    locator = KeyRecordLocator.from_master(parse_recovery_key(text))
    file = open_key_record(locator, body, generation=2)
    assert unlock_with_recovery_key(file, text) == MASTER


def test_everything_that_differs_gives_another_locator() -> None:
    locators = [
        BY_PASSPHRASE,
        BY_MASTER,
        KeyRecordLocator.from_master(bytes(32)),
        KeyRecordLocator.from_passphrase("Pass", name="n", cost=MINIMUM_COST),
        KeyRecordLocator.from_passphrase("pass", name="N", cost=MINIMUM_COST),
    ]
    ids = {locator.message_id(generation) for locator in locators for generation in range(3)}
    assert len(ids) == 15
    for locator in locators[1:]:
        with pytest.raises(SealError):
            open_key_record(locator, posted_body(BY_PASSPHRASE), generation=0)


def test_names_are_compared_in_nfc() -> None:
    one, two = (
        KeyRecordLocator.from_passphrase("pass", name=name, cost=MINIMUM_COST)
        for name in ("caf\u00e9", "cafe\u0301")
    )
    assert one == two


def test_a_generation_does_not_pass_for_another() -> None:
    with pytest.raises(SealError):
        open_key_record(BY_MASTER, posted_body(BY_MASTER, generation=1), generation=2)


def test_the_size_does_not_tell_a_key_record() -> None:
    assert 16_384 <= len(posted_body(BY_MASTER)) <= 16_384 + 8192 + 48


def test_a_record_that_holds_something_else_is_refused() -> None:
    for kind, count in ((Kind.DATA, 1), (Kind.KEY, 2)):
        inside = pack(kind, [member(FILE)] * count)
        body = seal(
            BY_MASTER.seal_key, bytes(16), article_id(0, 0), Kind.KEY, noise("salt", 32), inside
        )
        with pytest.raises(ContainerError, match="something else"):
            open_key_record(BY_MASTER, body, generation=0)


def test_cost_and_secrets() -> None:
    assert LOCATOR_COST == DEFAULT_COST
    assert repr(BY_MASTER) == "KeyRecordLocator()"
