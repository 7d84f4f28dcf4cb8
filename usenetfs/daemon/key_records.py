"""Posting key files, for init, recover and key change-passphrase."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.daemon.plain_values import newsgroup_choice
from usenetfs.daemon.recovery import Servers


async def publish_key_file(
    servers: Servers,
    key_file: bytes,
    master: bytes,
    *,
    name: str,
    passphrases: Sequence[str],
) -> None:
    """Post a key file where the recovery key and each of ``passphrases`` leads; returns when seen.

    Under a passphrase that was changed the new file says that it was: it does not open with the
    old passphrase. What was posted there before stays, and opens as ever.
    """
    groups = newsgroup_choice(servers.settings)
    records = servers.key_records()
    locators = [KeyRecordLocator.from_master(master)]
    locators += [
        await trio.to_thread.run_sync(_by_passphrase, passphrase, name)
        for passphrase in passphrases
    ]
    for locator in locators:
        await records.publish(locator, key_file, groups=(groups.choose(None, None),))


def _by_passphrase(passphrase: str, name: str) -> KeyRecordLocator:
    return KeyRecordLocator.from_passphrase(passphrase, name=name)
