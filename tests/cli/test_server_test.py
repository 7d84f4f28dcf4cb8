"""``server test`` as a user runs it: against INN with TLS and a login, and the embedded server."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from scripts.private_inn import PrivateInn, free_port
from scripts.world import Endpoint, ServerProcess
from tests.cli.conftest import PASSPHRASE, User
from tests.cli.test_nntpd_command import configuration
from tests.net.test_stream import Certificates
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.config.vault import Vault

GROUP = "alt.binaries.test"


def examined(user: User, *options: str) -> dict[str, Any]:
    done = user.run("server", "test", "main", "--json", *options)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.inn
def test_inn_with_tls_and_a_login(user: User) -> None:
    with tempfile.TemporaryDirectory(prefix="inn.") as folder:
        Path(folder).chmod(0o755)  # INN's own account has to pass
        certificates = Certificates(Path(folder))
        pair = (certificates.certificate, certificates.key)
        vault = Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST)
        vault.set("main", "pass word")
        vault.save()
        with PrivateInn(Path(folder) / "inn", users={"me": "pass word"}, tls=pair) as inn:
            user.configure(
                f'[[servers]]\nname = "main"\nhost = "{inn.host}"\nport = {inn.tls_port}\n'
                f'ca_file = "{certificates.ca_file}"\nusername = "me"\nconnections = 4\n'
                f'[posting]\ngroups = ["{GROUP}"]\n'
            )
            found = examined(user, "--traffic", "80 MB")
            table = user.run("server", "test", "main", "--no-speed")
    assert found["problems"] == []
    assert found["logged_in"] is True
    assert found["tls"]["version"].startswith("TLSv1.")
    assert found["tls"]["sha256"] == certificates.pin
    posting = found["posting"]
    assert posting["message_id"] == "kept"
    assert posting["largest_payload"] == 940_000, "INN takes 1,000,000 octets"
    assert posting["largest_article"] < 1_000_000 < posting["refused_article"]
    assert posting["post_ahead"] in {True, False}
    assert found["pipelining"] == 32
    assert [speed["connections"] for speed in found["speeds"]] == [1, 2, 4]
    assert all(speed["upload"] and speed["download"] for speed in found["speeds"])
    assert found["recommendation"]["posting"] is True
    assert found["bytes_up"] + found["bytes_down"] < 90_000_000
    assert table.exit_code == 0, table.stderr
    for word in ("TLSv1.", "days)", "kept", "Recommended:", "max_pipeline = 32", "block-size"):
        assert word in table.stdout
    assert "at most about" in table.stderr
    assert "pass word" not in table.stdout + table.stderr + json.dumps(found)


def test_a_server_that_is_of_no_use_for_posting(user: User, tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_text("POST always reply code=440 text='Not you'\n")
    with ServerProcess(tmp_path / "server", f"--group={GROUP}", f"--faults={plan}") as server:
        user.configure(configuration(server.endpoint, GROUP))
        done = user.run("server", "test", "main", "--no-speed")
        assert done.exit_code == 16
        assert "440 Not you" in done.stdout
        assert "of no use for that" in done.stderr
        assert user.run("server", "test", "main", "--no-speed", "--no-posting").exit_code == 0


def test_a_server_that_rewrites_ids_is_refused_for_posting(user: User, tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_text("POSTED always rewrite-id\n")
    with ServerProcess(tmp_path / "server", f"--group={GROUP}", f"--faults={plan}") as server:
        user.configure(configuration(server.endpoint, GROUP))
        done = user.run("server", "test", "main", "--no-speed", "--json")
    assert done.exit_code == 16
    found = json.loads(done.stdout)
    assert found["posting"]["message_id"] == "rewritten"
    assert any("Message-IDs" in said for said in found["recommendation"]["warnings"])


def test_mistakes(user: User) -> None:
    nobody = configuration(Endpoint("127.0.0.1", free_port()), GROUP)
    user.configure(nobody)
    for arguments, status, said in (
        (["nobody"], 2, 'there is no server "nobody"'),
        (["main", "--traffic", "much"], 2, "--traffic"),
        (["main", "--traffic", "1 MB"], 2, "even without measuring speed"),
        (["main"], 3, "Connection refused"),
    ):
        done = user.run("server", "test", *arguments)
        assert (done.exit_code, said in done.stderr) == (status, True), done.stderr
    user.configure(nobody.replace(f'"{GROUP}"', ""))
    done = user.run("server", "test", "main")
    assert (done.exit_code, "--group" in done.stderr) == (2, True), done.stderr
