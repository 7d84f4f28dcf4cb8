"""SQLite's own error log reaches ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, sys
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
from usenetfs.index.sqlite_log import log_sqlite_errors
log_sqlite_errors()
import apsw
try:
    apsw.Connection(sys.argv[1]).execute("SELECT * FROM sqlite_master").fetchall()
except apsw.NotADBError:
    pass
memory = apsw.Connection(":memory:")
memory.execute("CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (1)")
try:
    memory.execute("INSERT INTO t VALUES (1)")
except apsw.ConstraintError:
    pass
log_sqlite_errors()
"""


def test_a_damaged_file_is_reported_by_sqlite_itself(tmp_path: Path) -> None:
    """In a process of its own: SQLite takes its log only before it is used."""
    damaged = tmp_path / "index.db"
    damaged.write_bytes(b"no database" * 1000)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(damaged)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "usenetfs.database.sqlite ERROR SQLITE_LOG: file is not a database" in done.stderr
    assert "constraint" not in done.stderr.lower(), "that is the business of who made the statement"
