"""Writes ``article.json`` and ``chain.json`` anew: ``python -m tests.vectors.generate --yes``.

Only for a new version of the format. Vectors of a version that has been released are never changed:
articles of that version are on servers, and these bytes are how a later version knows that it still
reads them.
"""

from __future__ import annotations

import json
import sys

from tests.vectors import chain_cases
from tests.vectors.cases import LOCATOR_COST, VECTORS, compressed, computed
from usenetfs.article.key_file import create_key_file


def main() -> int:
    """Exit status 0 when written, 2 when not asked clearly enough."""
    if sys.argv[1:] != ["--yes"]:
        print(__doc__, file=sys.stderr)
        return 2
    vectors = computed()
    vectors["decode_only"] = compressed()
    vectors["key_file"] = create_key_file(
        bytes.fromhex(vectors["inputs"]["master"]),
        "pässword",
        filesystem_id=bytes.fromhex(vectors["inputs"]["filesystem_id"]),
        name="n",
        cost=LOCATOR_COST,
    ).decode("ascii")
    VECTORS.write_text(json.dumps(vectors, indent=1) + "\n", "ascii")
    chain = {**chain_cases.computed(), "decode_only": chain_cases.decode_only()}
    chain_cases.VECTORS.write_text(json.dumps(chain, indent=1) + "\n", "ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
