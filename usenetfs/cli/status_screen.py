"""``status --watch``: the status as one screen, as tall and wide as the terminal is.

Pure: a report, the past and a size in, a rich renderable out. What does not fit is left out, the
least important part first, so that nothing scrolls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from usenetfs.cli.graph import bar, graph, nice_top, resampled, shares
from usenetfs.cli.output import clean
from usenetfs.cli.status_view import (
    DOING,
    STATE_STYLE,
    cache_text,
    checkpoint_text,
    daemon_text,
    error_lines,
    limits_text,
    queues_text,
    title,
)
from usenetfs.config.units import human_duration, human_size
from usenetfs.control.model import (
    HistoryReport,
    JobReport,
    ServerReport,
    StatusReport,
    TransferReport,
)

SPAN: Final = 300.0
"""Seconds of the past that the graph shows."""
GRAPH_HEIGHT: Final = 5
GRAPH_RANK: Final = 7
MOST_HEIGHT: Final = 15
"""Of the graph, where there is room."""
DURABILITY_STYLE: Final = {
    "staged": "yellow",
    "posted": "blue",
    "seen": "cyan",
    "verified": "green",
}
_ARROWS: Final = {"import": "↑", "verify": "✓"}
_STAGES: Final = {
    "seal": "being sealed",
    "queue": "in the queue",
    "post": "being posted",
    "check": "being checked",
    "doubt": "in doubt",
}


Moving = tuple[str, str, float | None, str]
"""An arrow, a name, the share that is done, and what to say."""


@dataclass(slots=True)
class Past:
    """Speeds of the last minutes: from the daemon at first, then from each status."""

    up: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=600))
    down: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=600))
    _last: tuple[float, int, int] | None = None

    def learn(self, history: HistoryReport) -> None:
        """What was before the watch began."""
        for sample in history.samples:
            self.up.append((sample.time, sample.upload))
            self.down.append((sample.time, sample.download))

    def note(self, status: StatusReport) -> None:
        """One more status."""
        if status.time is None:
            return
        sent, received = status.upload.total_bytes, status.download.total_bytes
        if self._last is not None and (passed := status.time - self._last[0]) > 0:
            self.up.append((status.time, max(0, sent - self._last[1]) / passed))
            self.down.append((status.time, max(0, received - self._last[2]) / passed))
        self._last = status.time, sent, received


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the screen. ``lines`` high; parts of the highest ``rank`` go first."""

    rank: int
    lines: int
    content: RenderableType


def screen(
    status: StatusReport, past: Past, *, now: float, width: int, height: int, note: str = ""
) -> RenderableType:
    """The screen. ``note``: why the status is not new, if it is not."""
    parts = list(_parts(status, past, now, width, GRAPH_HEIGHT))
    room = height - 1  # the last line is for the keys
    while sum(part.lines for part in parts) > room and len(parts) > 1:
        parts.remove(max(parts, key=lambda part: part.rank))
    empty = room - sum(part.lines for part in parts)
    if empty and any(part.rank == GRAPH_RANK for part in parts):
        ranks = {part.rank for part in parts}
        taller = min(MOST_HEIGHT, GRAPH_HEIGHT + empty)
        parts = [p for p in _parts(status, past, now, width, taller) if p.rank in ranks]
        empty = room - sum(part.lines for part in parts)
    keys = _line(Text(note or "q or Ctrl-C ends", style="red" if note else "dim"), width)
    return Group(*(part.content for part in parts), *(Text() for _ in range(empty)), keys)


