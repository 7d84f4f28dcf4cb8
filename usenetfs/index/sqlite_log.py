"""SQLite's own error log, as lines of the database component.

SQLite says more there than in the errors it raises: which page is damaged, which file could not be
written, what it recovered after a crash.
"""

from __future__ import annotations

import logging

import apsw
import apsw.ext


def log_sqlite_errors() -> None:
    """From now on, for the whole process. Nothing happens when SQLite is in use already."""
    try:
        apsw.ext.log_sqlite(logger=logging.getLogger("usenetfs.database.sqlite"))
    except apsw.MisuseError:
        logging.getLogger("usenetfs.database").info("SQLite is in use: its own log is left out")
