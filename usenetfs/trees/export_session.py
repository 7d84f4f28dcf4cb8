"""What a download has got so far, in a file that survives it (R4).

One session a pair of source and destination. The file is lines of JSON, appended: which local part
file belongs to which version of which file, which of its blocks are there, which failed and why,
and which files are done. Invariants:

- a block is noted after it was written. Nothing is synced, so after a power cut a noted block may
  be missing: whoever goes on compares each by its hash (``export_file.py``) and trusts no note;
- a line cut short by a crash is passed over, with all behind it;
- what is kept in memory and on disk is that of files not done: the file is written anew
  (temporary, rename) when it is opened and whenever it has grown beyond :data:`MAX_BYTES`;
- one download at a time has it (``flock``; the filesystem's own lock keeps other processes out).

Blocking calls; small ones, made on the event loop, because a line costs microseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from usenetfs.errors import DiskFullError, FilesystemBusyError, LocalStorageError
from usenetfs.store.extents import Extents
from usenetfs.store.syscalls import storage_error
from usenetfs.types import BlockNumber, InodeId

VERSION: Final = 1
MAX_BYTES: Final = 4 << 20


@dataclass(slots=True, eq=False)
class FileRecord:
    """One file that is not done. Blocks are ``[start, end)`` ranges in ``have``."""

    number: int
    inode: InodeId
    size: int
    mtime_ns: int
    path: str
    have: Extents = field(default_factory=Extents)
    failed: dict[BlockNumber, str] = field(default_factory=dict)

    def is_version(self, size: int, mtime_ns: int) -> bool:
        """Whether it is a part of the file as it is now."""
        return (self.size, self.mtime_ns) == (size, mtime_ns)


class ExportSession:
    """See the module. ``source`` and ``target``: what the session is of, as text."""

    def __init__(self, path: Path, *, source: str, target: str) -> None:
        self._path = path
        self._source = source
        self._target = target
        self._files: dict[str, FileRecord] = {}
        self._last = 0
        self._written = 0
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"<ExportSession {self._path.name} files={len(self._files)}>"

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._lock()
            self._load()
            self._rewrite()
        except OSError as error:
            self._unlock()
            raise storage_error(error, "keep the download's session in", str(self._path)) from error
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._files:
            self._path.unlink(missing_ok=True)
        self._unlock()

    # --- the files -------------------------------------------------------------------------------

    def find(self, path: str) -> FileRecord | None:
        """What is known of the file at ``path`` below the destination."""
        return self._files.get(path)

    def begin(self, path: str, inode: InodeId, size: int, mtime_ns: int) -> FileRecord:
        """A file is started anew."""
        self._last += 1
        record = FileRecord(self._last, inode, size, mtime_ns, path)
        self._files[path] = record
        self._append(_start_line(record))
        return record

    def have(self, record: FileRecord, block: BlockNumber) -> None:
        """A block was written."""
        record.have.add(block, block + 1)
        record.failed.pop(block, None)
        self._append({"have": [record.number, block, block + 1]})

    def lost(self, record: FileRecord, block: BlockNumber) -> None:
        """A block that was noted is not there."""
        record.have.subtract(block, block + 1)
        self._append({"lost": [record.number, block]})

    def failed(self, record: FileRecord, block: BlockNumber, reason: str) -> None:
        """A block could not be had."""
        record.failed[block] = reason
        self._append({"failed": [record.number, block, reason[:200]]})

    def done(self, record: FileRecord) -> None:
        """The file is whole, or given up together with its part."""
        if self._files.get(record.path) is record:
            del self._files[record.path]
        self._append({"done": record.number})

    # --- the session file ------------------------------------------------------------------------

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode("ascii") + b"\n"
        try:
            os.write(self._descriptor, data)
            self._written += len(data)
            if self._written > MAX_BYTES:
                self._rewrite()
        except OSError as error:
            raise storage_error(error, "write", str(self._path)) from error

    def _lines(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [
            {"version": VERSION, "source": self._source, "target": self._target}
        ]
        for record in self._files.values():
            lines.append(_start_line(record))
            lines += [{"have": [record.number, low, high]} for low, high in record.have]
            lines += [
                {"failed": [record.number, block, why]} for block, why in record.failed.items()
            ]
        return lines

    def _rewrite(self) -> None:
        """Only what is not done, in a new file in the old one's place."""
        temporary = self._path.with_suffix(".new")
        content = b"".join(json.dumps(line).encode("ascii") + b"\n" for line in self._lines())
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            with memoryview(content) as view:
                at = 0
                while at < len(view):
                    at += os.write(descriptor, view[at:])
            os.fsync(descriptor)
            os.replace(temporary, self._path)
        except BaseException:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._written = 0

    def _load(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        lines = content.split(b"\n")[:-1]  # the last one has no end, or is empty
        numbers: dict[int, FileRecord] = {}
        newest: dict[str, int] = {}
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            header = json.loads(lines[0])
            if (header["version"], header["source"], header["target"]) != (
                VERSION,
                self._source,
                self._target,
            ):
                return
            for line in lines[1:]:
                _take(json.loads(line), numbers, newest)
        self._files = {record.path: record for record in numbers.values()}
        self._last = max(numbers, default=0)

    def _lock(self) -> None:
        lock = os.open(
            self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FilesystemBusyError(
                f"another download of the same into {self._target} is running",
                hint="wait until it has ended",
            ) from None
        self._held = lock

    _held = -1

    def _unlock(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._held >= 0:
            self._path.with_suffix(".lock").unlink(missing_ok=True)
            os.close(self._held)
            self._held = -1


def _start_line(record: FileRecord) -> dict[str, Any]:
    return {
        "file": record.number,
        "inode": record.inode,
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "path": record.path,
    }


def _take(line: dict[str, Any], files: dict[int, FileRecord], newest: dict[str, int]) -> None:
    """One line of a session file; ValueError, KeyError or TypeError where it is none.

    ``newest``: the number under which a path was begun last. Whoever is begun anew ends what was
    noted of it before, or that would come back once the newer one is done.
    """
    if "file" in line:
        record = FileRecord(
            line["file"], InodeId(line["inode"]), line["size"], line["mtime_ns"], line["path"]
        )
        files.pop(newest.get(record.path, 0), None)
        newest[record.path] = record.number
        files[record.number] = record
    elif "have" in line:
        number, low, high = line["have"]
        files[number].have.add(low, high)
        for block in [block for block in files[number].failed if low <= block < high]:
            del files[number].failed[block]
    elif "lost" in line:
        number, block = line["lost"]
        files[number].have.subtract(block, block + 1)
    elif "failed" in line:
        number, block, reason = line["failed"]
        files[number].failed[BlockNumber(block)] = reason
    elif "done" in line:
        files.pop(line["done"], None)


def local_error(error: OSError, path: str) -> LocalStorageError:
    """What an error of the destination's disk means."""
    failed = storage_error(error, "write", path)
    if isinstance(failed, DiskFullError):
        return DiskFullError(failed.message, hint="free space there; then the same command goes on")
    return failed