def _parts(
    status: StatusReport, past: Past, now: float, width: int, graph_height: int
) -> Iterator[Part]:
    yield Part(0, 1, _line(title(status), width))
    if status.checkpoint.fenced:
        fenced = f"read-only, another writer has taken over: {clean(status.checkpoint.fenced)}"
        yield Part(1, 1, _line(Text(fenced, style="bold red"), width))
    yield Part(1, 5, Group(Text(), *_safety(status, width)))
    if status.pid is not None:
        yield Part(2, 3, Group(Text(), *_speeds(status, width)))
        yield Part(GRAPH_RANK, graph_height + 1, _graph(past, now, width, graph_height))
        transfers = list(_transfers(status, width))
        if transfers:
            yield Part(6, len(transfers) + 1, Group(Text(), *transfers))
        first, others = _facts(status, now, width)
        yield Part(4, len(first) + 1, Group(Text(), *first))
        yield Part(8, len(others), Group(*others))
    if status.servers:
        servers = list(_servers(status.servers, width))
        yield Part(3, len(servers) + 1, Group(Text(), *servers))
    errors = list(error_lines(status, now, newest=4))
    if errors:
        lines = [_line(line, width) for line in errors]
        yield Part(5, len(lines) + 1, Group(Text(), *lines))


def _line(text: Text, width: int) -> Text:
    """Cut to one line."""
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text


def _safety(status: StatusReport, width: int) -> Iterator[Text]:
    amounts = {state: getattr(status.durability, state) for state in DURABILITY_STYLE}
    pending = status.pending_bytes
    first = Text(no_wrap=True)
    if pending:
        first.append(f"{human_size(pending)} not safe yet", style="bold yellow")
        if status.time_left:
            first.append(f", about {human_duration(status.time_left)} left")
    else:
        first.append("everything is safe on the servers", style="bold green")
    first.append(f"; {status.files:,} files in {status.directories:,} directories, ")
    first.append(human_size(status.bytes))
    yield _line(first, width)
    strip = Text(no_wrap=True)
    widths = shares([amount.bytes for amount in amounts.values()], width)
    for state, characters in zip(amounts, widths, strict=True):
        strip.append("━" * characters, style=DURABILITY_STYLE[state])
    yield strip if any(widths) else Text("━" * width, style="dim")
    legend = Text(no_wrap=True)
    for state, amount in amounts.items():
        legend.append("● ", style=DURABILITY_STYLE[state])
        legend.append(f"{state} {human_size(amount.bytes)}   ")
    yield _line(legend, width)
    blocks = ", ".join(f"{amount.blocks:,} {state}" for state, amount in amounts.items())
    limit = f"; staging takes {human_size(status.staging_limit)}" if status.staging_limit else ""
    yield _line(Text(f"blocks: {blocks}{limit}", style="dim"), width)


def _speeds(status: StatusReport, width: int) -> Iterator[Text]:
    limits = limits_text(status.limits)
    for arrow, style, what, speed in (
        ("↑", "blue", "upload", status.upload),
        ("↓", "cyan", "download", status.download),
    ):
        line = Text(f"{arrow} {what:<9}", style=style, no_wrap=True)
        line.append(f"{human_size(speed.now)}/s", style="bold default")
        line.append(
            f"  {human_size(speed.average)}/s on average, {human_size(speed.total_bytes)} in all",
            style="default",
        )
        if what == "upload" and limits:
            line.append(f"; {limits}", style="yellow")
        yield _line(line, width)


def _graph(past: Past, now: float, width: int, height: int) -> RenderableType:
    columns = max(10, width - 12)
    up = resampled(past.up, columns, SPAN, now)
    down = resampled(past.down, columns, SPAN, now)
    top = nice_top(max((value for value in (*up, *down) if value is not None), default=0.0))
    lower = 2 if height < 8 else height // 3
    lines = graph(up, height - lower, top)
    below = graph(down, lower, top)
    shown = []
    for number, line in enumerate((*lines, *below)):
        label = f"{human_size(top)}/s" if number == 0 else ""
        text = Text(no_wrap=True)
        text.append(f"{label:>11} ", style="dim")
        text.append(line, style="blue" if number < len(lines) else "cyan")
        shown.append(text)
    axis = Text(" " * 12 + "5 min ago", style="dim", no_wrap=True)
    axis.append("now".rjust(columns - 9))
    return Group(*shown, axis)


