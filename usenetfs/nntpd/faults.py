"""Fault plans: which reply goes wrong, and how.

Owns the table of faults, its text form, and the decision for each moment of a session. A plan is
text, one rule a line::

    # where    when        what         how
    seed 7
    BODY       every 10    corrupt
    BODY       p=0.02      drop-body    after=200000
    POSTED     nth 3       lose-reply
    CONNECT    after 20    reply        code=502 text="Too many connections"
    *          p=0.01      stall        seconds=5     times=3

*Where* is a command (``BODY``, ``ARTICLE``, ``HEAD``, ``STAT``, ``POST``, ``IHAVE``, ``GROUP``,
``DATE``, …), ``*`` for any command, ``CONNECT`` (the greeting), or ``POSTED``: an article has
arrived whole and its reply is due. *When* is ``always``, ``nth N`` (the Nth time only), ``every
N``, ``after N`` (each time after the first N) or ``p=P``. ``times=N`` ends a rule after N faults.

Invariants: counting is per rule and over all connections; with equal seeds, equal moments have
equal outcomes (a draw depends on the seed, the rule, the Message-ID and how often that id came,
not on the order in which connections run). Pure: no clock, no I/O. Must not know: sessions.
"""

from __future__ import annotations

import enum
import hashlib
import random
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from usenetfs.errors import ConfigurationError

CONNECT: Final = "CONNECT"
POSTED: Final = "POSTED"
ANY: Final = "*"
MAX_OCCURRENCES: Final = 200_000
"""How many (rule, Message-ID) pairs are remembered; then the counting of these starts anew."""
MAX_TEXT: Final = 400
"""Octets of a reply's text: a status line has 512 at most."""
_BODIES: Final = frozenset({"ARTICLE", "BODY", "HEAD"})
_LOOKUPS: Final = _BODIES | {"STAT"}


class Action(enum.Enum):
    """What goes wrong. The parameters and their defaults stand in ``_PARAMETERS``."""

    DROP = "drop"
    """The connection ends before the reply; at POSTED nothing has been stored."""
    DROP_BODY = "drop-body"
    """The connection ends ``after`` octets of the block."""
    REPLY = "reply"
    """``code`` and ``text`` instead of doing anything; at CONNECT the connection then ends."""
    STALL = "stall"
    """The reply comes ``seconds`` late."""
    DRIP = "drip"
    """The block comes at ``rate`` octets per second."""
    CORRUPT = "corrupt"
    """``octets`` of the block are altered."""
    TRUNCATE = "truncate"
    """The block ends in order after ``after`` octets."""
    WRONG_ARTICLE = "wrong-article"
    """The block of another article."""
    LOSE_REPLY = "lose-reply"
    """The article is stored, and the connection ends before the reply."""
    HIDE = "hide"
    """The article is accepted and cannot be seen for ``seconds``."""
    DISCARD = "discard"
    """The article is accepted and not stored."""
    REWRITE_ID = "rewrite-id"
    """The article is stored under another Message-ID; ``tell=no`` hides that from the reply."""
    DUPLICATE = "duplicate"
    """The article is refused as a duplicate, and not stored."""
    EXPIRE = "expire"
    """The article is gone, from this moment on; at POSTED ``seconds`` later."""
    TOO_MANY = "too-many"
    """502 at the greeting, and the end."""
    END = "end"
    """The session ends ``seconds`` or ``articles`` after the greeting (400, or nothing)."""


_PARAMETERS: Final[dict[Action, dict[str, str]]] = {
    Action.DROP: {},
    Action.DROP_BODY: {"after": "1000"},
    Action.REPLY: {"code": "503", "text": "Fault"},
    Action.STALL: {"seconds": "60"},
    Action.DRIP: {"rate": "10000"},
    Action.CORRUPT: {"octets": "1"},
    Action.TRUNCATE: {"after": "1000"},
    Action.WRONG_ARTICLE: {},
    Action.LOSE_REPLY: {},
    Action.HIDE: {"seconds": "10"},
    Action.DISCARD: {},
    Action.REWRITE_ID: {"tell": "yes"},
    Action.DUPLICATE: {},
    Action.EXPIRE: {"seconds": "0"},
    Action.TOO_MANY: {"text": "Too many connections"},
    Action.END: {"seconds": "0", "articles": "0", "silent": "no"},
}

