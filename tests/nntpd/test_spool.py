"""The spool: what was appended is found, after anything that may happen to the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.errors import DiskFullError, LocalStorageError
from usenetfs.nntpd.spool import Spool

HEAD = b"Message-ID: <%d@x.example>\r\n\r\n"


def _append(spool: Spool, number: int, body: bytes = b"text\r\n.\r\n") -> str:
    spool.append(f"<{number}@x.example>", ["alt.test"], HEAD % number, [body])
    return f"<{number}@x.example>"


def _content(spool: Spool, message_id: str) -> bytes:
    found = spool.find(message_id)
    assert found is not None
    return found.read()


def _segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def test_found_by_id_and_by_number(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        first = _append(spool, 1)
        second = _append(spool, 2, b"other\r\n.\r\n")
        assert len(spool) == 2
        assert first in spool
        assert _content(spool, second) == HEAD % 2 + b"other\r\n.\r\n"
        assert spool.count("alt.test") == 2
        assert spool.count("alt.nothing") == 0
        numbered = spool.by_number("alt.test", 2)
        assert numbered is not None
        assert numbered[0] == second
        assert spool.by_number("alt.test", 3) is None
        assert spool.by_number("alt.test", 0) is None
        assert spool.find("<3@x.example>") is None


def test_reopened_spool_has_all(tmp_path: Path) -> None:
    with Spool(tmp_path, segment_size=2000) as spool:
        for number in range(100):
            _append(spool, number, os.urandom(100).hex().encode() + b"\r\n.\r\n")
        before = [_content(spool, f"<{number}@x.example>") for number in range(100)]
        assert len(_segments(tmp_path)) > 10
    with Spool(tmp_path, segment_size=2000) as spool:
        assert [_content(spool, f"<{number}@x.example>") for number in range(100)] == before
        assert spool.count("alt.test") == 100
        _append(spool, 100)
    with Spool(tmp_path) as spool:
        assert len(spool) == 101


@given(cut=st.integers(1, 700))
def test_torn_end_is_cut_off_and_the_rest_kept(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    with Spool(directory) as spool:
        for number in range(10):
            _append(spool, number, b"x" * 30 + b"\r\n.\r\n")
    (segment,) = _segments(directory)
    size = segment.stat().st_size
    os.truncate(segment, size - cut)
    with Spool(directory) as spool:
        whole = (size - cut) // (size // 10)
        assert len(spool) == whole
        assert segment.stat().st_size == whole * (size // 10)
        _append(spool, 77)
    with Spool(directory) as spool:
        assert len(spool) == whole + 1
        assert _content(spool, "<77@x.example>").endswith(b"text\r\n.\r\n")


@pytest.mark.parametrize("where", [2, 40, 90])
def test_altered_end_is_not_served(tmp_path: Path, where: int) -> None:
    """Power loss may leave a record of the right length with the wrong octets."""
    with Spool(tmp_path) as spool:
        _append(spool, 1)
    (segment,) = _segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[min(where, len(data) - 1)] ^= 1
    segment.write_bytes(data)
    with Spool(tmp_path) as spool:
        assert len(spool) == 0
        _append(spool, 1)
        assert len(spool) == 1


def test_zeros_at_the_end_are_no_article(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        _append(spool, 1)
    (segment,) = _segments(tmp_path)
    with segment.open("ab") as file:
        file.write(bytes(4096))
    with Spool(tmp_path) as spool:
        assert len(spool) == 1


def test_damage_amid_an_older_segment_is_told(tmp_path: Path, expect_log: object) -> None:
    with Spool(tmp_path, segment_size=300) as spool:
        for number in range(10):
            _append(spool, number)
    first, *_ = _segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[0] ^= 1
    first.write_bytes(data)
    assert callable(expect_log)
    expect_log("segment 1: .* damaged")
    with Spool(tmp_path, segment_size=300) as spool:
        assert 0 < len(spool) < 10
        assert first.stat().st_size == len(data), "nothing is cut out of older segments"


def test_one_server_at_a_time(tmp_path: Path) -> None:
    with Spool(tmp_path):
        with pytest.raises(LocalStorageError, match="another news server") as caught:
            Spool(tmp_path)
        assert caught.value.hint
    with Spool(tmp_path):
        pass  # the lock ends with the spool


def test_bound_of_articles(tmp_path: Path) -> None:
    with Spool(tmp_path, max_articles=2) as spool:
        _append(spool, 1)
        _append(spool, 2)
        with pytest.raises(DiskFullError, match="2 articles"):
            _append(spool, 3)
        assert len(spool) == 2


def test_failing_disk_leaves_no_trace(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        _append(spool, 1)
        descriptor = next(iter(spool._descriptors.values()))
        read_only = os.open(tmp_path / "00000001.seg", os.O_RDONLY)
        writable = os.dup(descriptor)
        os.dup2(read_only, descriptor)
        with pytest.raises(DiskFullError, match="cannot be written"):
            _append(spool, 2)
        os.dup2(writable, descriptor)
        os.close(read_only)
        os.close(writable)
        assert "<2@x.example>" not in spool
        _append(spool, 3)
    with Spool(tmp_path) as spool:
        assert len(spool) == 2


def test_shrunk_segment_is_an_error_not_a_short_article(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        message_id = _append(spool, 1)
        os.truncate(_segments(tmp_path)[0], 50)
        with pytest.raises(LocalStorageError, match="shorter"):
            _content(spool, message_id)


def test_unsynced_covers_every_segment_touched(tmp_path: Path) -> None:
    with Spool(tmp_path, segment_size=200) as spool:
        for number in range(4):
            _append(spool, number)
        unsynced = spool.take_unsynced()
        assert len(unsynced.descriptors) == len(_segments(tmp_path))
        unsynced.sync()
        assert not spool.take_unsynced().descriptors
