"""``usenetfs cache``: how much is cached, away with it, and more of it."""

from __future__ import annotations

import shutil

from usenetfs import lock
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.places import parse_place
from usenetfs.config.directories import FilesystemPaths
from usenetfs.config.units import human_size
from usenetfs.config.vault import translated
from usenetfs.control.client import ControlClient
from usenetfs.control.model import CacheReport, DropReport
from usenetfs.errors import DataUnavailableError, NotMountedError


def stat(common: Common, name: str | None, *, as_json: bool) -> None:
    """What the cache holds."""
    paths = _paths(common, name)
    try:
        report = ControlClient(paths.control_socket, name=paths.name).cache()
    except NotMountedError:
        from usenetfs.cli.offline import cache_usage

        articles, octets = cache_usage(paths)
        report = CacheReport(
            articles=articles, bytes=octets, max_bytes=common.settings.cache.max_size
        )
    if as_json:
        say_json(report.to_json())
        return
    say(f"on disk    {human_size(report.bytes)} of {human_size(report.max_bytes)}")
    say(f"articles   {report.articles:,}")
    say(f"in memory  {human_size(report.memory_bytes)} of {human_size(report.memory_max_bytes)}")
    say(f"hits       {report.hits:,} of {report.hits + report.misses:,}")


def drop(common: Common, place: str | None, *, as_json: bool) -> None:
    """Empty the cache, or a part of it; what it held is fetched again when it is read."""
    name, path = _split(place)
    paths = _paths(common, name)
    try:
        report = ControlClient(paths.control_socket, name=paths.name).drop_cache(path)
    except NotMountedError:
        if path is not None:
            raise
        report = _drop_offline(paths)
    if as_json:
        say_json(report.to_json())
    else:
        note(f"{report.articles:,} articles, {human_size(report.bytes)}, were dropped.")


def warm(common: Common, place: str, *, as_json: bool) -> None:
    """Fetch what is missing; DataUnavailableError at the end if some could not be had."""
    name, path = _split(place)
    paths = _paths(common, name)
    report = ControlClient(paths.control_socket, name=paths.name).warm_cache(path or "/")
    if as_json:
        say_json(report.to_json())
    else:
        note(
            f"{report.articles:,} articles are in the cache; {report.fetched:,} of them, "
            f"{human_size(report.bytes)}, were fetched now."
        )
        if report.refused:
            note(
                f"{report.refused:,} found no room: raise cache.max_size, lower cache.min_free, "
                "or free space on the disk."
            )
    if report.failed:
        raise DataUnavailableError(
            f"{report.failed:,} articles could not be had",
            hint=f"see why: usenetfs status {paths.name}",
        )


def _split(place: str | None) -> tuple[str | None, str | None]:
    """The filesystem and, if given, the path in it."""
    if place is None or ":" not in place:
        return place, None
    parsed = parse_place(place)
    return parsed.name, parsed.path


def _drop_offline(paths: FilesystemPaths) -> DropReport:
    from usenetfs.cli.offline import cache_usage

    with lock.exclusive(paths.lock, name=paths.name, purpose="having its cache dropped"):
        articles, octets = cache_usage(paths)
        try:
            if paths.articles.exists():
                shutil.rmtree(paths.articles)
        except OSError as error:
            raise translated(error, f"cannot empty {paths.articles}") from error
    return DropReport(articles=articles, bytes=octets)


def _paths(common: Common, name: str | None) -> FilesystemPaths:
    return common.directories.existing(name) if name else common.directories.only()
