"""Which errno the kernel is told for which error (R13).

The nearest class in an error's ancestry decides. What is not listed, and whatever is no
:class:`UsenetfsError`, is EIO.
"""

from __future__ import annotations

import errno

from usenetfs import errors

ERRNO_OF: dict[type[errors.UsenetfsError], int] = {
    errors.UsenetfsError: errno.EIO,
    errors.UsageError: errno.EINVAL,
    errors.FilesystemBusyError: errno.EBUSY,
    errors.FencedError: errno.EROFS,
    errors.DiskFullError: errno.ENOSPC,
    errors.NetworkError: errno.EIO,
    errors.AuthenticationError: errno.EACCES,
    errors.QuotaError: errno.EDQUOT,
    errors.DataUnavailableError: errno.EIO,
    errors.IntegrityError: errno.EIO,
}


def errno_of(error: errors.UsenetfsError) -> int:
    """The errno for ``error``."""
    if isinstance(error, errors.PosixError):
        return error.number
    for ancestor in type(error).__mro__:
        number = ERRNO_OF.get(ancestor)
        if number is not None:
            return number
    return errno.EIO
