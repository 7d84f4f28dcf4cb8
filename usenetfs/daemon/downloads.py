"""``download``: what goes where, the export itself, and telling how it goes on.

The same with a mount (asked through the control API) and without one (in the command's process).
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Final

import trio

from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.events import Emit, Job
from usenetfs.control.requests import DownloadRequest
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.transfer_watch import Watch
from usenetfs.daemon.tree_paths import find, names_of
from usenetfs.errors import PathNotFoundError, UsageError
from usenetfs.index.inodes import Inode
from usenetfs.tracker import Kind
from usenetfs.trees.exclude import Exclude
from usenetfs.trees.export_count import count
from usenetfs.trees.export_session import ExportSession, local_error
from usenetfs.trees.export_tree import OWN, ExportOptions, TreeExport
from usenetfs.trees.tally import Tally

MIN_PARALLEL: Final = 8
MAX_PARALLEL: Final = 32
"""Blocks on their way at once: what bounds the memory of a download."""


async def prepare_download(
    parts: Parts, paths: FilesystemPaths, request: DownloadRequest, own_device: int | None = None
) -> Job:
    """The job; raises what can be known before it begins."""
    source = os.fsencode(request.source)
    row = find(parts.store, source)
    if row is None:
        raise PathNotFoundError(f"{request.source}: there is no such file or directory")
    contents = stat.S_ISDIR(row.mode) and (source.endswith(b"/") or not names_of(source))
    own_name = b"" if contents else names_of(source)[-1]
    folder, name = await trio.to_thread.run_sync(
        _destination, row, own_name, os.fsencode(request.target), request.dry_run, own_device
    )
    session = ExportSession(
        _session_path(paths, source, folder, name),
        source=request.source,
        target=os.fsdecode(os.path.join(folder, name)),
    )
    options = ExportOptions(
        _parallel(parts), request.checksum, request.dry_run, Exclude(request.exclude), own_device
    )

    async def job(emit: Emit) -> None:
        tally = Tally(emit, listing=request.listing or request.dry_run)
        parts.files.save()

        async def work() -> None:
            with session:
                await TreeExport(parts.store, session, tally, options).run(row, folder, name)

        watch = Watch(
            tally,
            "receiving",
            lambda: 0,
            tracker=parts.tracker,
            kind=Kind.EXPORT,
            name=f"{request.source} to {request.target}",
        )
        await watch.over(work, count, parts.store, row, name, options.exclude, tally)

    return job


def _parallel(parts: Parts) -> int:
    connections = sum(status.limit for status in parts.providers.statuses())
    return max(MIN_PARALLEL, min(2 * connections, MAX_PARALLEL))


def _destination(
    row: Inode, own_name: bytes, target: bytes, dry_run: bool, own_device: int | None
) -> tuple[bytes, bytes]:
    """The local directory, made where it is missing, and the name in it; rsync's rules, as for
    uploads."""
    folder, name = target, own_name
    into = target.endswith(b"/") or os.path.isdir(target)
    if not stat.S_ISDIR(row.mode) and not into:
        folder, name = os.path.dirname(target), os.path.basename(target)
    folder = folder.rstrip(b"/") or b"/"
    try:
        if not dry_run:
            os.makedirs(folder, exist_ok=True)
            if os.stat(folder).st_dev == own_device:
                raise UsageError(OWN, hint="copy it there with cp, or download it elsewhere")
    except OSError as error:
        raise local_error(error, folder.decode(errors="replace")) from error
    return folder, name


def _session_path(paths: FilesystemPaths, source: bytes, folder: bytes, name: bytes) -> Path:
    digest = blake2b(source + b"\0" + folder + b"\0" + name, digest_size=12).hexdigest()
    return paths.downloads / f"{digest}.jsonl"