_ONLY_AT: Final[dict[Action, frozenset[str]]] = {
    Action.DROP_BODY: _BODIES,
    Action.DRIP: _BODIES,
    Action.CORRUPT: _BODIES,
    Action.TRUNCATE: _BODIES,
    Action.WRONG_ARTICLE: _BODIES,
    Action.LOSE_REPLY: frozenset({POSTED}),
    Action.HIDE: frozenset({POSTED}),
    Action.DISCARD: frozenset({POSTED}),
    Action.REWRITE_ID: frozenset({POSTED}),
    Action.DUPLICATE: frozenset({POSTED}),
    Action.EXPIRE: _LOOKUPS | {POSTED},
    Action.TOO_MANY: frozenset({CONNECT}),
    Action.END: frozenset({CONNECT}),
}

COMMANDS: Final = _LOOKUPS | {
    "AUTHINFO",
    "CAPABILITIES",
    "DATE",
    "GROUP",
    "IHAVE",
    "MODE",
    "POST",
    "QUIT",
    "STARTTLS",
}


class When(enum.Enum):
    ALWAYS = "always"
    NTH = "nth"
    EVERY = "every"
    AFTER = "after"
    PROBABILITY = "p"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One line of a plan. ``number`` is N of nth, every, after; ``probability`` that of ``p``.

    Raises :class:`ConfigurationError` when the parts do not go together.
    """

    where: str
    action: Action
    when: When = When.ALWAYS
    number: int = 1
    probability: float = 0.0
    times: int = 0
    """0: without end."""
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        allowed = _ONLY_AT.get(self.action)
        if self.where not in COMMANDS | {ANY, CONNECT, POSTED}:
            raise ConfigurationError(f"fault plan: no such command: {self.where}")
        if allowed is not None and self.where not in allowed | {ANY}:
            places = ", ".join(sorted(allowed))
            raise ConfigurationError(f"fault plan: {self.action.value} can happen at: {places}")
        if self.number < 1 or self.times < 0 or not 0 <= self.probability <= 1:
            raise ConfigurationError(f"fault plan: a number of {self.action.value} is out of range")
        for name, value in self.parameters:
            _check_parameter(self.action, name, value)

    def text(self, name: str) -> str:
        return dict(self.parameters).get(name, _PARAMETERS[self.action][name])

    def value(self, name: str) -> float:
        return float(self.text(name))

    def flag(self, name: str) -> bool:
        return self.text(name) == "yes"

    def applies_at(self, where: str) -> bool:
        if self.where != ANY:
            return self.where == where
        allowed = _ONLY_AT.get(self.action)
        return where in COMMANDS if allowed is None else where in allowed & COMMANDS


def _check_parameter(action: Action, name: str, value: str) -> None:
    default = _PARAMETERS[action].get(name)
    if default is None:
        raise ConfigurationError(f"fault plan: {action.value} takes no {name!r}")
    if name == "text":
        good = value.isprintable() and len(value.encode()) <= MAX_TEXT
    elif default in {"yes", "no"}:
        good = value in {"yes", "no"}
    else:
        try:
            good = 0 <= float(value) < float("inf")
        except ValueError:
            good = False
        if name == "code":
            good = value.isascii() and value.isdigit() and 100 <= int(value) <= 599
    if not good:
        raise ConfigurationError(f"fault plan: {action.value} {name}={value} makes no sense")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The rules, the first that fires wins; ``seed`` settles every draw."""

    rules: tuple[FaultRule, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that fired, with a generator of its own for what it draws further."""

    rule: FaultRule
    random: random.Random = field(compare=False)

    @property
    def action(self) -> Action:
        return self.rule.action


class FaultDecider:
    """A plan at work: counts the moments and says which rule fires."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._seen = [0] * len(plan.rules)
        self._fired = [0] * len(plan.rules)
        self._occurrences: Counter[tuple[int, str]] = Counter()

    def __repr__(self) -> str:
        fired = ", ".join(
            f"{rule.where} {rule.action.value}: {count}"
            for rule, count in zip(self._plan.rules, self._fired, strict=True)
        )
        return f"<FaultDecider {fired or 'no rules'}>"

    def decide(self, where: str, message_id: str = "") -> Fault | None:
        """The fault of this moment. Every rule that applies here counts it, fired or not."""
        chosen: Fault | None = None
        for index, rule in enumerate(self._plan.rules):
            if not rule.applies_at(where):
                continue
            self._seen[index] += 1
            draw = self._generator(index, message_id) if self._needs_draw(rule) else None
            exhausted = rule.times and self._fired[index] >= rule.times
            if chosen is None and not exhausted and self._fires(index, rule, draw):
                self._fired[index] += 1
                chosen = Fault(rule, draw or self._generator(index, message_id))
        return chosen

    @staticmethod
    def _needs_draw(rule: FaultRule) -> bool:
        return rule.when is When.PROBABILITY

    def _fires(self, index: int, rule: FaultRule, draw: random.Random | None) -> bool:
        count = self._seen[index]
        match rule.when:
            case When.ALWAYS:
                return True
            case When.NTH:
                return count == rule.number
            case When.EVERY:
                return count % rule.number == 0
            case When.AFTER:
                return count > rule.number
            case When.PROBABILITY:
                return draw is not None and draw.random() < rule.probability

    def _generator(self, index: int, message_id: str) -> random.Random:
        if len(self._occurrences) >= MAX_OCCURRENCES:
            self._occurrences.clear()
        self._occurrences[index, message_id] += 1
        moment = f"{self._plan.seed} {index} {message_id} {self._occurrences[index, message_id]}"
        digest = hashlib.blake2b(moment.encode(), digest_size=8).digest()
        return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - repeatable, not secret


# --- the text form -------------------------------------------------------------------------------


def parse_plan(text: str) -> FaultPlan:
    """Read a plan; :class:`ConfigurationError` names the line that is wrong."""
    rules: list[FaultRule] = []
    seed = 0
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if words[0].lower() == "seed" and len(words) == 2:
                seed = int(words[1])
            else:
                rules.append(_parse_rule(words))
        except (ConfigurationError, ValueError) as error:
            reason = str(error).removeprefix("fault plan: ")
            raise ConfigurationError(f"fault plan, line {number}: {reason}") from error
    return FaultPlan(tuple(rules), seed)


def _parse_rule(words: Sequence[str]) -> FaultRule:
    if len(words) < 3:
        raise ConfigurationError("a rule is: command, when, action")
    where, rest = words[0].upper(), list(words[1:])
    when, number, probability = _parse_when(rest)
    if not rest:
        raise ConfigurationError("the action is missing")
    name = rest.pop(0)
    try:
        action = Action(name.lower())
    except ValueError:
        known = ", ".join(action.value for action in Action)
        raise ConfigurationError(f"no such action: {name}; there are {known}") from None
    parameters = []
    times = 0
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigurationError(f"{word!r} is not of the form name=value")
        if key == "times":
            times = int(value)
        else:
            parameters.append((key, value))
    if where in {"POST", "IHAVE"} and POSTED in _ONLY_AT.get(action, ()):
        where = POSTED
    return FaultRule(where, action, when, number, probability, times, tuple(parameters))


def _parse_when(words: list[str]) -> tuple[When, int, float]:
    """Take the words of *when* off the front of ``words``."""
    word = words.pop(0).lower()
    if word.startswith("p="):
        return When.PROBABILITY, 1, float(word[2:])
    try:
        when = When(word)
    except ValueError:
        raise ConfigurationError(f"{word!r} is none of always, nth, every, after, p=") from None
    if when is When.PROBABILITY or (when is not When.ALWAYS and not words):
        raise ConfigurationError(f"{word} needs a number")
    return when, 1 if when is When.ALWAYS else int(words.pop(0)), 0.0
