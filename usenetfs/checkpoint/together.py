"""Several calls at once, of which the first error counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from usenetfs.errors import UsenetfsError


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """All at once; the first typed error alone, if that is what ended them."""
    try:
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)
    except BaseExceptionGroup as group:
        typed, others = group.split(UsenetfsError)
        if typed is None or others is not None:
            raise
        raise _first(typed) from group


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
