"""Where log lines go: a rotating file for each component, stderr with ``-v``, never a secret.

Owns the component loggers (``usenetfs.upload``, ``.download``, ``.security``, ``.database``,
``.performance``), their files under the filesystem's ``logs`` directory, and the filter that takes
secrets out of every line, tracebacks included. Whoever logs uses ``logging.getLogger`` with a name
below one of these or below ``usenetfs``; only the process that serves a filesystem calls
:func:`running`. Under systemd the lines go to the journal as well (``journal.py``).

A line is in one file, by its logger. A warning about an error that belongs to security (who may
enter, what was altered) or to the database (the index, the local disk) is in that one's file too,
whoever logs it. A line that was written on behalf of an operation names it, so that one upload can
be followed through the files. Must not know what is logged.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import logging.handlers
import os
import queue
import re
import sys
from collections.abc import Iterable, Iterator
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Final, Literal, Protocol

from usenetfs import errors
from usenetfs.errors import LocalStorageError
from usenetfs.journal import JournalHandler, is_journal
from usenetfs.tracker import current_id

ROOT: Final = "usenetfs"

COMPONENTS: Final = ("upload", "download", "security", "database", "performance")
"""Each has a logger ``usenetfs.NAME``, a setting ``log.NAME`` and a file ``NAME.log``."""

REST: Final = "daemon"
"""File of everything that belongs to no component; level INFO."""

_MIN_SECRET: Final = 4
"""Shorter secrets are not searched for as such: they would blot out ordinary words."""


class LogSettings(Protocol):
    """What is needed of ``config.models.LogSection``."""

    @property
    def format(self) -> Literal["text", "json"]: ...
    @property
    def upload(self) -> str: ...
    @property
    def download(self) -> str: ...
    @property
    def security(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def performance(self) -> str: ...
    @property
    def max_size(self) -> int: ...
    @property
    def backups(self) -> int: ...


# --- secrets -------------------------------------------------------------------------------------

REDACTED: Final = "[redacted]"

_PATTERNS: Final = (
    # The password of an AUTHINFO command, however it got into a line.
    re.compile(r"(?i)(\bAUTHINFO\s+(?:PASS|SASL)\s+)[^\r\n]+"),
    # key=value, key: value and "key": "value" of words that name secrets.
    re.compile(
        r"(?i)(\b(?:password|passwd|passphrase|secret|master[_ ]key|recovery[_ ]key|token)\b"
        r"['\"]?\s*[=:]\s*)(?:b?'[^']*'|b?\"[^\"]*\"|[^\s,;)}\]]+)"
    ),
    # user:password@ of an address.
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@]+:)[^\s/@]+(?=@)"),
    # A recovery key: thirteen groups of five.
    re.compile(r"()\b(?:[0-9A-HJKMNP-TV-Z]{5}-){12}[0-9A-HJKMNP-TV-Z]{5}\b"),
)


class Redactor:
    """Takes known secrets, and what looks like one, out of text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {s for secret in secrets for s in _spellings(secret) if len(s) >= _MIN_SECRET}
        # The longest first, so that a secret within another leaves no remainder.
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{REDACTED}", text)
        return text


def _spellings(secret: str) -> Iterator[str]:
    """A secret as it may appear: itself, as JSON text, as a Python literal."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]


# --- lines ---------------------------------------------------------------------------------------


class TextFormatter(logging.Formatter):
    """``2026-03-01T12:00:00.123Z INFO usenetfs.upload: message``, one line unless a traceback."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        operation = getattr(record, "operation", "")
        whose = f"{record.name} [{operation}]" if operation else record.name
        line = f"{_moment(record)} {record.levelname} {whose}: {record.getMessage()}"
        line = line.replace("\r", "\\r").replace("\n", "\\n")  # no forged lines
        return self._redactor("\n".join([line, *_trace(self, record)]))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what ``extra`` gave."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {k: v for k, v in record.__dict__.items() if k not in _STANDARD_ATTRIBUTES}
        if trace := _trace(self, record):
            entry["traceback"] = "\n".join(trace)
        clean = {key: self._clean(value) for key, value in entry.items()}
        return json.dumps(clean, ensure_ascii=False)

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._redactor(str(value))


