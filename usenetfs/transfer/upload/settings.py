"""How uploads are to be done: plain values, given once."""

from __future__ import annotations

from dataclasses import dataclass, field

from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.types import Codec


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """``level``: None for the codec's default. ``pack_delay``: seconds that a block may wait for
    others to share its article. ``workers``: batches prepared at once. ``most_posters``: articles
    posted at once, at most; ``posters``: exactly that many, None: found from the speed.
    ``staging_limit``: octets that staging may hold."""

    codec: Codec = Codec.ZSTD
    level: int | None = None
    pack_delay: float = 5.0
    workers: int = 2
    posters: int | None = None
    most_posters: int = 4
    staging_limit: int = 50 << 30
    check: CheckTimes = field(default_factory=CheckTimes)
