"""How ``mount`` waits for the daemon that it started."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from usenetfs.cli.commands import mount
from usenetfs.errors import MountError


def daemon(script: str) -> tuple[int, subprocess.Popen[bytes]]:
    """A shell whose standard output is what the daemon tells."""
    ready, tell = os.pipe()
    child = subprocess.Popen(["sh", "-c", script], stdout=tell)
    os.close(tell)
    return ready, child


def test_what_gets_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "READY_TIMEOUT", 4.0)
    ready, child = daemon("""for i in 1 2 3 4 5; do sleep 1; echo; done; echo '{"ready": true}'""")
    assert mount._answer(ready, child) == {"ready": True}
    assert child.wait() == 0


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "READY_TIMEOUT", 0.5)
    ready, child = daemon("echo; exec sleep 60")
    with pytest.raises(MountError, match="has not got on"):
        mount._answer(ready, child)
    assert child.wait() == -signal.SIGTERM


def test_what_dies_has_no_answer() -> None:
    ready, child = daemon("echo; echo; exit 3")
    assert mount._answer(ready, child) is None
    assert child.wait() == 3
