"""docs/components.md names only modules, tests and scripts that exist.

The map of requirements to code is read by people who want to know what is really there; a row that
points at nothing is worse than no row. Every `path` in backticks that looks like one of the
project's own is looked up; `path::name` also has to find ``def name`` or ``class name`` in it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("docs/components.md", "README.md", "CONTRIBUTING.md")
REFERENCE = re.compile(r"`((?:usenetfs|tests|scripts|docs|\.ci)/[\w./-]*)(?:::(\w+))?`")
ROWS = {f"R{number}" for number in range(1, 21)}


def main() -> int:
    """Print what does not exist; 0 if nothing, 1 otherwise."""
    problems = [problem for name in DOCUMENTS for problem in _problems(name)]
    text = (ROOT / "docs/components.md").read_text()
    rows = set(re.findall(r"^\| (R\d+) \|", text, re.MULTILINE))
    problems += [f"docs/components.md: no row {row}" for row in sorted(ROWS - rows)]
    for problem in problems:
        print(problem)
    return int(bool(problems))


def _problems(document: str) -> list[str]:
    found = []
    for path, name in REFERENCE.findall((ROOT / document).read_text()):
        target = ROOT / path
        if not target.exists():
            found.append(f"{document}: {path} does not exist")
        elif name and not re.search(rf"(?:def|class) {name}\b", target.read_text()):
            found.append(f"{document}: {path} has no {name}")
    return found


if __name__ == "__main__":
    sys.exit(main())
