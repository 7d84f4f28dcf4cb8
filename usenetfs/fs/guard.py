"""The seam where errors become errnos.

pyfuse3 knows one exception; any other ends its loop and leaves the caller hanging (measured). So
every handler is wrapped: a PosixError is an answer like any other; another typed error is logged
and translated; anything else is logged once, reported, and answered with EIO, and the mount lives
on.

It is also where it shows whether a handler waits for anything: then ``on_wait()`` is called, and
somebody else reads the kernel's next request (``turns.py``).
"""

from __future__ import annotations

import errno
import functools
import logging
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

import pyfuse3

from usenetfs.errors import PosixError, UsenetfsError
from usenetfs.fs.errno import errno_of

log = logging.getLogger("usenetfs.fs")

CHANGING = frozenset(
    {
        "create",
        "link",
        "mkdir",
        "mknod",
        "removexattr",
        "rename",
        "rmdir",
        "setattr",
        "setxattr",
        "symlink",
        "unlink",
        "write",
    }
)
"""Handlers that change the filesystem: they answer EROFS where ``may_change()`` says no."""

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, Any]])


def guarded(handler: Handler) -> Handler:
    """Wrap a method of an object that has ``report(error)``, a call that takes UsenetfsErrors,
    ``observe(name, seconds)``, and for those of :data:`CHANGING` ``may_change()``."""
    name = handler.__name__
    changes = name in CHANGING
    clock = time.perf_counter

    @functools.wraps(handler)
    async def guard(self: Any, *arguments: Any, **named: Any) -> Any:
        if changes and not self.may_change():
            raise pyfuse3.FUSEError(errno.EROFS)
        began = clock()
        try:
            return await noticing(handler(self, *arguments, **named), self.on_wait)
        except pyfuse3.FUSEError:
            raise
        except PosixError as error:
            raise pyfuse3.FUSEError(error.number) from error
        except UsenetfsError as error:
            log.warning("%s failed: %s", name, error)
            self.report(error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:
            log.exception("a fault of usenetfs in %s", name)
            self.report(UsenetfsError(f"internal error in {name}: {error!r}"))
            raise pyfuse3.FUSEError(errno.EIO) from error
        finally:
            self.observe(name, clock() - began)

    return cast(Handler, guard)


@types.coroutine
def noticing(
    work: Coroutine[Any, Any, Any], on_wait: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Await ``work``; before it waits for the first time, ``on_wait()`` is called.

    A loop of trio's answers a wish by sending, errors and cancellation as well.
    """
    try:
        wish = work.send(None)
        on_wait()
        while True:
            wish = work.send((yield wish))
    except StopIteration as ended:
        return ended.value
    finally:
        work.close()
