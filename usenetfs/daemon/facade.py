"""What the control API asks of the daemon, answered from its parts."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from usenetfs import mounts
from usenetfs.control.events import Job
from usenetfs.control.model import (
    CacheReport,
    CheckpointReport,
    DropReport,
    HistoryReport,
    LimitsReport,
    OperationReport,
    OperationsReport,
    RemoveReport,
    StatusReport,
    SyncReport,
    UnmountReport,
    WarmReport,
)
from usenetfs.control.requests import DownloadRequest, UploadRequest, VerifyRequest
from usenetfs.daemon.activity import operation_report, operations_report
from usenetfs.daemon.downloads import prepare_download
from usenetfs.daemon.metrics import render_metrics
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.reporter import Reporter, durability_report, pending_bytes
from usenetfs.daemon.runtime_settings import RuntimeSettings
from usenetfs.daemon.tree_changes import move, remove
from usenetfs.daemon.uploads import prepare_upload
from usenetfs.daemon.verification import Verifications
from usenetfs.errors import (
    FencedError,
    FilesystemBusyError,
    PathNotFoundError,
    PosixError,
    UsenetfsError,
)
from usenetfs.index.chain import NONE_YET
from usenetfs.options import DaemonOptions
from usenetfs.tracker import Kind
from usenetfs.transfer.fetch.tree_articles import find
from usenetfs.trees.tally import shown

ANSWER_TIMEOUT = 2.0
"""Seconds that the daemon's end waits for the client that asked for it."""


