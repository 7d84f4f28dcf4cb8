"""What figures were taken on: the machine, the interpreter and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Machine:
    """See the module. ``memory`` in octets."""

    cpu: str
    cores: int
    memory: int
    kernel: str
    python: str
    commit: str
    dirty: bool
    """Whether the checkout differed from the commit."""
    date: str

    @property
    def text(self) -> str:
        """One line."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory / 2**30:.0f} GiB, Linux {self.kernel}, "
            f"Python {self.python}"
        )

    @property
    def version(self) -> str:
        """The commit, and whether it was that exactly."""
        return f"{self.commit}{' with changes' if self.dirty else ''}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def describe() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        python=platform.python_version(),
        commit=_git("rev-parse", "--short=12", "HEAD") or "unknown",
        dirty=bool(_git("status", "--porcelain")),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _cpu_model(text: str) -> str:
    """From ``/proc/cpuinfo``; not every architecture names one."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _git(*arguments: str) -> str:
    """What git says about this checkout; nothing where it is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
