"""The seam to the kernel: whatever goes wrong becomes an errno, and is said once."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pyfuse3
import pytest
import trio

from usenetfs.errors import DataUnavailableError, DiskFullError, PosixError, UsenetfsError
from usenetfs.fs.errno import errno_of
from usenetfs.fs.guard import guarded


class Handlers:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.reported: list[UsenetfsError] = []
        self.observed: list[str] = []

    def report(self, error: UsenetfsError) -> None:
        self.reported.append(error)

    def on_wait(self) -> None:
        """Nobody else is there."""

    def observe(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append(name)

    @guarded
    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        raise self.error


@pytest.mark.parametrize(
    ("error", "number", "reports"),
    [
        (pyfuse3.FUSEError(errno.ENOENT), errno.ENOENT, 0),
        (PosixError(errno.ENOTEMPTY), errno.ENOTEMPTY, 0),
        (DiskFullError("full"), errno.ENOSPC, 1),
        (DataUnavailableError("gone"), errno.EIO, 1),
        (ValueError("a bug"), errno.EIO, 1),
    ],
)
async def test_errors_become_errnos(
    error: Exception, number: int, reports: int, expect_log: Callable[[str], None]
) -> None:
    expect_log("read failed|a fault of usenetfs in read")
    handlers = Handlers(error)
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await handlers.read()
    assert raised.value.errno == number
    assert len(handlers.reported) == reports
    assert handlers.observed == ["read"]


def every_error() -> list[type[UsenetfsError]]:
    found, todo = [], [UsenetfsError]
    while todo:
        error = todo.pop()
        found.append(error)
        todo.extend(error.__subclasses__())
    return found


@pytest.mark.parametrize("error", every_error())
def test_every_error_has_an_errno(error: type[UsenetfsError]) -> None:
    assert errno_of(error.__new__(error)) in errno.errorcode
