"""A clock for tests whose work runs partly in threads."""

from __future__ import annotations

import pytest
from trio.testing import MockClock


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps over sleeps, but only when nothing has happened for 20 ms: threads get their time."""
    return MockClock(autojump_threshold=0.02)