_STANDARD_ATTRIBUTES: Final = frozenset(
    [*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName"]
)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    lines = []
    if record.exc_info and record.exc_info[0] is not None:
        lines.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        lines.append(formatter.formatStack(record.stack_info))
    return lines


class MessageFormatter(logging.Formatter):
    """The message and its traceback alone, for who keeps time and level by themselves."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor("\n".join([record.getMessage(), *_trace(self, record)]))


# --- the handlers of a process -------------------------------------------------------------------


class PrivateRotatingFileHandler(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner can read; a full disk loses lines, not the daemon."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(
            self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        return TextIOWrapper(
            FileIO(descriptor, "ab"),
            encoding=self.encoding,
            errors=self.errors,
            write_through=True,
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Drop the line: there is nowhere left to complain."""


class _Queue(logging.handlers.QueueHandler):
    """Hands records over as they are: formatting and redacting are the writer's work."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        concern = _concern_of(record)
        if concern is not None:
            record.concerns = concern
        if operation := current_id():
            record.operation = operation
        # The arguments may change before the writer gets to them.
        record.msg, record.args = record.getMessage(), None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        # A full queue means a disk that hangs. Lines are lost rather than the daemon's time.
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class _Writer(logging.handlers.QueueListener):
    """The thread that writes. Its end waits for room in the queue instead of failing without."""

    def __init__(
        self, lines: queue.Queue[logging.LogRecord | None], *handlers: logging.Handler
    ) -> None:
        super().__init__(lines, *handlers, respect_handler_level=True)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        self._lines.put(None, timeout=QUEUE_PATIENCE)


def component_of(logger_name: str) -> str:
    """The component whose file the lines of a logger go to; ``daemon`` for all others."""
    parts = logger_name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == ROOT and parts[1] in COMPONENTS else REST


@contextlib.contextmanager
def running(
    directory: Path, settings: LogSettings, *, verbosity: int = 0, secrets: Iterable[str] = ()
) -> Iterator[None]:
    """Log into ``directory`` for the time of the block, and to stderr with ``verbosity``.

    ``-v`` shows INFO and above on stderr, ``-vv`` everything. Lines are written by a thread of
    their own, so that a slow disk delays no reader; the queue between is bounded. LocalStorageError
    when the files cannot be made.
    """
    redactor = Redactor(secrets)
    formatter = JsonFormatter(redactor) if settings.format == "json" else TextFormatter(redactor)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handlers = [_file_handler(directory, name, settings) for name in (*COMPONENTS, REST)]
    except OSError as error:
        raise LocalStorageError(f"cannot log into {directory}: {error.strerror}") from error
    journal = is_journal(2, os.environ)
    if verbosity and not journal:
        handlers.append(_stderr_handler(verbosity))
    for handler in handlers:
        handler.setFormatter(formatter)
    if journal:
        handlers.append(_journal_handler(directory.parent.name, verbosity, redactor))
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_SIZE)
    writer = _Writer(lines, *handlers)
    writer.start()
    try:
        with _levels(settings, verbosity), _attached(_Queue(lines)):
            yield
    finally:
        writer.stop()
        for handler in handlers:
            handler.close()


QUEUE_SIZE: Final = 10_000
QUEUE_PATIENCE: Final = 10.0
"""Seconds that the end of logging waits for room in the queue."""


def _file_handler(directory: Path, name: str, settings: LogSettings) -> logging.Handler:
    handler = PrivateRotatingFileHandler(
        directory / f"{name}.log",
        maxBytes=settings.max_size,
        backupCount=settings.backups,
        encoding="utf-8",
        errors="backslashreplace",
    )
    level = _level(settings, name)

    def belongs(record: logging.LogRecord) -> bool:
        if component_of(record.name) == name:
            return record.levelno >= level
        concerned = getattr(record, "concerns", None) == name
        return concerned and record.levelno >= logging.WARNING and level <= logging.ERROR

    handler.addFilter(belongs)
    return handler


def _journal_handler(filesystem: str, verbosity: int, redactor: Redactor) -> logging.Handler:
    handler = JournalHandler(filesystem)
    handler.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    handler.setFormatter(MessageFormatter(redactor))
    return handler


def _concern_of(record: logging.LogRecord) -> str | None:
    """The component that the error in a record belongs to, apart from whose line it is."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    error = record.exc_info[1] if record.exc_info else None
    for candidate in (*arguments, error):
        for classes, component in _CONCERNS:
            if isinstance(candidate, classes):
                return component
    return None


_CONCERNS: Final = (
    (
        (
            errors.AuthenticationError,
            errors.FencedError,
            errors.IntegrityError,
            errors.KeyFileError,
            errors.TlsError,
            errors.WrongPassphraseError,
        ),
        "security",
    ),
    ((errors.LocalStorageError,), "database"),
)


def _stderr_handler(verbosity: int) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    return handler


def _level(settings: LogSettings, component: str) -> int:
    if component == REST:
        return logging.INFO
    levels = {name: getattr(settings, name) for name in COMPONENTS}
    return logging.getLevelNamesMapping()[levels[component].upper()]


@contextlib.contextmanager
def _levels(settings: LogSettings, verbosity: int) -> Iterator[None]:
    """The loggers let through what some handler wants, and are as before afterwards."""
    shown = logging.CRITICAL if verbosity == 0 else logging.DEBUG if verbosity > 1 else logging.INFO
    wanted = {ROOT: min(shown, logging.INFO)}
    wanted |= {f"{ROOT}.{name}": min(shown, _level(settings, name)) for name in COMPONENTS}
    before = {name: logging.getLogger(name).level for name in wanted}
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    """Ours go to ``handler`` alone; warnings of libraries reach it too."""
    ours, root = logging.getLogger(ROOT), logging.getLogger()
    propagated, ours.propagate = ours.propagate, False
    ours.addHandler(handler)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.removeHandler(handler)
        ours.propagate = propagated
        handler.close()
