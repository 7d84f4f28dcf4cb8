"""The fault plans that the client has to live with, one a kind of fault, and mixtures of them.

``PLANS`` are weather: with them everything arrives, sooner or later. ``DEAD_ENDS`` never let an
upload or a download through: there a clear error has to come out, in bounded time.
"""

from __future__ import annotations

import random
from typing import Final

PLANS: Final[dict[str, str]] = {
    "drop before the reply": "BODY every 9 drop\nSTAT every 7 drop\nPOST every 8 drop",
    "drop after the article": "POSTED every 6 drop",
    "drop amid a body": "BODY every 6 drop-body after=3000",
    "missing for once": "BODY every 6 reply code=430\nSTAT every 3 reply code=430",
    "taken down for once": "BODY every 6 reply code=451",
    "internal fault": "* every 11 reply code=403 text=Fault",
    "feature missing": "BODY every 8 reply code=503\nSTAT every 5 reply code=500",
    "says good-bye": "* every 13 reply code=400 text=Closing",
    "wants a login again": "BODY every 15 reply code=480",
    "kicks out": 'BODY every 15 reply code=502 text="Access denied"',
    "posting off for once": "POST every 5 reply code=440",
    "rejected": 'POSTED every 5 reply code=441 text="437 not today"',
    "closing on an article": "POSTED every 9 reply code=400",
    "stalled body": "BODY every 12 stall seconds=30 times=12",
    "stalled check": "STAT every 12 stall seconds=30 times=12",
    "stalled article": "POSTED every 12 stall seconds=30 times=12",
    "late greeting": "CONNECT every 3 stall seconds=30 times=12",
    "slow drip": "BODY every 12 drip rate=4000 times=30",
    "corrupt": "BODY every 7 corrupt octets=3",
    "truncated": "BODY every 7 truncate after=700",
    "wrong article": "BODY every 7 wrong-article",
    "reply lost": "POSTED every 5 lose-reply",
    "invisible for a while": "POSTED every 4 hide seconds=0.8",
    "silently dropped": "POSTED every 6 discard",
    "id rewritten and told": "POSTED every 3 rewrite-id",
    "id rewritten secretly": "POSTED every 6 rewrite-id tell=no",
    "refused as duplicate": "POSTED every 5 duplicate",
    "too many connections": "CONNECT every 3 too-many times=9",
    "hung up at the greeting": "CONNECT every 4 drop times=6",
    "sessions end after a time": "CONNECT always end seconds=1",
    "sessions vanish after a time": "CONNECT always end seconds=1.2 silent=yes",
    "sessions end after articles": "CONNECT always end articles=7",
    "expired": "BODY every 9 expire times=40",
}

LOSES_ARTICLES: Final = frozenset({"expired"})
"""What is gone stays gone: for these articles a clear error is the right end."""

DEAD_UPLOADS: Final[dict[str, str]] = {
    "no greeting": "CONNECT always drop",
    "full house": "CONNECT always too-many",
    "silent server": "CONNECT always stall seconds=600",
    "no posting": "POST always reply code=440",
    "nothing accepted": "POSTED always reply code=441",
    "no reply to an article": "POSTED always drop",
    "nothing kept": "POSTED always discard",
    "every id rewritten secretly": "POSTED always rewrite-id tell=no",
    "no reply to a check": "STAT always drop",
}

DEAD_DOWNLOADS: Final[dict[str, str]] = {
    "nothing there": "BODY always reply code=430",
    "no body": "BODY always drop",
    "half a body": "BODY always drop-body",
    "silence": "BODY always stall seconds=600",
    "one octet at a time": "BODY always drip rate=1",
    "all corrupt": "BODY always corrupt",
    "all cut short": "BODY always truncate after=100",
    "always another article": "BODY always wrong-article",
    "login for ever": "BODY always reply code=480",
}

DEAD_ENDS: Final = DEAD_UPLOADS | DEAD_DOWNLOADS


def mixture(seed: int, size: int = 3) -> tuple[str, str]:
    """Name and text of the mixture that ``seed`` draws."""
    names = random.Random(seed).sample(sorted(PLANS), size)
    text = "\n".join([f"seed {seed}", *(PLANS[name] for name in names)])
    return f"seed {seed}: {', '.join(names)}", text
