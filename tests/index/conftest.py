"""An index that is sound when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index import world
from usenetfs.index.index import Index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    with world.create(path) as opened:
        yield opened
        assert opened.check(deep=True) == []
