"""Log files by component, without secrets."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs import logs
from usenetfs.config.models import LogSection
from usenetfs.errors import AuthenticationError, DatabaseError, LocalStorageError
from usenetfs.journal import datagram, is_journal
from usenetfs.tracker import Kind, Tracker

SECRETS = ("hunter2hunter2", 'quo"te\\d pass', "päss wörd")
RECOVERY_KEY = "-".join(["H4BHK"] * 13)


@pytest.fixture(autouse=True)
def _levels_are_restored() -> Iterator[None]:
    before = logging.getLogger("usenetfs").level
    yield
    assert logging.getLogger("usenetfs").level == before
    assert logging.getLogger("usenetfs").handlers == []


def read(directory: Path) -> dict[str, str]:
    return {file.stem: file.read_text() for file in directory.glob("*.log")}


def test_each_component_has_its_file_and_level(tmp_path: Path) -> None:
    with logs.running(tmp_path, LogSection()):
        for name in (*logs.COMPONENTS, "net", "daemon"):
            logger = logging.getLogger(f"usenetfs.{name}.part")
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                logger.log(level, "about %s", name)
    counts = {name: text.count("\n") for name, text in read(tmp_path).items()}
    assert counts == {
        "upload": 3,
        "download": 3,
        "security": 2,
        "database": 1,
        "performance": 4,
        "daemon": 6,
    }


def test_a_line_of_text(tmp_path: Path) -> None:
    with logs.running(tmp_path, LogSection()):
        logging.getLogger("usenetfs.upload").info("two\nlines, %d", 5)
    line = (tmp_path / "upload.log").read_text()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO usenetfs\.upload: two\\nlines, 5\n"
    assert re.fullmatch(pattern, line)


def test_a_line_of_json(tmp_path: Path) -> None:
    with logs.running(tmp_path, LogSection(format="json"), secrets=SECRETS):
        logger = logging.getLogger("usenetfs.upload")
        logger.info("it is %s", SECRETS[1], extra={"bytes": 7, "who": SECRETS[0]})
    entry = json.loads((tmp_path / "upload.log").read_text())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "INFO",
        "logger": "usenetfs.upload",
        "message": "it is [redacted]",
        "bytes": 7,
        "who": "[redacted]",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_written(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = LogSection.model_validate({"format": form})
    with logs.running(tmp_path, settings, verbosity=2, secrets=SECRETS):
        logger = logging.getLogger("usenetfs.security")
        for secret in SECRETS:
            logger.error("login failed: %r, %s", secret, secret)
            logger.error("as JSON: %s", json.dumps({"x": secret}))
            try:
                raise ValueError(f"cannot use {secret}")
            except ValueError:
                logger.exception("it failed")
        logger.error("sent AUTHINFO PASS whatever it was")
        logger.error("settings: password='not known' passphrase: alsonot, token=abc")
        logger.error("news://me:unknownpass@host/ and %s", RECOVERY_KEY)
    written = (tmp_path / "security.log").read_text()
    shown = capsys.readouterr().err
    assert written.count("it failed") == shown.count("it failed") == len(SECRETS)
    assert "Traceback" in written
    for text in (written, shown):
        for secret in (*SECRETS, "whatever", "not known", "alsonot", "unknownpass", RECOVERY_KEY):
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text


@given(st.text(min_size=4, max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_known_secret_never_passes(secret: str, before: str, after: str) -> None:
    redactor = logs.Redactor([secret])
    text = redactor(before + secret + after)
    assert secret not in text or secret in logs.REDACTED


def test_stderr_follows_verbosity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verbosity, expected in ((0, []), (1, ["INFO"]), (2, ["DEBUG", "INFO"])):
        with logs.running(tmp_path, LogSection(), verbosity=verbosity):
            logging.getLogger("usenetfs.database").debug("d")
            logging.getLogger("usenetfs.database").info("i")
        assert re.findall(r"DEBUG|INFO", capsys.readouterr().err) == expected
    assert (tmp_path / "database.log").read_text() == ""


def test_files_rotate_and_are_private(tmp_path: Path) -> None:
    with logs.running(tmp_path / "logs", LogSection(max_size=65536, backups=2)):
        for _ in range(300):
            logging.getLogger("usenetfs.upload").info("x" * 1000)
    files = sorted((tmp_path / "logs").glob("upload.log*"))
    assert [file.name for file in files] == ["upload.log", "upload.log.1", "upload.log.2"]
    assert all(file.stat().st_size <= 65536 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


def test_a_warning_of_a_library_is_kept(tmp_path: Path) -> None:
    with logs.running(tmp_path, LogSection()):
        logging.getLogger("some.library").warning("take care")
    assert "take care" in (tmp_path / "daemon.log").read_text()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LocalStorageError, match="cannot log into"),
        logs.running(tmp_path / "file", LogSection()),
    ):
        raise AssertionError("not reached")


def test_errors_of_security_and_of_the_database_are_in_their_files_too(tmp_path: Path) -> None:
    with logs.running(tmp_path, LogSection()):
        pool, upload = logging.getLogger("usenetfs.net"), logging.getLogger("usenetfs.upload")
        pool.warning("%s is given up: %s", "news", AuthenticationError("481 not you"))
        pool.info("a connection ended: %s", AuthenticationError("only told"))
        upload.warning("cannot be written down: %s", DatabaseError("the disk is full"))
        try:
            raise DatabaseError("database disk image is malformed")
        except DatabaseError:
            upload.exception("it failed")
    texts = read(tmp_path)
    assert texts["security"].count("\n") == 1
    assert "WARNING usenetfs.net: news is given up: 481 not you" in texts["security"]
    assert "the disk is full" in texts["database"]
    assert "malformed" in texts["database"]
    assert "481 not you" in texts["daemon"]
    assert texts["upload"].count("the disk is full") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_names_the_operation_that_it_belongs_to(tmp_path: Path, form: str) -> None:
    tracker = Tracker()
    with logs.running(tmp_path, LogSection.model_validate({"format": form})):
        with tracker.track(Kind.UPLOAD, "an article") as operation:
            logging.getLogger("usenetfs.upload").info("posted")
            logging.getLogger("usenetfs.net").info("answered")
        logging.getLogger("usenetfs.upload").info("nobody's")
    texts = read(tmp_path)
    assert texts["upload"].count(operation.id) == texts["daemon"].count(operation.id) == 1
    if form == "text":
        assert f"INFO usenetfs.upload [{operation.id}]: posted" in texts["upload"]
    else:
        assert json.loads(texts["upload"].splitlines()[0])["operation"] == operation.id


def test_under_systemd_the_journal_has_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "journal")
    state = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
    monkeypatch.setattr("usenetfs.journal.SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(address)
        journal.settimeout(5)
        with logs.running(tmp_path / "photos/logs", LogSection(), secrets=SECRETS):
            logging.getLogger("usenetfs.upload").error("two\nlines with %s", SECRETS[0])
            logging.getLogger("usenetfs.upload").debug("too fine")
        message = b"two\nlines with [redacted]"
        assert journal.recv(65536) == (
            b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n"
            b"PRIORITY=3\nSYSLOG_IDENTIFIER=usenetfs\nLOGGER=usenetfs.upload\n"
            b"USENETFS_FILESYSTEM=photos\n"
        )
        journal.settimeout(0)
        with pytest.raises(BlockingIOError):
            journal.recv(65536)
    with logs.running(tmp_path / "photos/logs", LogSection()):
        logging.getLogger("usenetfs.upload").info("the journal is gone, and nobody minds")


def test_what_goes_to_the_journal() -> None:
    assert not is_journal(2, {})
    assert not is_journal(2, {"JOURNAL_STREAM": "8:1234"})
    assert not is_journal(10_000, {"JOURNAL_STREAM": "8:1234"})
    assert datagram({"A": "b", "C": ""}) == b"A=b\n"
