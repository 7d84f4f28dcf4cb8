"""The digest of an index: the order of rows does not matter, everything else does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from usenetfs.checkpoint.digest import MODULUS, RowDigest, digest_bytes

KEY = bytes(range(32))
ROWS = st.lists(
    st.tuples(st.integers(-5, 5), st.binary(max_size=4), st.text(max_size=3)), max_size=8
)


@given(rows=ROWS, seed=st.randoms())
def test_order_does_not_matter(rows: list[Any], seed: Any) -> None:
    digest = RowDigest(KEY)
    shuffled = list(rows)
    seed.shuffle(shuffled)
    assert digest.rows("t", rows) == digest.rows("t", shuffled)
    assert digest.rows("t", rows) == sum(digest.row("t", row) for row in rows) % MODULUS


@given(rows=ROWS, row=st.tuples(st.integers(), st.binary(), st.text()).map(lambda r: (1, *r[1:])))
def test_a_row_can_be_taken_out_again(rows: list[Any], row: Any) -> None:
    digest = RowDigest(KEY)
    grown = digest.rows("t", [*rows, row])
    assert (grown - digest.row("t", row)) % MODULUS == digest.rows("t", rows)


def test_table_value_type_and_key_matter() -> None:
    digest = RowDigest(KEY)
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("t", (1, b"a")),
        ("u", (1, b"a")),
        ("t", (1, "a")),
        ("t", (2, b"a")),
        ("t", (1, b"a", None)),
    ]
    sums = {digest.row(table, row) for table, row in rows} | {RowDigest(bytes(32)).row(*rows[0])}
    assert len(sums) == 6


def test_its_bytes() -> None:
    assert digest_bytes(MODULUS + 258) == bytes(30) + b"\1\2"
