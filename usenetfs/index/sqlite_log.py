"""SQLite's own error log, as lines of the database component.

SQLite says more there than in the errors it raises: which page is damaged, which file could not be
written, what it recovered after a crash. A row that a constraint refuses is not among it: whoever
made the statement gets that as an error, and decides what it means.
"""

from __future__ import annotations

import logging

import apsw
import apsw.ext


def log_sqlite_errors() -> None:
    """From now on, for the whole process. Nothing happens when SQLite is in use already."""
    logger = logging.getLogger("usenetfs.database.sqlite")
    logger.addFilter(_says_more_than_an_error)
    try:
        apsw.ext.log_sqlite(logger=logger)
    except apsw.MisuseError:
        logging.getLogger("usenetfs.database").info("SQLite is in use: its own log is left out")


def _says_more_than_an_error(record: logging.LogRecord) -> bool:
    code = int(getattr(record, "sqlite_code", 0))
    return code & 0xFF != apsw.SQLITE_CONSTRAINT
