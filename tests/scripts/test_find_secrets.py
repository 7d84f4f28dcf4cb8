"""The search for secrets finds them, in every spelling; and a search of nothing is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts import evidence
from scripts.find_secrets import search, spellings
from usenetfs.article.recovery_key import format_recovery_key

PASSPHRASE = 'a "long & winding" passphrase'
MASTER = bytes(range(3, 35))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with something in it, and no secret."""
    monkeypatch.setenv(evidence.VARIABLE, str(tmp_path / "kept"))
    evidence.secret(PASSPHRASE, MASTER, "short")
    evidence.keep("commands", "nothing worth knowing; short")
    return tmp_path / "kept"


@pytest.mark.parametrize("secret", [PASSPHRASE.encode(), MASTER], ids=["text", "octets"])
@pytest.mark.parametrize("number", range(7))
def test_every_spelling_is_found(
    kept: Path, secret: bytes, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(kept) == 0
    evidence.keep("log", b"before \xff " + list(spellings(secret))[number] + b" after")
    assert search(kept) == 1
    said = capsys.readouterr().out
    assert "found: " in said
    assert PASSPHRASE not in said


def test_no_evidence_is_none(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert search(tmp_path / "empty") == 1
    for path in kept.rglob("*.said"):
        path.unlink()
    assert search(kept) == 1


def test_what_commands_are_given_and_say_is_kept(kept: Path) -> None:
    file = kept.parent / "file"
    file.write_text("what is in the file\n")
    environment = {"USENETFS_PASSPHRASE": "from a variable", "USENETFS_PASSPHRASE_FILE": str(file)}
    key = format_recovery_key(MASTER)
    evidence.command(["init", "photos"], environment, f"{key}\n", "the recovery key is above")
    assert search(kept) == 0, "init is there to show it"
    evidence.command(["status", f"--password-file={file}"], environment, "fine", "")
    assert search(kept) == 0
    for leak in ("from a variable", "what is in the file", key, key[:11]):
        size = {path: path.stat().st_size for path in kept.rglob("*.said")}
        evidence.command(["status"], {}, "", f"oh: {leak}")
        assert search(kept) == 1, leak
        for path, octets in size.items():
            os.truncate(path, octets)
    assert search(kept) == 0


def test_logs_are_kept_and_tokens_are_secrets(kept: Path, tmp_path: Path) -> None:
    logs = tmp_path / "data/photos/logs"
    logs.mkdir(parents=True)
    (logs / "upload.log").write_text("posted")
    (logs.parent / "token").write_text("ab" * 32 + "\n")
    (logs / "odd").symlink_to("x" * 300)  # what it names is too long for a name
    evidence.logs(tmp_path / "data")
    assert search(kept) == 0
    (logs / "crash.log.1").write_text("token " + "ab" * 32)
    evidence.logs(tmp_path / "data")
    assert search(kept) == 1


def test_nothing_is_kept_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(evidence.VARIABLE, raising=False)
    evidence.secret(PASSPHRASE)
    evidence.logs(tmp_path)
    evidence.answers(tmp_path)
    evidence.command(["status"], {}, "", "")
    assert list(tmp_path.iterdir()) == []
