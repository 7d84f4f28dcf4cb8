"""``usenetfs nntpd``: the embedded news server in the foreground."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from usenetfs import logs
from usenetfs.cli.context import Common
from usenetfs.cli.output import note
from usenetfs.cli.passphrase import read_file
from usenetfs.config.units import parse_duration, parse_size
from usenetfs.errors import UsageError
from usenetfs.nntpd.faults import FaultPlan, parse_plan
from usenetfs.nntpd.server import RunningServer, serve
from usenetfs.nntpd.settings import DEFAULT_GROUPS, NntpdSettings


def run(  # noqa: PLR0913  the options of the command
    common: Common,
    *,
    listen: str,
    spool: Path,
    groups: list[str],
    faults: Path | None,
    user: str | None,
    password_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    starttls: bool,
    latency: str,
    max_article: str,
    durable: bool,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    host, port = _address(listen)
    if (user is None) != (password_file is None):
        raise UsageError("--user and --password-file go together")
    settings = NntpdSettings(
        spool=spool,
        host=host,
        port=port,
        groups=tuple(groups) or DEFAULT_GROUPS,
        users={user: read_file(password_file)} if user and password_file else {},
        tls_certificate=tls_cert,
        tls_key=tls_key,
        implicit_tls=not starttls,
        latency=_quantity("--latency", latency, parse_duration),
        max_article=int(_quantity("--max-article", max_article, parse_size)),
        durable=durable,
        faults=_plan(faults),
    )
    _log_to_stderr(common)
    trio.run(_serve, settings)


async def _serve(settings: NntpdSettings) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            running: RunningServer = await nursery.start(serve, settings)
            note(f"usenetfs: news server on {running.host}:{running.port}, spool {settings.spool}")
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


def _address(listen: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[HOST]:PORT`` or ``PORT``."""
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f'--listen {listen}: "{port}" is not a port',
            hint="for example: --listen 127.0.0.1:1119",
        )
    return host.strip("[]") or "127.0.0.1", int(port)


def _quantity(option: str, text: str, parse: Callable[[object], float]) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _plan(file: Path | None) -> FaultPlan:
    if file is None:
        return FaultPlan()
    try:
        return parse_plan(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the fault plan {file}: {error}") from None


def _log_to_stderr(common: Common) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.TextFormatter(logs.Redactor()))
    logger = logging.getLogger("usenetfs")
    logger.addHandler(handler)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(common.verbosity, 2)])
