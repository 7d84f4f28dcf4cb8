"""Log files by component, without secrets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs import logs
from usenetfs.config.models import LogSection
from usenetfs.errors import LocalStorageError

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
