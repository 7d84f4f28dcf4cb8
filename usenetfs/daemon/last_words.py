"""What is left to read when a daemon dies, and what must not be.

Owns ``logs/crash.log``, which is there exactly while a daemon runs, and after one that could not
end in order: killed, crashed in native code, or without power. What native code was doing is
written into it by ``faulthandler``: names of functions and line numbers, no values. The next daemon
reports it and moves it aside. An error that Python sees goes to the ordinary log.

A core dump would hold the keys. The memory is left out of it, which unlike other ways keeps
everything that may be read below ``/proc/self`` readable.
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usenetfs.errors import UsenetfsError

log = logging.getLogger("usenetfs.daemon")

FILE: Final = "crash.log"
KEPT: Final = "crash.log.1"

_MOST: Final = 64 * 1024
_FATAL: Final = ("Fatal Python error", "Current thread", "Windows fatal")


@contextlib.contextmanager
def last_words(directory: Path) -> Iterator[None]:
    """Tell what became of the last daemon, and leave a trace of this one if it does not end well.

    For use inside ``logs.running``. An error that passes through is logged and goes on its way.
    """
    keep_memory_out_of_core_dumps()
    path = directory / FILE
    _report_the_last(path)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("cannot write %s: %s; a crash would leave no trace", path, error.strerror)
        file = None
    try:
        if file is not None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            with contextlib.suppress(OSError):  # a full disk is no reason not to mount
                os.write(file, f"process {os.getpid()}, started {now}\n".encode())
            faulthandler.enable(file)
        yield
    except UsenetfsError as error:
        log.error("the daemon ends: %s", error)  # noqa: TRY400  the reason is all there is to it
        raise
    except Exception:
        log.critical("the daemon ends by a bug", exc_info=True)
        raise
    finally:
        if file is not None:
            faulthandler.disable()
            os.close(file)
        path.unlink(missing_ok=True)


def _report_the_last(path: Path) -> None:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode(errors="replace")
        path.replace(path.with_name(KEPT))
    except OSError:
        return
    who, _, rest = text.partition("\n")
    reason = next((line for line in rest.splitlines() if line.startswith(_FATAL)), None)
    if reason is None:
        log.warning("the last daemon (%s) was killed, or lost power; it goes on from there", who)
    else:
        kept = path.with_name(KEPT)
        log.error("the last daemon (%s) crashed: %s; what it was doing is in %s", who, reason, kept)


def keep_memory_out_of_core_dumps() -> None:
    """No dump where the limit decides; where a program collects them, one without our memory."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    with contextlib.suppress(OSError):  # a kernel without core dumps
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")
