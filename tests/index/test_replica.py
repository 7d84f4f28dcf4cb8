"""Building an index from changesets, where what comes cannot be an index."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from usenetfs.errors import DigestError
from usenetfs.index.normal_form import FORMS, encoded_inserts, table_header
from usenetfs.index.replica import Replica


def segments(*rows: tuple[object, ...]) -> bytes:
    """A changeset that inserts rows of ``segments``, whatever they are."""
    table = apsw.Connection(":memory:")
    columns = ", ".join(column.name for column in FORMS["segments"].columns)
    table.execute(f"CREATE TABLE segments ({columns}, PRIMARY KEY (id))")
    table.executemany("INSERT INTO segments VALUES (?, ?, 9, 9, 0, 1, 0, 0)", rows)
    return table_header(FORMS["segments"]) + b"".join(encoded_inserts(table, "segments"))


def test_one_content_in_two_segments_is_no_state(tmp_path: Path) -> None:
    with Replica.create(tmp_path / "index.db") as replica:
        replica.apply([segments((1, b"h" * 16), (2, b"h" * 16))])
        with pytest.raises(DigestError, match="contradicts itself"):
            replica.settle(writable=False)


def test_two_contents_are(tmp_path: Path) -> None:
    with Replica.create(tmp_path / "index.db") as replica:
        replica.apply([segments((1, b"h" * 16), (2, b"i" * 16))])
        replica.settle(writable=False)
        replica.finish()
    made = apsw.Connection(str(tmp_path / "index.db"))
    unique = "SELECT [unique] FROM pragma_index_list('segments') WHERE name = 'segments_hash'"
    assert made.execute(unique).fetchall() == [(1,)]
    made.close()
