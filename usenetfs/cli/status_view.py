"""The status as people read it. Shows the same numbers as the JSON, rounded.

Pure: a report in, a rich renderable out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from usenetfs.cli.output import clean
from usenetfs.config.units import human_duration, human_size
from usenetfs.control.model import (
    Amount,
    LimitsReport,
    ProcessReport,
    ServerReport,
    StatusReport,
    VerificationReport,
)

STATE_STYLE: Final = {
    "mounted": "green",
    "healthy": "green",
    "idle": "green",
    "not mounted": "yellow",
    "degraded": "yellow",
    "draining": "yellow",
    "down": "red",
}

DOING: Final = {
    "import": ("uploading", "files"),
    "export": ("downloading", "files"),
    "verify": ("verifying", "articles"),
}
"""By kind of job: what is being done, and with what."""


def render(status: StatusReport, *, now: float | None = None) -> RenderableType:
    """Everything worth showing of ``status``; ``now`` is Unix time, for tests."""
    moment = time.time() if now is None else now
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for label, text in _facts(status, moment):
        facts.add_row(label, text)
    parts: list[RenderableType] = [title(status), facts]
    if status.servers:
        parts += [Text(), _servers(status.servers)]
    if status.recent_errors:
        parts += [Text(), *error_lines(status, moment)]
    return Group(*parts)


def title(status: StatusReport) -> Text:
    """``photos  mounted at /home/me/photos, for 2 h 1 min``."""
    line = Text(status.name, style="bold")
    line.append("  ")
    line.append(status.state, style=STATE_STYLE.get(status.state, ""))
    if status.mountpoint:
        line.append(f" at {clean(status.mountpoint)}", style="not bold")
    if status.read_only:
        line.append(", read-only", style="not bold")
    if status.uptime is not None:
        line.append(f", for {human_duration(status.uptime)}", style="not bold dim")
    return line


def _facts(status: StatusReport, now: float) -> Iterator[tuple[str, str]]:
    yield (
        "contents",
        f"{status.files:,} files in {status.directories:,} directories, {human_size(status.bytes)}",
    )
    durability = status.durability
    yield "staged", _amount(durability.staged, "on this disk only", limit=status.staging_limit)
    yield "posted", _amount(durability.posted, "accepted by a server")
    yield "seen", _amount(durability.seen, "found on a server")
    yield "verified", _amount(durability.verified, "fetched and opened")
    if status.pid is None:
        return
    yield "queues", queues_text(status)
    left = f", {human_duration(status.time_left)} left" if status.time_left else ""
    yield "upload", _speed(status.upload.now, status.upload.average) + left
    if (limits := limits_text(status.limits)) is not None:
        yield "limits", limits
    yield "download", _speed(status.download.now, status.download.average)
    yield from _transfers(status)
    uploads = status.uploads
    yield "blocks", f"{uploads.blocks_uploaded:,} sent, {uploads.blocks_linked:,} known already"
    yield "cache", cache_text(status)
    yield "checkpoint", checkpoint_text(status, now)
    if status.last_verification is not None:
        yield "last verify", verification_text(status.last_verification, now)
    yield "daemon", _daemon(status)


def _amount(amount: Amount, meaning: str, *, limit: int = 0) -> str:
    of = f" of {human_size(limit)}" if limit else ""
    return f"{human_size(amount.bytes)}{of} in {amount.blocks:,} blocks ({meaning})"


def _transfers(status: StatusReport) -> Iterator[tuple[str, str]]:
    for job in status.jobs:
        doing, counted = DOING.get(job.kind, (job.kind, "files"))
        files = f"{job.files_done:,} of {job.files_found:,} {counted}"
        octets = f"{human_size(job.bytes_done)} of {human_size(job.bytes_found)}"
        yield doing, f"{clean(job.name)}: {files}, {octets}"
    if status.files_in_transfer:
        first = clean(status.transfers[0].path) if status.transfers else ""
        yield "on the way", f"{status.files_in_transfer:,} files, {first} first"


def verification_text(last: VerificationReport, now: float) -> str:
    """``/ with its data, 2 h 1 min ago: 1,204 articles, none lost``."""
    how = " with its data" if last.data else ""
    part = "" if last.percent is None else f" ({last.percent:g} %)"
    ago = human_duration(max(0.0, now - last.time))
    found = f"{last.lost:,} LOST in {last.files_damaged:,} files" if last.lost else "none lost"
    text = f"{clean(last.path)}{how}{part}, {ago} ago: {last.articles:,} articles, {found}"
    if last.unknown:
        text += f", {last.unknown:,} not asked for"
    for what, state in (("chain", last.chain), ("keys", last.keys)):
        if state not in {None, "present"}:
            text += f", {what} {state}"
    return text


def queues_text(status: StatusReport) -> str:
    """Those that hold something."""
    busy = [f"{q.name} {q.depth}{_of(q.capacity)}" for q in status.queues if q.depth]
    return ", ".join(busy) or "empty"


def _of(capacity: int | None) -> str:
    return "" if capacity is None else f"/{capacity}"


def _daemon(status: StatusReport) -> str:
    return daemon_text(status.process) + (f", web page at {status.web}" if status.web else "")


def daemon_text(process: ProcessReport) -> str:
    """``312 MB memory, 87 % of a processor``."""
    return f"{human_size(process.memory_bytes)} memory, {process.cpu_percent:.0f} % of a processor"


def _speed(current: float, average: float) -> str:
    return f"{human_size(current)}/s now, {human_size(average)}/s on average"


def limits_text(limits: LimitsReport) -> str | None:
    """``at most 5.0 MB/s; 08:00-18:00: uploads rest``; None where nothing is limited."""
    said = []
    if limits.rate is not None:
        said.append(f"at most {human_size(limits.rate)}/s" if limits.rate else "uploads rest")
    if limits.connections is not None:
        said.append(f"at most {limits.connections} posts at once")
    if limits.quiet_hours is not None:
        quiet = f"{human_size(limits.quiet_rate)}/s" if limits.quiet_rate else "uploads rest"
        now = " (now)" if limits.rate_now != limits.rate else ""
        said.append(f"{limits.quiet_hours}{now}: {quiet}")
    return "; ".join(said) or None


def cache_text(status: StatusReport) -> str:
    """``8.1 GB of 21 GB on disk, 88 MB of 101 MB in memory, 90 % hits``."""
    cache = status.cache
    asked = cache.hits + cache.misses
    hits = f", {100 * cache.hits / asked:.0f} % hits" if asked else ""
    return (
        f"{human_size(cache.bytes)} of {human_size(cache.max_bytes)} on disk, "
        f"{human_size(cache.memory_bytes)} of {human_size(cache.memory_max_bytes)} in memory{hits}"
    )


def checkpoint_text(status: StatusReport, now: float) -> str:
    """``number 412, 21 s ago; 318 changes not in it``."""
    checkpoint = status.checkpoint
    if checkpoint.number is None or checkpoint.time is None:
        text = "none published yet"
    else:
        ago = human_duration(max(now - checkpoint.time, 0))
        text = f"number {checkpoint.number}, {ago} ago"
    if checkpoint.pending_changes:
        text += f"; {checkpoint.pending_changes:,} changes not in it"
    if checkpoint.held_files:
        text += f"; {checkpoint.held_files:,} files in it as they were before"
    if checkpoint.awaited_files:
        named = ", ".join(map(clean, checkpoint.awaited[:3]))
        text += f"; sync waits for {checkpoint.awaited_files:,} files being changed ({named})"
    if checkpoint.fenced:
        text += f"; FENCED, read-only: {clean(checkpoint.fenced)}"
    return text


def _servers(servers: tuple[ServerReport, ...]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    for heading in ("server", "state", "health", "busy/open/limit", "latency", "errors"):
        table.add_column(heading, no_wrap=heading != "errors")
    for server in servers:
        latency = "" if server.latency_ms is None else f"{server.latency_ms:.0f} ms"
        errors = f"{server.errors:,}" + (
            f": {clean(server.last_error)}" if server.last_error else ""
        )
        table.add_row(
            Text(clean(server.name)),
            Text(server.state, style=STATE_STYLE.get(server.state, "")),
            f"{100 * server.health:.0f} %",
            f"{server.busy}/{server.open}/{server.limit}",
            latency,
            Text(errors),
        )
    return table


def error_lines(status: StatusReport, now: float, *, newest: int | None = None) -> Iterator[Text]:
    """A heading, then each error with its hint; ``newest``: only so many."""
    errors = status.recent_errors if newest is None else status.recent_errors[-newest:]
    if errors:
        yield Text("recent errors", style="bold")
    for error in errors:
        times = f" ({error.count} times)" if error.count > 1 else ""
        ago = human_duration(max(now - error.time, 0))
        yield Text(f"  {ago} ago: {clean(error.message)}{times}", style="red")
        if error.hint:
            yield Text(f"    hint: {clean(error.hint)}")
