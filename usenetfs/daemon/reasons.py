"""Out of a nursery's group of errors, the one that the user should hear of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar, TypeVarTuple

import trio

from usenetfs.errors import UsenetfsError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def run_to_one_end(work: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments) -> T:
    """``trio.run``: the result of ``work``, or the one error that the user should hear of.

    Ctrl-C is taken where ``work`` waits, so that it is left as at any other error.
    """
    try:
        return trio.run(work, *arguments, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise_the_reason(group)


def raise_the_reason(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """The one error that the user should hear of, out of a nursery's group."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        else:
            leaves.append(error)

    collect(group)
    typed = next((leaf for leaf in leaves if isinstance(leaf, UsenetfsError)), leaves[0])
    raise typed from group
