"""The embedded news server: the server role of ``nntp/`` over a spool on disk, with fault plans.

A stand-in for a provider in tests, benchmarks and demonstrations, checked against INN by
``tests/conformance``. It is no public server: no peering, no expiry, no overview.
"""

from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.server import serve
from usenetfs.nntpd.settings import NntpdSettings

__all__ = ["NntpdSettings", "ServerCounters", "serve"]
