"""``upload``: where each source goes, the import itself, and telling how it goes on.

The same with a mount (asked through the control API) and without one (in the command's process).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final

import trio

from usenetfs.config.models import Settings
from usenetfs.control.events import Emit, Job
from usenetfs.control.requests import UploadRequest
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.transfer_watch import Watch
from usenetfs.daemon.tree_paths import find, make_directories, names_of
from usenetfs.errors import PathNotFoundError, UsageError
from usenetfs.tracker import Kind
from usenetfs.trees.exclude import Exclude
from usenetfs.trees.import_count import count
from usenetfs.trees.import_items import ImportOptions, ImportRoot
from usenetfs.trees.import_tree import TreeImport
from usenetfs.trees.local_files import SourceError, read_status
from usenetfs.trees.tally import Tally, shown
from usenetfs.types import Durability

LEAD: Final = 256 << 20
"""Octets that an import which waits for the servers stages beyond what is staged already. They
are written, read and freed again within seconds, mostly without reaching the disk."""
Sync = Callable[[], Awaitable[object]]


async def prepare_upload(
    parts: Parts,
    settings: Settings,
    request: UploadRequest,
    sync: Sync,
    own_device: int | None = None,
) -> Job:
    """The job; raises what can be known before it begins.

    ``sync`` returns when everything staged is safe.
    """
    sources = [os.fsencode(source) for source in request.sources]
    target = os.fsencode(request.target)
    if not sources:
        raise UsageError("nothing to upload was named")
    statuses = [await trio.to_thread.run_sync(_status, source) for source in sources]
    roots = await _roots(parts, sources, statuses, target, dry_run=request.dry_run)
    limit = settings.staging.max_size
    if request.wait:
        limit = min(limit, parts.store.staged_bytes() + LEAD)
    options = ImportOptions(
        limit, request.checksum, request.dry_run, Exclude(request.exclude), own_device
    )

    async def job(emit: Emit) -> None:
        tally = Tally(emit, listing=request.listing or request.dry_run)
        wait = request.wait and not request.dry_run
        watch = Watch(
            tally,
            "sending",
            lambda: _pending(parts, tally) if wait else 0,
            tracker=parts.tracker,
            kind=Kind.IMPORT,
            name=f"{', '.join(request.sources)} to {request.target}",
        )

        async def work() -> None:
            engine = TreeImport(parts.store, tally, options)
            with parts.uploader.filling_the_line() if wait else nullcontext():
                # Once fenced, staging would never have room again.
                await parts.publisher.unless_fenced(partial(engine.run, roots))
            parts.files.save()
            if wait:
                watch.phase = "waiting"
                await sync()

        await watch.over(
            work, count, [(root.path, root.name) for root in roots], options.exclude, tally
        )

    return job


def _status(source: bytes) -> os.stat_result:
    try:
        return read_status(source, source.endswith(b"/"))
    except SourceError as error:
        raise PathNotFoundError(f"{shown(source)}: {error}") from None


async def _roots(
    parts: Parts,
    sources: Sequence[bytes],
    statuses: Sequence[os.stat_result],
    target: bytes,
    *,
    dry_run: bool,
) -> list[ImportRoot]:
    """Rsync's rules: a directory goes *into* the target under its own name, with a slash at its end
    its entries do; a single file takes the target's name, unless that is a directory."""
    single = len(sources) == 1 and not stat.S_ISDIR(statuses[0].st_mode)
    there = find(parts.store, target)
    into = there is not None and stat.S_ISDIR(there.mode)
    if single and not into and not target.endswith(b"/"):
        *above, name = names_of(target)
        parent = await make_directories(parts.store, above, dry_run=dry_run)
        return [ImportRoot(sources[0], parent, name)]
    parent = await make_directories(parts.store, names_of(target), dry_run=dry_run)
    return [ImportRoot(source, parent, _own_name(source)) for source in sources]


def _own_name(source: bytes) -> bytes:
    """What a source is called in the target; empty when its entries go there."""
    name = source.rpartition(b"/")[2]
    return b"" if name in {b".", b".."} else name


def _pending(parts: Parts, tally: Tally) -> int:
    """Octets transferred and not yet seen."""
    totals = parts.index.durability_totals()
    pending = totals[Durability.STAGED].bytes + totals[Durability.POSTED].bytes
    return min(pending, tally.bytes_done - tally.bytes_skipped)
