"""Out of a nursery's group of errors, the one that the user should hear of."""

from __future__ import annotations

from typing import NoReturn

from usenetfs.errors import UsenetfsError


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
