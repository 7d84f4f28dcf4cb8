"""What a real mount tells of itself: to commands, programs, Prometheus and the browser."""

from __future__ import annotations

import json
import os
import socket
import stat
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.private_inn import free_port
from scripts.world import Mount, World, wait_until
from tests.e2e.conftest import NAME
from usenetfs.control.endpoints import ENDPOINTS

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(120)]


def configure(world: World, port: int) -> None:
    """Serve on a port as well."""
    with world.config_file.open("a") as file:
        file.write(f'\n[control]\nlisten = "127.0.0.1:{port}"\n')


@pytest.fixture
def port(world: World) -> int:
    """On which the filesystem's daemon will listen."""
    port = free_port()
    configure(world, port)
    return port


@pytest.fixture
def listening(world: World, port: int) -> Mount:
    return world.mount(NAME)


def status_of(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.run("status", NAME, "--json").stdout)
    return found


def get(port: int, path: str, token: str | None) -> bytes:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.readline() if path == "/v1/events" else answer.read()
        return content


def test_one_upload_is_followed_through_status_log_and_metrics(
    world: World, port: int, listening: Mount
) -> None:
    (listening.path / "file").write_bytes(os.urandom(3_000_000))
    listening.sync()
    token_file = world.data_dir / NAME / "token"
    token = token_file.read_text().strip()
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    link = world.run("status", NAME, "--link").stdout.strip()
    assert link == f"http://127.0.0.1:{port}/#token={token}"

    operations = json.loads(get(port, "/v1/operations", token))
    uploads = [each for each in operations["recent"] if each["kind"] == "upload"]
    assert uploads
    assert operations["failed"] == []
    for upload in uploads:
        stages = [stage["stage"] for stage in upload["stages"]]
        assert stages == ["stage", "seal", "queue", "post", "check"]
        assert json.loads(get(port, f"/v1/operations/{upload['id']}", token)) == upload
    log = world.data_dir / NAME / "logs/upload.log"
    wait_until(
        lambda: all(upload["id"] in log.read_text() for upload in uploads), "ids are logged", 10
    )
    assert {"sync", "checkpoint"} <= {each["kind"] for each in operations["recent"]}

    status = status_of(world)
    metrics = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(get(port, "/metrics", token).decode())
        for sample in family.samples
    }
    assert status["files"] == metrics["usenet_files",] == 1
    assert status["upload"]["total_bytes"] == metrics["usenet_upload_bytes_total",] > 3_000_000
    done = next(each["done"] for each in status["operations"] if each["kind"] == "upload")
    assert done == len(uploads) == metrics["usenet_operations_total", "done", "upload"]
    assert metrics["usenet_operation_duration_seconds_count", "upload"] == done
    assert metrics["usenet_request_duration_seconds_count", "write"] > 0
    assert status["uploads"]["blocks_uploaded"] == metrics["usenet_blocks_total", "sent"] >= 5
    assert status["durability"]["seen"]["bytes"] == metrics["usenet_data_bytes", "seen"]
    assert status["process"]["memory_bytes"] > 10_000_000
    assert status["web"] == f"http://127.0.0.1:{port}/"


def test_strangers_are_told_nothing_and_the_token_is_written_nowhere_else(
    world: World, port: int, listening: Mount
) -> None:
    token_file = world.data_dir / NAME / "token"
    wait_until(lambda: bool(status_of(world)["web"]), "it listens", 10)
    token = token_file.read_text().strip()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(port, "/v1/status", None)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(port, "/v1/status", token[::-1])
    assert get(port, "/", None).startswith(b"<!doctype html>")
    assert get(port, "/v1/events", token) == b"event: history\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(port, "/v1/operations/0000-1", token)
    assert token not in world.run("status", NAME, "--json").stdout
    passphrase = world.passphrase_file.read_text().strip().encode()
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET" and "{" not in endpoint.path and endpoint.name != "events":
            answer = get(port, endpoint.path, token)
            assert answer
            assert token.encode() not in answer
            assert passphrase not in answer
    listening.stop()
    for path in world.directory.rglob("*"):
        if path.is_file() and path != token_file:
            assert token.encode() not in path.read_bytes(), path
    listening.start()
    assert token_file.read_text().strip() == token


def test_a_port_that_is_taken_takes_nothing_from_the_mount(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        configure(world, other.getsockname()[1])
        mount = world.mount(NAME)
        (mount.path / "file").write_bytes(b"written")
        wait_until(lambda: bool(status_of(world)["recent_errors"]), "it is said", 10)
        [error] = status_of(world)["recent_errors"]
        assert "cannot listen at 127.0.0.1" in error["message"]
        assert "control.listen" in error["hint"]
        assert status_of(world)["web"] is None
        done = world.run("status", NAME, "--link", check=False)
        assert done.returncode != 0
        assert "[control] listen" in done.stderr
        assert (mount.path / "file").read_bytes() == b"written"
