"""The entry point of the ``usenetfs`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and end it with a documented exit status."""
    from usenetfs.cli.app import app

    # Output that nobody reads (usenetfs ls … | head) ends the command quietly.
    try:
        app(prog_name="usenetfs")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
