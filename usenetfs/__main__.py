"""``python -m usenetfs`` is the ``usenetfs`` command."""

from usenetfs.cli.main import main

if __name__ == "__main__":
    main()
