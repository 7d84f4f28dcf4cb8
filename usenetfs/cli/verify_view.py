"""How a verification is shown: as transfers are, and at the end what was found and what to do.

What is lost is said as it is found. The exit status says the worst: lost before not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usenetfs.cli.output import note
from usenetfs.cli.transfer_view import Event, TransferView, time_left
from usenetfs.config.units import human_duration, human_size
from usenetfs.errors import DataUnavailableError, NetworkError

_DOING = {
    "chain": "asking for checkpoints",
    "counting": "counting",
    "asking": "asking",
    "reading": "fetching",
    "files": "looking for damaged files",
}


class VerifyView(TransferView):
    """A context manager."""

    def __init__(self, name: str, *, as_json: bool = False) -> None:
        super().__init__("verifying", "verified", as_json=as_json)
        self._name = name

    def finish(self) -> None:
        """Say what was found; DataUnavailableError when something is lost, NetworkError when
        something could not be asked for."""
        end = self._end
        if end is None:
            return
        if not self._as_json:
            for line in summary(end):
                note(line)
        articles, chain = end["articles"], end["chain"] or {}
        lost = articles["lost"]
        if lost or "lost" in {chain.get("outcome"), chain.get("keys")}:
            what = f"{lost:,} articles are" if lost else "what a recovery needs is"
            raise DataUnavailableError(f"{what} lost on every server", hint=_advice(end))
        unknown = articles["unknown"]
        if unknown or "unknown" in {chain.get("outcome"), chain.get("keys")}:
            what = f"{unknown:,} articles" if unknown else "what a recovery needs"
            raise NetworkError(
                f"{what} could not be asked for on every server, and no other has it",
                hint=f"nothing is known to be lost; see the servers: usenetfs status {self._name}",
            )

    def _line(self, event: Event) -> str:
        articles = event["articles"]
        parts = [
            f"{articles['done']:,} of {articles['found']:,}{'+' * event['counting']} articles",
            f"{articles['lost']:,} lost",
        ]
        if articles["unknown"]:
            parts.append(f"{articles['unknown']:,} not asked for")
        if time_left(event):
            parts.append(f"{time_left(event)} left")
        return f"{_DOING.get(event['phase'], self._doing)}: {', '.join(parts)}"

    def _lost_line(self, event: Event) -> str:
        cached = "; still in the cache of this machine" if event["cached"] else ""
        return (
            f"lost: {event['path']}: {event['length']:,} bytes at byte {event['offset']:,}: "
            f"{event['reason']}{cached}"
        )

    def _bar(self, event: Event) -> dict[str, Any]:
        articles = event["articles"]
        reading = event["phase"] == "reading"
        return {
            "description": _DOING.get(event["phase"], self._doing),
            "total": None if event["counting"] else max(articles["found"], 1),
            "completed": articles["done"],
            "amount": f"{articles['done']:,}/{articles['found']:,} articles",
            "speed": f"{human_size(event['speed'])}/s" if reading else f"{articles['lost']:,} lost",
            "left": time_left(event),
        }


def summary(end: Event) -> Iterator[str]:
    """What was found, line by line."""
    articles = end["articles"]
    read = end["bytes"]["read"]
    yield (
        f"{articles['done']:,} articles, {human_size(end['bytes']['done'])}, verified in "
        f"{human_duration(end['seconds'])}"
        + (f"; {human_size(read)} fetched" if read else "")
        + "."
    )
    for key, text in (
        ("degraded", "are there, but not on every server"),
        ("fresh", "were posted just now, and are not everywhere yet"),
        ("unknown", "could not be asked for"),
        ("lost", "are lost: no server has them whole"),
    ):
        if articles[key]:
            yield f"  {articles[key]:,} {text}"
    if len(end["servers"]) > 1 or articles["present"] + articles["gone"] < articles["done"]:
        for server in end["servers"]:
            yield f"  {server['name']}: {_counts(server)}"
    if end["not_seen_yet"]:
        yield f"  {human_size(end['not_seen_yet'])} are not seen on a server yet: not asked for"
    yield from _chain(end["chain"])
    lost = end["lost"]
    if articles["lost"]:
        yield (
            f"  {lost['files']:,} damaged files, {human_size(lost['bytes'])} in them"
            if lost["files"]
            else "  no file needs what is lost, as it is now"
        )


def _counts(server: dict[str, Any]) -> str:
    words = (("has", "has"), ("missing", "lacks"), ("damaged", "damages"), ("unasked", "not asked"))
    return ", ".join(f"{word} {server[key]:,}" for key, word in words if server[key])


def _chain(chain: dict[str, Any] | None) -> Iterator[str]:
    if chain is None:
        return
    newest = chain["newest"]
    match chain["outcome"]:
        case "present" | "degraded" if newest is not None:
            yield f"  checkpoint {newest} can be recovered"
        case "lost" | "fresh" if chain["recoverable"] is not None:
            yield f"  checkpoint {newest} cannot be recovered, {chain['recoverable']} can"
        case "lost" | "fresh":
            yield f"  checkpoint {newest} cannot be recovered, nor any before it"
        case _:
            yield (
                "  there is no checkpoint to recover"
                if newest is None
                else ("  whether checkpoints can be recovered is not known")
            )
    if chain["keys"] != "present":
        state = "lost" if chain["keys"] == "lost" else "not known to be there"
        yield f"  the record of the keys, which a recovery begins with, is {state}"
    for problem in chain["problems"]:
        yield f"    {problem}"


def _advice(end: Event) -> str:
    lost = end["lost"]
    if lost["cached"]:
        return (
            "copy what is still in the cache to another place now (usenetfs download); then remove "
            "the damaged files and upload them again: docs/verify.md"
        )
    if lost["files"]:
        return "remove the damaged files, and upload them again from another copy: docs/verify.md"
    return "keep this machine's data directory: its index is whole. docs/verify.md says more"
