"""A staging area that leaves no descriptor open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.places import (
    descriptors,
    small,
)
from usenetfs.store.staging import Staging


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Staging]:
    before = descriptors()
    with small(tmp_path) as opened:
        yield opened
    assert descriptors() == before
