"""How safe a file is, as extended attributes that nobody stored.

======================== ==========================================================================
``user.usenetfs.state``  ``staged``, ``posted``, ``seen`` or ``verified``: the least of its blocks
``…bytes.staged`` etc.   octets of its content in each state
======================== ==========================================================================

Asked of the root directory they speak of the whole filesystem; other things than files have none.

They are computed when asked for, cannot be set or removed (EPERM), and are not listed: what copies
files with all that ``listxattr`` names (``cp -a``, ``rsync -X``, ``tar --xattrs``) would otherwise
copy a statement about one file onto another.
"""

from __future__ import annotations

import stat

import trio

from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.index.totals import Amount
from usenetfs.types import ROOT_INODE, Durability

PREFIX = b"user.usenetfs."
STATE = PREFIX + b"state"
BYTES = {PREFIX + b"bytes." + state.name.lower().encode(): state for state in Durability}
NAMES = (STATE, *BYTES)

STEP = 50_000
"""Blocks looked at between two chances for other work: some 50 ms."""


async def durability_attribute(index: Index, row: Inode, name: bytes) -> bytes | None:
    """The value, or None where there is no such attribute. The file's changes must be saved."""
    if name not in NAMES:
        return None
    if row.id == ROOT_INODE:
        totals = index.durability_totals()
        state = _least(totals)
        amounts = {each: amount.bytes for each, amount in totals.items()}
    elif stat.S_ISREG(row.mode):
        state = index.durability_of(row.id)
        amounts = await _amounts(index, row) if name in BYTES else {}
    else:
        return None
    await trio.lowlevel.checkpoint()
    if name == STATE:
        return state.name.lower().encode()
    return b"%d" % amounts[BYTES[name]]


def _least(totals: dict[Durability, Amount]) -> Durability:
    """The worst state that anything is in; a filesystem without content is as safe as can be."""
    return next((state for state in Durability if totals[state].count), Durability.VERIFIED)


async def _amounts(index: Index, row: Inode) -> dict[Durability, int]:
    amounts = index.staged_bytes_of(row.id)
    blocks = -(-row.size // index.identity.block_size)
    for first in range(0, blocks, STEP):
        for state, octets in index.stored_bytes_of(row.id, first, first + STEP).items():
            amounts[state] += octets
        await trio.lowlevel.checkpoint()
    return amounts
