"""The web page: one file of the package, sent as it is, with a policy that names exactly its parts.

The page has no outside resource, so its policy allows none: only the script and the style that are
in it (by their hashes), and requests to where it came from.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources

_PARTS = {part: re.compile(rf"<{part}>(.*?)</{part}>", re.DOTALL) for part in ("script", "style")}


@functools.cache
def page() -> tuple[bytes, str]:
    """The page and its Content-Security-Policy."""
    text = resources.files("usenetfs.control").joinpath("page.html").read_text(encoding="utf-8")
    scripts, styles = (_sources(pattern, text) for pattern in _PARTS.values())
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def _sources(pattern: re.Pattern[str], text: str) -> str:
    digests = [hashlib.sha256(part.encode()).digest() for part in pattern.findall(text)]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
