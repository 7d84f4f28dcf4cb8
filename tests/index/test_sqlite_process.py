"""SQLite without its statistics: only before anything is open."""

from __future__ import annotations

import subprocess
import sys

import apsw

from usenetfs.index.sqlite_process import leave_out_statistics

COUNTED = """
import apsw
from usenetfs.index.sqlite_process import leave_out_statistics
leave_out_statistics()
connection = apsw.Connection(":memory:")
connection.execute("CREATE TABLE t (a)")
print(apsw.memory_used())
"""


def test_nothing_is_counted_in_a_process_that_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0"


def test_an_open_database_is_left_alone() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a)")
    leave_out_statistics()
    connection.execute("INSERT INTO t VALUES (1)")
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
    connection.close()