def _transfers(status: StatusReport, width: int) -> Iterator[Text]:
    shown = [_of_job(job) for job in status.jobs]
    shown += [_of_file(each) for each in status.transfers[:5]]
    said_width = max((len(said) for _, _, _, said in shown), default=0)
    for arrow, name, share, said in shown:
        yield _transfer_line(arrow, name, share, said.ljust(said_width), width)
    more = status.files_in_transfer - len(status.transfers[:5])
    if more > 0:
        yield Text(f"  and {more:,} more files", style="dim")


def _of_job(job: JobReport) -> Moving:
    share = job.bytes_done / job.bytes_found if job.bytes_found else 0.0
    counted = DOING.get(job.kind, ("", "files"))[1]
    files = f"{job.files_done:,}/{job.files_found:,}{'+' * job.counting} {counted}"
    said = f"{files}, {human_size(job.bytes_done)} of {human_size(job.bytes_found)}"
    return _ARROWS.get(job.kind, "↓"), job.name, share, said


def _of_file(transfer: TransferReport) -> Moving:
    if transfer.direction == "down":
        said = f"{human_size(transfer.size)}, {transfer.articles} articles on their way"
        return "↓", transfer.path, None, said
    done = max(0, transfer.size - transfer.left)
    stage = _STAGES.get(transfer.stage, transfer.stage)
    said = f"{human_size(done)} of {human_size(transfer.size)} safe, {stage}"
    return "↑", transfer.path, done / transfer.size if transfer.size else None, said


def _transfer_line(arrow: str, name: str, share: float | None, said: str, width: int) -> Text:
    style = "blue" if arrow == "↑" else "cyan"
    gauge = 12 if width >= 70 else 0
    room = max(8, width - len(said) - gauge - 6)
    shown = clean(name)
    if len(shown) > room:
        shown = "…" + shown[-(room - 1) :]
    line = Text(no_wrap=True)
    line.append(f"{arrow} ", style=style)
    line.append(shown.ljust(room))
    if gauge:
        full, empty = bar(share or 0.0, gauge)
        line.append(f" {full}", style=style)
        line.append(empty if share is None else empty.replace(" ", "·"), style="dim")
    line.append(f"  {said}")
    return _line(line, width)


def _servers(servers: Sequence[ServerReport], width: int) -> Iterator[Text]:
    names = max(len("server"), *(min(len(server.name), 24) for server in servers))
    heading = f"{'server':<{names}}  {'state':<9} health  connections  latency  errors"
    yield _line(Text(heading, style="bold"), width)
    for server in servers:
        line = Text(no_wrap=True)
        line.append(f"{clean(server.name)[:24]:<{names}}  ")
        line.append(f"{server.state:<9} ", style=STATE_STYLE.get(server.state, ""))
        latency = "" if server.latency_ms is None else f"{server.latency_ms:.0f} ms"
        connections = f"{server.busy}/{server.open}/{server.limit}"
        line.append(f"{100 * server.health:>4.0f} %  {connections:<11}  {latency:<7}  ")
        line.append(f"{server.errors:,}")
        if server.last_error:
            line.append(
                f": {clean(server.last_error)}", style="red" if server.state == "down" else "dim"
            )
        yield _line(line, width)


def _facts(status: StatusReport, now: float, width: int) -> tuple[list[Text], list[Text]]:
    """What one wants to know, and what there is to know besides."""
    uploads, process = status.uploads, status.process
    disk = f"{human_size(process.disk_read)}/s read, {human_size(process.disk_write)}/s written"
    blocks = f"{uploads.blocks_uploaded:,} sent, {uploads.blocks_linked:,} known already"
    return (
        [
            _fact("queues", queues_text(status), width),
            _fact("checkpoint", checkpoint_text(status, now), width),
        ],
        [
            _fact("cache", cache_text(status), width),
            _fact("blocks", blocks, width),
            _fact("daemon", f"{daemon_text(process)}, {disk}", width),
        ],
    )


def _fact(label: str, said: str, width: int) -> Text:
    line = Text(no_wrap=True)
    line.append(f"{label:<11}", style="bold")
    line.append(said)
    return _line(line, width)
