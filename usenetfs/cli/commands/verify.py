"""``usenetfs verify NAME[:/PATH]``: by the daemon of a mount, or here without one."""

from __future__ import annotations

from usenetfs.cli.context import Common
from usenetfs.cli.places import parse_place
from usenetfs.cli.transfers import transfer
from usenetfs.cli.verify_view import VerifyView
from usenetfs.control.requests import VerifyRequest
from usenetfs.errors import UsageError


def run(
    common: Common,
    place: str,
    *,
    data: bool,
    unverified: bool,
    subset: str | None,
    as_json: bool,
) -> None:
    """Ask the servers for what ``place`` rests on."""
    name, path = place, ""
    if ":" in place:
        parsed = parse_place(place)
        name, path = parsed.name, parsed.path
    paths = common.directories.existing(name)
    request = VerifyRequest(
        path=path,
        data=data or unverified or subset is not None,
        unverified=unverified,
        percent=None if subset is None else _percent(subset),
    )
    transfer(common, paths, "/v1/verify", request, VerifyView(name, as_json=as_json))


def _percent(text: str) -> float:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise UsageError(f'"{text}" is no part of a whole', hint="for example: --subset 5%")
    return percent
