"""Process exit statuses, by class of error. ``docs/exit-status.md`` is this table for users.

A status once given keeps its meaning. The first matching row wins, so a class stands before its
bases.
"""

from __future__ import annotations

import enum
from typing import Final

from usenetfs import errors

INTERNAL_CODE: Final = "internal"
"""The error code a daemon gives for what is no UsenetfsError."""


class ExitStatus(enum.IntEnum):
    """What scripts may rely on."""

    OK = 0
    GENERAL = 1
    USAGE = 2
    NETWORK = 3
    AUTHENTICATION = 4
    QUOTA = 5
    NOT_FOUND = 6
    EXISTS = 7
    BUSY = 8
    NOT_MOUNTED = 9
    MOUNT = 10
    INTEGRITY = 11
    KEY = 12
    WRONG_PASSPHRASE = 13
    DISK_FULL = 14
    LOCAL_STORAGE = 15
    SERVER_REFUSED = 16
    DATA_UNAVAILABLE = 17
    PARTIAL = 18
    INTERNAL = 70
    INTERRUPTED = 130


MEANING: Final[dict[ExitStatus, str]] = {
    ExitStatus.OK: "success",
    ExitStatus.GENERAL: (
        "an error that has no status of its own (`doctor`: something will not work)"
    ),
    ExitStatus.USAGE: "the command line or the configuration is wrong",
    ExitStatus.NETWORK: (
        "no server could be reached, or none could serve "
        "(`verify`: not everything could be asked for)"
    ),
    ExitStatus.AUTHENTICATION: "a server does not accept the user name or the password",
    ExitStatus.QUOTA: "the account's allowance is used up",
    ExitStatus.NOT_FOUND: "there is no such filesystem, file or newsgroup",
    ExitStatus.EXISTS: "what was to be made is there already",
    ExitStatus.BUSY: "another process, or another machine, is using the filesystem",
    ExitStatus.NOT_MOUNTED: "the command needs a mounted filesystem, and it is not mounted",
    ExitStatus.MOUNT: "the mount point or the kernel refuses",
    ExitStatus.INTEGRITY: "stored data is damaged (`fsck`: problems were found)",
    ExitStatus.KEY: "the key file, the vault or the recovery key cannot be used",
    ExitStatus.WRONG_PASSPHRASE: "the passphrase is wrong",
    ExitStatus.DISK_FULL: "the local disk is full",
    ExitStatus.LOCAL_STORAGE: "the local disk or the index failed",
    ExitStatus.SERVER_REFUSED: "a server refuses to post or to deliver",
    ExitStatus.DATA_UNAVAILABLE: (
        "some data could not be had from any server (`verify`: something is lost)"
    ),
    ExitStatus.PARTIAL: "some files could not be transferred; the others were",
    ExitStatus.INTERNAL: "a bug in usenetfs",
    ExitStatus.INTERRUPTED: "interrupted by Ctrl-C",
}

_TABLE: Final[tuple[tuple[type[errors.UsenetfsError], ExitStatus], ...]] = (
    (errors.ConfigurationError, ExitStatus.USAGE),
    (errors.UsageError, ExitStatus.USAGE),
    (errors.PosixError, ExitStatus.USAGE),
    (errors.PathNotFoundError, ExitStatus.NOT_FOUND),
    (errors.PartialTransferError, ExitStatus.PARTIAL),
    (errors.FilesystemNotFoundError, ExitStatus.NOT_FOUND),
    (errors.NewsgroupNotFoundError, ExitStatus.NOT_FOUND),
    (errors.FilesystemExistsError, ExitStatus.EXISTS),
    (errors.FilesystemBusyError, ExitStatus.BUSY),
    (errors.FencedError, ExitStatus.BUSY),
    (errors.NotMountedError, ExitStatus.NOT_MOUNTED),
    (errors.MountError, ExitStatus.MOUNT),
    (errors.NetworkError, ExitStatus.NETWORK),
    (errors.AuthenticationError, ExitStatus.AUTHENTICATION),
    (errors.QuotaError, ExitStatus.QUOTA),
    (errors.ArticleMissingError, ExitStatus.DATA_UNAVAILABLE),
    (errors.DataUnavailableError, ExitStatus.DATA_UNAVAILABLE),
    (errors.ArticleError, ExitStatus.SERVER_REFUSED),
    (errors.IntegrityError, ExitStatus.INTEGRITY),
    (errors.WrongPassphraseError, ExitStatus.WRONG_PASSPHRASE),
    (errors.KeyFileError, ExitStatus.KEY),
    (errors.RecoveryKeyError, ExitStatus.KEY),
    (errors.DiskFullError, ExitStatus.DISK_FULL),
    (errors.LocalStorageError, ExitStatus.LOCAL_STORAGE),
    (errors.LocalProtocolError, ExitStatus.INTERNAL),
)


def exit_status(error: BaseException) -> ExitStatus:
    """The status with which a process ends that ``error`` ends."""
    if isinstance(error, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    if not isinstance(error, errors.UsenetfsError):
        return ExitStatus.INTERNAL
    # A daemon's error arrives as its code; here it counts as what it was there.
    code = getattr(error, "remote_code", None)
    if code == INTERNAL_CODE:
        return ExitStatus.INTERNAL
    return _status_of(_class_of_code(code) or type(error))


def _status_of(cls: type[errors.UsenetfsError]) -> ExitStatus:
    return next((s for base, s in _TABLE if issubclass(cls, base)), ExitStatus.GENERAL)


def _class_of_code(code: str | None) -> type[errors.UsenetfsError] | None:
    classes = [errors.UsenetfsError]
    for cls in classes:
        if cls.error_code == code:
            return cls
        classes.extend(cls.__subclasses__())
    return None
