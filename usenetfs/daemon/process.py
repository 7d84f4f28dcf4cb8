"""What this process takes of the machine: memory, processor, disk (R8)."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from usenetfs.control.model import ProcessReport
from usenetfs.daemon.speed import SpeedMeter

_STATM = Path("/proc/self/statm")
_IO = Path("/proc/self/io")


class ProcessMeter:
    """:meth:`sample` is called about once a second."""

    def __init__(self) -> None:
        self._cpu = SpeedMeter(lambda: int(cpu_seconds() * 1e6))
        self._read = SpeedMeter(lambda: disk_bytes()[0])
        self._written = SpeedMeter(lambda: disk_bytes()[1])

    def sample(self) -> None:
        """Note where the counters are."""
        for meter in (self._cpu, self._read, self._written):
            meter.sample()

    def report(self) -> ProcessReport:
        """Now, and over the last seconds."""
        read, written = self._read.report(), self._written.report()
        return ProcessReport(
            memory_bytes=memory_bytes(),
            cpu_percent=self._cpu.report().now / 1e4,
            cpu_seconds=cpu_seconds(),
            disk_read=read.now,
            disk_write=written.now,
            disk_read_bytes=read.total_bytes,
            disk_written_bytes=written.total_bytes,
        )


def memory_bytes() -> int:
    """Resident."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def cpu_seconds() -> float:
    """User and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def disk_bytes() -> tuple[int, int]:
    """Octets read from disks and written to them; zeros where the kernel does not tell."""
    with contextlib.suppress(OSError):
        fields = dict(line.split(": ") for line in _IO.read_text(encoding="ascii").splitlines())
        return int(fields["read_bytes"]), int(fields["write_bytes"])
    return 0, 0
