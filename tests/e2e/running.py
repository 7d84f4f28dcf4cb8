"""Commands that are interrupted."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from scripts.world import COMMAND, World


class Running:
    """A command of usenetfs under way."""

    def __init__(self, world: World, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def end(self, number: signal.Signals) -> int:
        """Send the signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.finish()[0]

    def finish(self) -> tuple[int, str]:
        """Wait for it; the exit status and all it said."""
        said = self.process.communicate(timeout=60)[0]
        return self.process.returncode, said.decode()
