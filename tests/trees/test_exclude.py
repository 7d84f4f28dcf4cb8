"""Patterns of --exclude: rsync is the judge where it is simple, a table where it is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usenetfs.trees.exclude import Exclude

PATHS = ["a", "b.pyc", "d/", "d/a", "d/b.pyc", "d/d/", "d/d/a", "d/d/c[1]", "e/", "e/ab", "e/*"]


PATTERNS = r"""
    a  /a  *.pyc  d/  /d/a  d/a  d/*  **/a  [ab]  [!a]b  ?  a?  \*  d/d
    c[[]1]  e/**  [a-c]*  /d/*/a  *  nothing  /d/**/a  d/**
"""


@pytest.mark.parametrize("pattern", PATTERNS.split())
def test_as_rsync_does(tmp_path: Path, pattern: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for path in PATHS:
        (top / path).mkdir() if path.endswith("/") else (top / path).touch()
    listed = subprocess.run(
        ["rsync", "-rn", "--out-format=%n", f"--exclude={pattern}", f"{top}/", f"{tmp_path}/no"],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {line for line in listed.stdout.splitlines() if line != "./"}
    assert _kept(Exclude([pattern])) == theirs


def _kept(exclude: Exclude) -> set[str]:
    kept: set[str] = set()
    for path in PATHS:
        name, directory = path.rstrip("/"), path.endswith("/")
        above = name.rpartition("/")[0]
        if above and above + "/" not in kept:
            continue
        if not exclude(name.encode(), directory=directory):
            kept.add(path)
    return kept


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(pattern=st.text(alphabet="ab/*?[]!^-\\é", max_size=12), path=st.binary(max_size=12))
@example(pattern="[?[-?-/]", path=b"")
def test_no_pattern_fails(pattern: str, path: bytes) -> None:
    exclude = Exclude([pattern])
    assert exclude(path, directory=True) in {True, False}


@given(name=st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name))
def test_a_name_taken_literally_matches_itself_alone(name: bytes) -> None:
    literal = "".join(
        f"\\{c}" if c in "*?[]\\" else c for c in name.decode("utf-8", "surrogateescape")
    )
    exclude = Exclude([literal])
    assert exclude(name, directory=False)
    assert exclude(b"x/" + name, directory=False)
    assert not exclude(name + b"y", directory=False)
