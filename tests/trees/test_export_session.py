"""Sessions of downloads: what was noted is there after any crash, and not more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usenetfs.errors import FilesystemBusyError
from usenetfs.trees import export_session
from usenetfs.trees.export_session import ExportSession
from usenetfs.types import BlockNumber, InodeId


def _session(path: Path, source: str = "/a") -> ExportSession:
    return ExportSession(path, source=source, target="/b")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "have", "lost", "failed", "done"]),
        st.sampled_from(["one", "two/three", "\udcff not UTF-8"]),
        st.integers(0, 20),
    ),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cut=st.integers(0, 200))
@example(steps=[("begin", "one", 0), ("begin", "one", 0), ("done", "one", 0)], cut=0)
def test_what_was_noted_comes_back(
    tmp_path: Path, steps: list[tuple[str, str, int]], cut: int
) -> None:
    """Also when the end of the file was torn off: then a beginning of it comes back."""
    path = tmp_path / "session.jsonl"
    path.unlink(missing_ok=True)
    model: dict[str, tuple[int, set[int], set[int]]] = {}
    states = [_frozen(model)]
    with _session(path) as session:
        for step, name, number in steps:
            record = session.find(name)
            if step == "begin" or record is None:
                session.begin(name, InodeId(7), number, 5)
                model[name] = (number, set(), set())
            elif step == "have":
                session.have(record, BlockNumber(number))
                model[name][1].add(number)
                model[name][2].discard(number)
            elif step == "lost":
                session.lost(record, BlockNumber(number))
                model[name][1].discard(number)
            elif step == "failed":
                session.failed(record, BlockNumber(number), "gone")
                model[name][2].add(number)
            else:
                session.done(record)
                del model[name]
            states.append(_frozen(model))
        content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    with _session(path) as session:
        found = {
            name: (record.size, frozenset(_numbers(record)), frozenset(record.failed))
            for name in model.keys() | {"one", "two/three", "\udcff not UTF-8"}
            if (record := session.find(name)) is not None
        }
    assert found == states[-1] if not cut else found in states


def _frozen(
    model: dict[str, tuple[int, set[int], set[int]]],
) -> dict[str, tuple[int, frozenset[int], frozenset[int]]]:
    return {k: (size, frozenset(have), frozenset(bad)) for k, (size, have, bad) in model.items()}


def _numbers(record: export_session.FileRecord) -> list[int]:
    return [number for low, high in record.have for number in range(low, high)]


def test_a_session_that_ended_leaves_nothing(tmp_path: Path) -> None:
    with _session(tmp_path / "downloads" / "s.jsonl") as session:
        session.done(session.begin("a", InodeId(1), 2, 3))
    assert os.listdir(tmp_path / "downloads") == []


def test_one_at_a_time(tmp_path: Path) -> None:
    with _session(tmp_path / "s.jsonl") as session:
        session.begin("a", InodeId(1), 2, 3)
        with pytest.raises(FilesystemBusyError), _session(tmp_path / "s.jsonl"):
            pass
    with _session(tmp_path / "s.jsonl") as session:
        assert session.find("a") is not None


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"[]\n", b'{"version": 9}\n', b"\xff" * 99])
def test_what_is_no_session_is_started_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.jsonl").write_bytes(content)
    with _session(tmp_path / "s.jsonl") as session:
        assert session.find("a") is None
        session.begin("a", InodeId(1), 2, 3)
    with _session(tmp_path / "s.jsonl", source="/other") as session:
        assert session.find("a") is None


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_session, "MAX_BYTES", 10_000)
    with _session(tmp_path / "s.jsonl") as session:
        record = session.begin("a", InodeId(1), 2, 3)
        for number in range(5000):
            session.have(record, BlockNumber(number))
        assert (tmp_path / "s.jsonl").stat().st_size < 12_000
    with _session(tmp_path / "s.jsonl") as session:
        found = session.find("a")
        assert found is not None
        assert found.have.covers(0, 5000)
