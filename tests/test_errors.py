"""The tree of errors: what a program may rely on (R13)."""

from __future__ import annotations

import inspect
import re

import pytest

from usenetfs import errors
from usenetfs.cli.exit_status import ExitStatus, exit_status
from usenetfs.fs.errno import errno_of

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.UsenetfsError)
]


def made(cls: type[errors.UsenetfsError]) -> errors.UsenetfsError:
    if issubclass(cls, errors.NoHealthyServersError):
        return cls("none", reasons={"a": "refused"})
    if issubclass(cls, errors.PosixError):
        return cls(2)
    return cls("it failed")


@pytest.mark.parametrize(
    ("cls", "recoverable", "retry_after"),
    [
        (errors.NetworkError, True, 5.0),
        (errors.ConnectError, True, 5.0),
        (errors.TlsError, False, None),
        (errors.AuthenticationError, False, None),
        (errors.QuotaError, True, 3600.0),
        (errors.IntegrityError, False, None),
        (errors.DiskFullError, True, 30.0),
    ],
)
def test_what_is_worth_trying_again(
    cls: type[errors.UsenetfsError], recoverable: bool, retry_after: float | None
) -> None:
    assert (cls.recoverable, cls.retry_after) == (recoverable, retry_after)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_has_a_code_an_errno_and_an_exit_status(cls: type[errors.UsenetfsError]) -> None:
    error = made(cls)
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", cls.error_code)
    assert cls.recoverable or cls.retry_after is None
    assert errno_of(error) > 0
    assert exit_status(error) is not ExitStatus.OK
    assert str(error) == error.message
    assert "\n" not in str(error)


def test_codes_are_each_classes_own() -> None:
    codes = [cls.error_code for cls in CLASSES]
    assert sorted(codes) == sorted(set(codes))
