"""Two private INN servers of which one feeds the other, as news servers do.

Owns the feeding side's configuration: a channel feed to ``innfeed``, which comes from the peer
address, so that the other server takes it for a peer and not for a reader. What is posted to the
first appears on the second after a moment, and never the other way round.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.private_inn import HOST, PEER_ADDRESS, PrivateInn


class FeedingInn(PrivateInn):
    """An INN that offers everything it has to the server at ``peer_port``."""

    def __init__(self, directory: Path, *, peer_port: int) -> None:
        self._peer_port = peer_port
        (directory / "spool" / "innfeed").mkdir(parents=True)
        super().__init__(directory)

    def _files(self, certificates: str) -> dict[str, str]:
        files = super()._files(certificates)
        configuration = files["etc/inn.conf"]
        files["etc/inn.conf"] = configuration.replace(
            "pathhost: inn.test", "pathhost: first.inn.test"
        )
        files["etc/newsfeeds"] = (
            "ME:*,!junk/!local::\n"
            f"innfeed!:!*:Tc,Wnm*:{self._bin / 'innfeed'}\n"
            "second/inn.test:*,!junk,!control/!local:Tm:innfeed!\n"
        )
        files["etc/innfeed.conf"] = (
            "log-file: innfeed.log\n"
            "pid-file: innfeed.pid\n"
            f"backlog-directory: {self.directory / 'spool' / 'innfeed'}\n"
            "initial-connections: 2\n"
            "initial-sleep: 1\n"
            "dynamic-method: 0\n"
            f"peer second {{\n  ip-name: {HOST}\n  port-number: {self._peer_port}\n"
            f"  bindaddress: {PEER_ADDRESS}\n}}\n"
        )
        return files


class InnPair:
    """Both servers below one directory. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.second = PrivateInn(directory / "second")
        self.first = FeedingInn(directory / "first", peer_port=self.second.port)

    def __repr__(self) -> str:
        return f"<InnPair {self.first!r} feeds {self.second!r}>"

    def __enter__(self) -> Self:
        self.second.start()
        try:
            self.first.start()
        except BaseException:
            self.second.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.first.stop()
        self.second.stop()
