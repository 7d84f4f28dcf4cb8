"""A reader's side of published changes: the tables alone, and what must hold in every state."""

from __future__ import annotations

import apsw

from usenetfs.checkpoint.digest import RowDigest, digest_bytes
from usenetfs.index.normal_form import FORMS, encoded_rows, normalise
from usenetfs.index.schema import CREATE_SCHEMA


class Published:
    """A reader's side: the tables, and nothing derived."""

    def __init__(self, digest_key: bytes) -> None:
        self._digest_key = digest_key
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(CREATE_SCHEMA)

    def apply(self, changes: bytes) -> None:
        """Whatever does not fit fails."""
        apsw.Changeset.apply(changes, self.connection)

    def rows(self) -> dict[str, set[tuple[object, ...]]]:
        return table_rows(self.connection)

    def digest(self) -> bytes:
        row_digest = RowDigest(self._digest_key)
        return digest_bytes(
            sum(row_digest.encoded_rows(t, encoded_rows(self.connection, t)) for t in FORMS)
        )

    def one(self, sql: str, *bindings: object) -> list[tuple[object, ...]]:
        return list(self.connection.execute(sql, bindings))

    def check(self) -> None:
        """All that must hold in any published state."""
        assert self.one("SELECT * FROM dirents WHERE inode NOT IN (SELECT id FROM inodes)") == []
        assert self.one("SELECT * FROM dirents WHERE parent NOT IN (SELECT id FROM inodes)") == []
        assert self.one("SELECT * FROM blocks WHERE segment NOT IN (SELECT id FROM segments)") == []
        assert self.one("SELECT * FROM blocks WHERE inode NOT IN (SELECT id FROM inodes)") == []
        assert (
            self.one("SELECT * FROM segments WHERE article NOT IN (SELECT id FROM articles)") == []
        )
        assert (
            self.one(
                "SELECT i.id FROM inodes i WHERE i.mode & 61440 = 32768 AND i.nlink <>"
                " (SELECT count(*) FROM dirents d WHERE d.inode = i.id)"
            )
            == []
        )
        reached = self.one(
            "WITH RECURSIVE r(id) AS (SELECT 1 UNION SELECT d.inode FROM dirents d"
            " JOIN r ON d.parent = r.id) SELECT id FROM inodes WHERE id NOT IN (SELECT id FROM r)"
        )
        assert reached == []


def table_rows(connection: apsw.Connection) -> dict[str, set[tuple[object, ...]]]:
    found = {}
    for name, form in FORMS.items():
        columns = ", ".join(column.name for column in form.columns)
        rows = connection.execute(f"SELECT {columns} FROM {name}")
        found[name] = {normalise(name, row) for row in rows}
    return found
