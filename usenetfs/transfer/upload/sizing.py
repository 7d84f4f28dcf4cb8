"""How many articles are posted at once, found from what is measured (R1).

More connections help while each of them mostly waits for the network, and hurt once the server, the
line or this machine is what limits: then they only take turns with each other. Nothing tells which
it is but the speed itself, so the number climbs while speed follows it, and steps back when it does
not; now and then it tries a neighbour, because lines and servers change.

Pure: told of one measured interval at a time, it answers with the number for the next. Intervals in
which the posters ran dry say nothing about posters and are passed over.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

GAIN: Final = 1.10
"""Doubling must bring a tenth, or it is taken back."""

STEP_GAIN: Final = 1.04
"""One more must bring that much to stay."""

STEP_LOSS: Final = 0.98
"""One less may cost that much: fewer connections for nearly the same are better."""

PATIENCE: Final = 6
"""Intervals between two tries of a neighbour."""


def first_workers(processors: int) -> int:
    """Threads that segment, unless configured."""
    return max(1, min(8, processors))


def first_posters(workers: int, most: int) -> int:
    """Uploads at once to begin with: half as many."""
    return max(1, min(workers // 2, most))


class Phase(enum.Enum):
    """``CLIMBING`` → ``SETTLED`` ⇄ ``TRYING_MORE``, ``TRYING_LESS``."""

    CLIMBING = "climbing"
    SETTLED = "settled"
    TRYING_MORE = "trying more"
    TRYING_LESS = "trying less"


@dataclass(slots=True)
class PosterSizing:
    """``size`` is the present number; between 1 and ``most``."""

    size: int
    most: int
    phase: Phase = Phase.CLIMBING
    _base_size: int = field(default=0, init=False)
    """What to go back to."""
    _base_rate: float = field(default=0.0, init=False)
    _quiet: int = field(default=0, init=False)
    _last_try: Phase = field(default=Phase.TRYING_LESS, init=False)

    def limit(self, most: int) -> None:
        """Another upper bound from now on."""
        self.most = max(1, most)
        self.size = min(self.size, self.most)

    def measured(self, rate: float, *, dry: bool) -> int:
        """One interval at ``size`` moved ``rate`` octets a second; the size for the next one.

        ``dry``: posters had to wait for articles.
        """
        if dry or rate <= 0:
            return self.size
        match self.phase:
            case Phase.CLIMBING:
                self._climb(rate)
            case Phase.SETTLED:
                self._rest(rate)
            case Phase.TRYING_MORE | Phase.TRYING_LESS:
                self._judge(rate)
        return self.size

    def _climb(self, rate: float) -> None:
        if self._base_size and rate < self._base_rate * GAIN:
            self.size = self._base_size
            self._settle(self._base_rate)
        elif self.size >= self.most:
            self._settle(rate)
        else:
            self._base_size, self._base_rate = self.size, rate
            self.size = min(self.size * 2, self.most)

    def _settle(self, rate: float) -> None:
        self.phase, self._base_size, self._base_rate = Phase.SETTLED, self.size, rate
        self._quiet = 0

    def _rest(self, rate: float) -> None:
        self._base_rate += (rate - self._base_rate) / 2
        self._quiet += 1
        if self._quiet < PATIENCE:
            return
        turn = Phase.TRYING_MORE if self._last_try is Phase.TRYING_LESS else Phase.TRYING_LESS
        self._last_try = turn
        tried = self.size + 1 if turn is Phase.TRYING_MORE else self.size - 1
        self._quiet = 0
        if 1 <= tried <= self.most:
            self.phase, self._base_size, self.size = turn, self.size, tried

    def _judge(self, rate: float) -> None:
        needed = STEP_GAIN if self.phase is Phase.TRYING_MORE else STEP_LOSS
        if rate < self._base_rate * needed:
            self.size, rate = self._base_size, self._base_rate
            self._settle(rate)
            return
        again = self.phase is Phase.TRYING_MORE
        self._settle(rate)
        if again and self.size < self.most:
            self._quiet = PATIENCE - 1  # it helped: the next one may as well
            self._last_try = Phase.TRYING_LESS
