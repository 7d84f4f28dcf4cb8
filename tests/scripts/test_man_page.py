"""The manual page says what the commands say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from scripts import man_page
from usenetfs.cli.app import app


def test_the_page_is_up_to_date() -> None:
    assert man_page.main(["--check"]) == 0


def test_every_command_and_option_is_in_it() -> None:
    page = man_page.page()
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for below in getattr(command, "commands", {"": command}):
            assert f'.SS "{f"{name} {below}".strip()}'.replace("-", "\\-") in page
    for option in ("\\-\\-passphrase\\-file", "\\-\\-read\\-only", "\\-\\-group", "\\-\\-json"):
        assert option in page
    assert "ready\\-fd" not in page, "hidden options stay hidden"


def test_roff_has_no_complaints() -> None:
    formatter = shutil.which("groff") or shutil.which("man")
    assert formatter, "man-db or groff is installed with the system"
    command = (
        [formatter, "-man", "-Tutf8", "-ww", "-z", str(man_page.PAGE)]
        if formatter.endswith("groff")
        else [formatter, "--warnings", "-l", str(man_page.PAGE)]
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_page_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = Path(f"{tmp_path}/man/usenetfs.1")
    monkeypatch.setattr(man_page, "PAGE", stale)
    assert man_page.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert man_page.main([]) == man_page.main(["--check"]) == 0
