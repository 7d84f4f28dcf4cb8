"""``verify``: which articles, the run itself, telling how it goes on, and what the last one found.

The same with a mount (asked through the control API) and without one (in the command's process).
One run at a time: they would ask the same servers in the same lane.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Final

import trio

from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.keys import KeySet
from usenetfs.checkpoint.articles import ArticleReader
from usenetfs.checkpoint.key_records import KeyRecords
from usenetfs.control.events import Emit, Job
from usenetfs.control.model import VerificationReport, VerifiedReport
from usenetfs.control.requests import VerifyRequest
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.transfer_watch import Watch
from usenetfs.daemon.tree_paths import find, names_of
from usenetfs.errors import (
    ConfigurationError,
    FilesystemBusyError,
    PathNotFoundError,
    UsageError,
)
from usenetfs.health.asking import Asker
from usenetfs.health.chain import ChainCheck
from usenetfs.health.choice import Wish
from usenetfs.health.tally import Findings
from usenetfs.health.verdict import Outcome
from usenetfs.health.verification import Terms, Verification
from usenetfs.index.chain import NONE_YET
from usenetfs.options import DaemonOptions
from usenetfs.tracker import Kind
from usenetfs.types import Durability, InodeId, Lane

log = logging.getLogger("usenetfs.daemon")

PATIENCE: Final = 10.0
"""Seconds that a server may be out of reach before what is asked of it counts as not asked."""

CHAIN_PATIENCE: Final = 3.0
"""The same for the chain and the record of the keys, which are asked for first."""


class Verifications:
    """Those of one filesystem; see the module."""

    def __init__(self, options: DaemonOptions, parts: Parts) -> None:
        self._options = options
        self._parts = parts
        self._busy = False
        self._outcomes: Counter[Outcome] = Counter()
        self._bytes_read = 0
        self._running: Findings | None = None
        self.last = _read(options.paths.verification)
        """What the last one that came to its end found, also before the mount."""

    def __repr__(self) -> str:
        return f"<Verifications {'busy' if self._busy else 'idle'} last={self.last}>"

    def verified(self) -> VerifiedReport:
        """What was asked for since the mount."""
        outcomes, bytes_read = Counter(self._outcomes), self._bytes_read
        if self._running is not None:
            outcomes.update(self._running.outcomes)
            bytes_read += self._running.bytes_read
        return VerifiedReport(
            **{outcome.value: outcomes[outcome] for outcome in Outcome}, bytes_read=bytes_read
        )

    async def prepare(self, request: VerifyRequest) -> Job:
        """The job; raises what can be known before it begins."""
        wish = await self._wish(request)

        async def job(emit: Emit) -> None:
            if self._busy:
                raise FilesystemBusyError(
                    f'filesystem "{self._options.name}" is being verified already',
                    hint="wait until that has ended: usenetfs status shows how far it is",
                )
            self._busy = True
            self._running = findings = Findings(emit)
            try:
                await self._run(request, wish, findings)
            finally:
                self._running, self._busy = None, False
                self._outcomes.update(findings.outcomes)
                self._bytes_read += findings.bytes_read

        return job

    async def _wish(self, request: VerifyRequest) -> Wish:
        percent = request.percent
        if percent is not None and not 0 < percent <= 100:
            raise UsageError("a part is more than 0 % and at most 100 %")
        if (request.unverified or percent is not None) and not request.data:
            raise UsageError(
                "without fetching data everything is asked for, which is cheap",
                hint="add --data",
            )
        if not self._parts.providers.storage_groups():
            raise ConfigurationError(
                "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
            )
        await trio.lowlevel.checkpoint()
        self._parts.files.save()
        top = self._top(request.path)
        share = None if percent is None else percent / 100
        return Wish(top, data=request.data, unverified=request.unverified, share=share)

    def _top(self, path: str) -> InodeId | None:
        name = os.fsencode(path)
        if not names_of(name):
            return None
        row = find(self._parts.store, name)
        if row is None:
            raise PathNotFoundError(f"{path}: there is no such file or directory")
        return row.id

    async def _run(self, request: VerifyRequest, wish: Wish, findings: Findings) -> None:
        started = time.monotonic()
        watch = Watch(
            findings,
            "counting",
            lambda: 0,
            tracker=self._parts.tracker,
            kind=Kind.VERIFY,
            name=request.path or "/",
        )

        def phase(name: str) -> None:
            watch.phase = name

        async def work() -> None:
            asker = Asker(self._parts.providers, patience=PATIENCE)
            keys = KeySet.from_master(self._options.master_key, self._options.filesystem_id)
            if wish.top is None:
                phase("chain")
                await self._check_chain(asker, keys, findings, data=wish.data)
            await self._verification(asker, keys, wish, findings).run(phase)
            await self._finish(request, findings, time.monotonic() - started)

        await watch.over(work, trio.lowlevel.checkpoint)

    def _verification(
        self, asker: Asker, keys: KeySet, wish: Wish, findings: Findings
    ) -> Verification:
        parts, options = self._parts, self._options
        return Verification(
            parts.index,
            asker,
            parts.cache,
            wish,
            findings,
            keys=keys,
            filesystem_id=options.filesystem_id,
            terms=Terms(
                window=options.settings.upload.check_timeout,
                may_record=lambda: not (options.read_only or parts.publisher.state.fenced),
                busy=self._others_work,
            ),
        )

    def _others_work(self) -> bool:
        """Whether somebody waits for an article, or something waits to be uploaded."""
        staged = self._parts.index.durability_totals()[Durability.STAGED]
        return bool(self._parts.fetcher.active or staged.count)

    async def _check_chain(
        self, asker: Asker, keys: KeySet, findings: Findings, *, data: bool
    ) -> None:
        parts, options = self._parts, self._options
        reader = ArticleReader(
            parts.providers,
            keys=keys,
            filesystem_id=options.filesystem_id,
            retries=parts.retries,
            patience=CHAIN_PATIENCE,
            lane=Lane.VERIFY,
        )
        records = KeyRecords(
            parts.providers, retries=parts.retries, patience=CHAIN_PATIENCE, lane=Lane.VERIFY
        )
        check = ChainCheck(
            asker,
            reader,
            records,
            filesystem_id=options.filesystem_id,
            copies=options.settings.checkpoint.copies,
            data=data,
        )
        state = parts.index.chain.state()
        newest = None if state is None or state.number == NONE_YET else state.number
        age = 0.0 if state is None else abs(time.time() - state.time)
        findings.chain = await check.check(
            newest,
            KeyRecordLocator.from_master(options.master_key),
            fresh=age < options.settings.upload.check_timeout,
        )

    async def _finish(self, request: VerifyRequest, findings: Findings, seconds: float) -> None:
        """Say and keep what was found."""
        counts, chain = findings.outcomes, findings.chain
        report = VerificationReport(
            time=time.time(),
            seconds=seconds,
            path=request.path or "/",
            data=request.data,
            percent=request.percent,
            unverified=request.unverified,
            articles=findings.done,
            bytes=findings.bytes_done,
            **{outcome.value: counts[outcome] for outcome in Outcome},
            files_damaged=findings.files_damaged,
            bytes_lost=findings.bytes_lost,
            chain=None if chain is None else chain.outcome.value,
            keys=None if chain is None else chain.keys.value,
        )
        found = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
        level = logging.WARNING if counts[Outcome.LOST] else logging.INFO
        log.log(level, "%s was verified: %d articles, %s", report.path, findings.done, found)
        self.last = report
        await trio.to_thread.run_sync(_write, self._options.paths.verification, report)


def _write(file: Path, report: VerificationReport) -> None:
    """Replace the file; where that fails, status forgets it with the mount, and no more."""
    temporary = file.with_suffix(".new")
    try:
        temporary.write_text(json.dumps(report.to_json()), encoding="ascii")
        temporary.replace(file)
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error.strerror)


def _read(file: Path) -> VerificationReport | None:
    try:
        return VerificationReport.from_json(json.loads(file.read_text(encoding="ascii")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.info("%s is not understood: %s", file, error)
        return None
