"""``doctor``: what it finds on a machine, at servers, and what it advises."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scripts.private_inn import free_port
from scripts.world import Endpoint, ServerProcess
from tests.cli.conftest import PASSPHRASE, User
from tests.cli.test_nntpd_command import configuration
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.cli import doctor_machine, findings
from usenetfs.cli.findings import Finding, Verdict, worst
from usenetfs.config.vault import Vault
from usenetfs.net.checkup import clock_ahead

GROUP = "alt.binaries.test"


def examined(user: User, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the findings by subject."""
    done = user.run("doctor", "--json", *options)
    report = json.loads(done.stdout)
    return done.exit_code, {row["subject"]: row for row in report["findings"]}


@pytest.mark.fuse
def test_all_is_well(user: User, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "server", f"--group={GROUP}") as server:
        user.configure(configuration(server.endpoint, GROUP))
        user.filesystem()
        before = {path: path.stat().st_size for path in server.spool.rglob("*.seg")}
        status, found = examined(user)
        shown = user.run("doctor", "photos")
        after = {path: path.stat().st_size for path in server.spool.rglob("*.seg")}
    assert (status, shown.exit_code) == (0, 0)
    assert {row["verdict"] for row in found.values()} <= {"ok", "warn"}
    for subject in ("fuse", "limits.open_files", "disk.data", "filesystem.photos.keys"):
        assert subject in found
    assert found["server.main.posting"]["verdict"] == "ok"
    assert found["server.main.clock"]["verdict"] == "ok"
    assert "mounting works" in shown.stdout
    assert before == after, "nothing is posted"


def test_what_a_server_refuses(user: User, tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_text(
        "POST always reply code=440 text='Not you'\n"
        "DATE always reply code=111 text='20200101000000'\n"
    )
    with ServerProcess(tmp_path / "server", f"--group={GROUP}", f"--faults={plan}") as server:
        user.configure(configuration(server.endpoint, "alt.nowhere"))
        status, found = examined(user)
        shown = user.run("doctor").stdout
    assert status == 1
    assert "440 Not you" in found["server.main.posting"]["text"]
    assert "alt.nowhere" in found["server.main.groups"]["text"]
    assert "ahead of that of main" in found["server.main.clock"]["text"]
    assert "→ set it by the network" in shown
    assert "things will not work" in shown


def test_servers_that_cannot_be_asked(user: User) -> None:
    here = configuration(Endpoint("127.0.0.1", free_port()), GROUP)
    user.configure(here)
    status, found = examined(user)
    assert status == 1
    assert "main: " in found["server.main.login"]["text"]
    assert found["server.main.login"]["next_step"]
    named = here.replace("tls = false", 'tls = false\nusername = "me"')
    user.configure(named)
    assert "no vault" in examined(user)[1]["vault"]["text"]
    vault = Vault.create(user.directories.vault, "another passphrase", cost=MINIMUM_COST)
    vault.save()
    assert "not the passphrase" in examined(user)[1]["vault"]["text"]
    vault.change_passphrase(PASSPHRASE)
    vault.save()
    found = examined(user)[1]
    assert "usenetfs server add main" in found["server.main.login"]["next_step"]
    user.configure(named.replace("127.0.0.1", "news.example.net"))
    assert "in the clear" in examined(user, "--offline")[1]["server.main.tls"]["text"]


def test_what_is_wrong_here(user: User) -> None:
    assert examined(user, "--offline")[0] == 1, "neither server nor newsgroup"
    user.configure("[cache]\nmax_size = 5 GiB\n")
    found = examined(user, "--offline")[1]
    assert list(found) == ["configuration"]
    assert "is not valid TOML" in found["configuration"]["text"]
    user.configure("")
    paths, _ = user.filesystem()
    paths.key_file.chmod(0o644)
    found = examined(user, "photos", "--offline")[1]
    assert found["filesystem.photos.keys"]["next_step"] == f"close it: chmod go= {paths.key_file}"
    assert user.run("doctor", "nothing").exit_code == 6


def test_fuse_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "fusermount3"
    program.write_text(
        "#!/bin/sh\necho 'fusermount3: mount failed: Operation not permitted' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = doctor_machine.look_at_fuse()
    assert found.verdict is Verdict.FAIL
    assert "mount failed: Operation not permitted" in found.text
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor_machine.look_at_fuse().next_step == "install it: apt install fuse3"


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (findings.judge_open_files(1024, 4096, 20), Verdict.OK),
        (findings.judge_open_files(256, 4096, 20), Verdict.WARN),
        (findings.judge_open_files(256, 256, 20), Verdict.FAIL),
        (findings.judge_space("d", "x", 10**10), Verdict.OK),
        (findings.judge_space("d", "x", 10**9), Verdict.WARN),
        (findings.judge_space("d", "x", 10**7), Verdict.FAIL),
        (findings.judge_clock("s", None), Verdict.OK),
        (findings.judge_clock("s", -2.0), Verdict.OK),
        (findings.judge_clock("s", -300.0), Verdict.WARN),
        (findings.judge_clock("s", 86400.0), Verdict.FAIL),
        (findings.judge_kind_of_disk("ext4"), None),
        (findings.judge_kind_of_disk("tmpfs"), Verdict.WARN),
        (findings.judge_kind_of_disk("fuse.sshfs"), Verdict.WARN),
        (findings.judge_mode("s", "x", "/x", 0o100600), Verdict.OK),
        (findings.judge_mode("s", "x", "/x", 0o100640), Verdict.FAIL),
        (findings.judge_socket_path("/" * 107), None),
        (findings.judge_socket_path("/" * 108), Verdict.FAIL),
    ],
)
def test_judgements(finding: Finding | None, verdict: Verdict | None) -> None:
    assert (None if finding is None else finding.verdict) is verdict
    if finding is not None:
        assert (finding.next_step is None) == (finding.verdict is Verdict.OK)


def test_the_worst_counts() -> None:
    assert worst([]) is Verdict.OK
    assert worst([findings.ok("a", ""), findings.warn("b", "", "")]) is Verdict.WARN


def test_the_servers_clock() -> None:
    now = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert clock_ahead("20260101120000", now) == 29.5
    assert clock_ahead("20260101120030 UTC", now + timedelta(seconds=0.5)) == 0
    assert clock_ahead("", now) is clock_ahead("noon", now) is None