class Facade:
    """Answers for one mount."""

    def __init__(self, options: DaemonOptions, parts: Parts) -> None:
        self._options = options
        self._parts = parts
        self._state = "mounted" if options.mountpoint is not None else "working"
        self._unmounting = trio.Lock()
        self._unmounted = False
        self._owed = 0
        """Askers of an unmount that have no answer yet."""
        self._answered = trio.Event()
        """Nobody is owed one any more."""
        self._answered.set()
        self._runtime = RuntimeSettings(parts, options.settings.upload)
        self.drained = False
        """Whether an unmount waited for everything to be safe."""
        self.verifications = Verifications(options, parts)
        self._reporter = Reporter(
            options,
            parts,
            checkpoint=self._checkpoint,
            limits=self._runtime.report,
            verifications=self.verifications,
        )

    async def measure(self) -> None:
        """Sample the speeds until cancelled."""
        await self._reporter.measure()

    async def status(self) -> StatusReport:
        """Where everything stands. From counters: nothing is waited for."""
        await trio.lowlevel.checkpoint()
        with suppress(UsenetfsError):  # it is tried again, and logged, where it is done regularly
            self._parts.files.save()  # so that the counters know of the last half second
        return self._reporter.status(self._state)

    async def history(self) -> HistoryReport:
        await trio.lowlevel.checkpoint()
        return self._reporter.history()

    async def operations(self) -> OperationsReport:
        await trio.lowlevel.checkpoint()
        return operations_report(self._parts.tracker)

    async def operation(self, operation_id: str) -> OperationReport:
        """One operation; PathNotFoundError."""
        await trio.lowlevel.checkpoint()
        found = self._parts.tracker.find(operation_id)
        if found is None:
            raise PathNotFoundError(
                f"no operation {operation_id} is known any more",
                hint="those that ended are remembered for a while; the log has all of them",
            )
        return operation_report(found)

    async def limits(self) -> LimitsReport:
        await trio.lowlevel.checkpoint()
        return self._runtime.report()

    def served_at(self, address: str | None) -> None:
        """The web page is at ``address``, or nowhere."""
        self._reporter.web = address

    def _checkpoint(self) -> CheckpointReport:
        publisher = self._parts.publisher
        state = publisher.state
        none = state.number == NONE_YET
        awaited = self._parts.catch_up.awaited()
        return CheckpointReport(
            number=None if none else state.number,
            time=None if none else float(state.time),
            pending_changes=publisher.pending(),
            held_files=state.held,
            awaited_files=awaited.files,
            awaited=tuple(shown(path) for path in awaited.paths),
            fenced=state.fenced or None,
        )

    async def cache(self) -> CacheReport:
        await trio.lowlevel.checkpoint()
        return self._reporter.cache()

    async def metrics(self) -> str:
        """Prometheus text."""
        return render_metrics(await self.status(), self._parts.tracker, self._parts.errors.counts)

    async def sync(self) -> SyncReport:
        """Return when everything written before the call is on the servers and in a checkpoint."""
        started = time.monotonic()
        with self._parts.tracker.track(Kind.SYNC, "sync") as operation:
            operation.stage = "upload"
            number = await self._parts.catch_up.sync(
                lambda: operation.passed("upload", "checkpoint")
            )
            operation.passed("checkpoint")
        return SyncReport(duration=time.monotonic() - started, checkpoint=number)

    async def drop_cache(self, path: str | None = None) -> DropReport:
        self._parts.content.forget()
        if path is not None:
            before = self._parts.cache.stats()
            articles = await self._parts.care.drop(find(self._parts.index, path))
            octets = max(0, before.bytes - self._parts.cache.stats().bytes)
            return DropReport(articles=articles, bytes=octets)
        self._parts.fetcher.drop_memory()
        before = self._parts.cache.stats()
        await trio.to_thread.run_sync(self._parts.cache.drop_all)
        return DropReport(articles=before.articles, bytes=before.bytes)

    async def warm_cache(self, path: str) -> WarmReport:
        """Fetch what is missing of a file or tree."""
        done = await self._parts.care.warm(find(self._parts.index, path))
        return WarmReport(
            articles=done.articles,
            fetched=done.fetched,
            bytes=done.bytes,
            failed=done.failed,
            refused=done.refused,
        )

    async def change_setting(self, key: str, value: str) -> LimitsReport:
        """Change a limit until the filesystem is unmounted."""
        await trio.lowlevel.checkpoint()
        return self._runtime.set(key, value)

    async def upload(self, request: UploadRequest) -> Job:
        """An import into the mounted filesystem."""
        self._check_serving()
        self.check_writable()
        own = await self._own_device()
        return await prepare_upload(self._parts, self._options.settings, request, self.sync, own)

    async def download(self, request: DownloadRequest) -> Job:
        """An export out of the mounted filesystem."""
        self._check_serving()
        own = await self._own_device()
        return await prepare_download(self._parts, self._options.paths, request, own)

    async def verify(self, request: VerifyRequest) -> Job:
        """Asking the servers for what is stored."""
        self._check_serving()
        return await self.verifications.prepare(request)

    async def remove(self, paths: Sequence[str], *, recursive: bool) -> RemoveReport:
        """Take names away."""
        self.check_writable()
        doomed = [os.fsencode(path) for path in paths]
        removed = await remove(self._parts.store, doomed, recursive=recursive)
        self._parts.files.save()
        return RemoveReport(removed)

    async def move(self, source: str, target: str) -> None:
        """Rename."""
        self.check_writable()
        await move(self._parts.store, os.fsencode(source), os.fsencode(target))
        self._parts.files.save()

    async def _own_device(self) -> int | None:
        """The number of the mounted device: this process must not wait for itself."""
        if self._options.mountpoint is None:
            return None
        return (await trio.to_thread.run_sync(os.lstat, self._options.mountpoint)).st_dev

    def check_writable(self) -> None:
        """PosixError or FencedError when nothing may be changed."""
        if self._options.read_only:
            raise PosixError(errno.EROFS, f'filesystem "{self._options.name}" is mounted read-only')
        fenced = self._parts.publisher.state.fenced
        if fenced:
            raise FencedError(fenced)

    def _check_serving(self) -> None:
        """Only a mount works for others; a command's process ends with the command."""
        if self._options.mountpoint is None:
            raise FilesystemBusyError(
                f'filesystem "{self._options.name}" is in use by another command',
                hint="wait until it has ended, or mount it to do several things at once",
            )

    async def unmount_answered(self) -> None:
        """Whoever asked to unmount has the answer."""
        await trio.lowlevel.checkpoint()
        self._settle_answer()

    async def last_answer(self) -> None:
        """Wait until nobody is owed the answer to an unmount; the daemon may end then."""
        with trio.move_on_after(ANSWER_TIMEOUT):
            await self._answered.wait()

    async def unmount(self, *, lazy: bool) -> UnmountReport:
        """Drain unless ``lazy``, then unmount; the daemon ends when the kernel lets go. Several may
        ask, one after another gave up waiting: all of them are answered."""
        previous, self._state = self._state, "draining"
        if not self._owed:
            self._answered = trio.Event()
        self._owed += 1
        try:
            if not lazy and not self._unmounted:
                await self.sync()
                self.drained = True
            self._state = "unmounting"
            async with self._unmounting:
                if self._options.mountpoint is not None and not self._unmounted:
                    await trio.to_thread.run_sync(_unmount, self._options.mountpoint, lazy)
                self._unmounted = True
        except BaseException:
            self._state = previous
            self._settle_answer()
            raise
        return UnmountReport(os.getpid(), pending_bytes(durability_report(self._parts)))

    def _settle_answer(self) -> None:
        self._owed -= 1
        if not self._owed:
            self._answered.set()


def _unmount(mountpoint: Path, lazy: bool) -> None:
    mounts.unmount(mountpoint, lazy=lazy)
