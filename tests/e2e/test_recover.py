"""Everything comes back: another machine, a passphrase or a recovery key, a server account."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.world import COMMAND, PASSPHRASE, ServerProcess, World
from tests.e2e import spools
from tests.e2e.conftest import NAME
from tests.e2e.trees import differences, make_odd_files, rsync_differences
from usenetfs.article.key_file import read_info
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import chain_message_id
from usenetfs.article.recovery_key import parse_recovery_key
from usenetfs.types import MessageId

pytestmark = [pytest.mark.fuse]

ROOT = Path(__file__).parent.parent.parent


class Lost:
    """A filesystem that was mounted, filled and synced on a machine that is gone."""

    def __init__(self, folder: Path, server: ServerProcess, *init: str) -> None:
        self.folder = folder
        self.server = server
        self.world = World(folder / "w", server.endpoint)
        made = json.loads(self.world.run("init", NAME, "--json", *init).stdout)
        self.recovery_key: str = made["recovery_key"]
        key_file = (self.world.data_dir / NAME / "keys.json").read_bytes()
        self.filesystem_id = read_info(key_file).filesystem_id
        self.original = folder / "original"
        self.original.mkdir()
        self.keys = KeySet.from_master(parse_recovery_key(self.recovery_key), self.filesystem_id)

    def fill(self) -> None:
        """Copy the odd tree in, in two checkpoints."""
        make_odd_files(self.original / "odd")
        mount = self.world.mount(NAME)
        subprocess.run(["cp", "-a", self.original / "odd", mount.path], check=True)
        mount.sync()
        (self.original / "late").write_text("written later")
        subprocess.run(["cp", "-a", self.original / "late", mount.path], check=True)
        shutil.copystat(self.original, mount.path)
        mount.stop()

    def change(self, times: int) -> None:
        """Go on changing things, with a checkpoint after each."""
        mount = self.world.mount(NAME)
        for number in range(times):
            (self.original / f"file {number}").write_text(f"content {number}" * 1000)
            (self.original / "late").write_text(f"changed {number} times")
            (self.original / "odd" / f"size-{number}").unlink(missing_ok=True)
            exact = ("rsync", "-aHX", "--delete", "--modify-window=-1")
            subprocess.run([*exact, f"{self.original}/", f"{mount.path}/"], check=True)
            mount.sync()
        mount.stop()

    def burn(self) -> None:
        """The machine burns: data and caches are gone. (Its configuration is typed in again.)"""
        shutil.rmtree(self.world.data_dir)
        shutil.rmtree(self.world.cache_dir, ignore_errors=True)

    def recover(self, *options: str | Path, stdin: str | None = None) -> dict[str, object]:
        done = self.world.run(
            "recover", NAME, "--yes", "--json", *options, stdin=stdin, timeout=120
        )
        answer: dict[str, object] = json.loads(done.stdout)
        answer["said"] = done.stderr
        return answer

    def check(self) -> None:
        """Mounted again, everything is as it was."""
        mount = self.world.mount(NAME)
        assert differences(self.original, mount.path) == []
        assert rsync_differences(self.original, mount.path) == ""
        (mount.path / "new").write_text("it can be written to")
        mount.sync()
        mount.stop()


@pytest.fixture
def lost(folder: Path, embedded: ServerProcess) -> Iterator[Lost]:
    made = Lost(folder, embedded)
    with made.world:
        made.fill()
        yield made


def test_from_the_passphrase_alone(lost: Lost) -> None:
    lost.burn()
    answer = lost.recover()
    assert answer["lost"] == []
    assert "files in" in str(answer["said"])
    lost.check()


def test_from_the_recovery_key_with_a_new_passphrase(lost: Lost) -> None:
    lost.burn()
    key = lost.folder / "key"
    key.write_text(lost.recovery_key.lower().replace("-", " ") + "\n")
    key.chmod(0o600)
    lost.world.passphrase_file.write_text("another passphrase than before\n")
    lost.recover("--recovery-key-file", key)
    lost.check()
    lost.burn()
    lost.recover()  # the new passphrase is enough from now on
    lost.world.passphrase_file.write_text(PASSPHRASE + "\n")
    lost.world.run("key", "show-recovery", NAME, check=False)


def test_a_passphrase_that_leads_nowhere(lost: Lost) -> None:
    lost.burn()
    lost.world.passphrase_file.write_text("not the passphrase at all\n")
    done = lost.world.run("recover", NAME, "--yes", check=False)
    assert done.returncode == 6
    assert "either may be mistyped, or there is no such filesystem" in done.stderr
    assert not (lost.world.data_dir / NAME).exists()


def test_a_changed_passphrase(lost: Lost) -> None:
    new = lost.folder / "new"
    new.write_text("a much better passphrase\n")
    new.chmod(0o600)
    said = lost.world.run("key", "change-passphrase", NAME, "--new-passphrase-file", new).stderr
    assert "who knows" in said
    lost.burn()
    old = lost.world.run("recover", NAME, "--yes", check=False)
    assert old.returncode == 13
    assert "was changed since" in old.stderr
    shutil.copy(new, lost.world.passphrase_file)
    lost.recover()
    lost.check()


def test_nothing_is_replaced_without_being_asked(lost: Lost) -> None:
    before = {path.name for path in (lost.world.data_dir / NAME).iterdir()}
    refused = lost.world.run("recover", NAME, check=False)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "already" in refused.stderr
    after = {path.name for path in (lost.world.data_dir / NAME).iterdir()}
    # The index was asked which checkpoint it knows: whoever only reads may not remove SQLite's own.
    assert after - {"index.db-wal", "index.db-shm"} == before
    lost.recover()
    kept = list(lost.world.data_dir.glob(f".{NAME}.replaced-*"))
    assert len(kept) == 1
    assert (kept[0] / "index.db").exists()
    lost.check()


def test_killed_at_any_moment_it_loses_nothing_and_can_be_run_again(lost: Lost) -> None:
    place = lost.world.data_dir / NAME
    for delay in (0.5, 1.5, 2.0, 2.5, 3.0, 4.0):
        process = subprocess.Popen(
            [str(COMMAND), "recover", NAME, "--yes"],
            env=lost.world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
        kept = [place, *lost.world.data_dir.glob(f".{NAME}.replaced-*")]
        assert any((folder / "index.db").exists() for folder in kept)
    lost.recover()
    lost.check()


def test_the_machine_that_wrote_before_is_shut_out(lost: Lost, folder: Path) -> None:
    old = lost.world.mount(NAME)
    with World(folder / "o", lost.server.endpoint) as other:
        other.run("recover", NAME, "--yes", timeout=120)
        new = other.mount(NAME)
        (new.path / "by the new one").write_text("new")
        new.sync()
        (old.path / "by the old one").write_text("old")
        done = lost.world.run("sync", NAME, check=False)
        assert done.returncode != 0
        status = json.loads(lost.world.run("status", NAME, "--json").stdout)
        assert status["checkpoint"]["fenced"]
        with pytest.raises(OSError, match="Read-only"):
            (old.path / "more").write_text("x")
        (new.path / "more").write_text("it goes on")
        new.stop()
        again = other.mount(NAME)
        assert (again.path / "by the new one").read_text() == "new"
        assert not (again.path / "by the old one").exists()
        again.stop()


def test_while_the_machine_that_wrote_before_goes_on_writing(lost: Lost, folder: Path) -> None:
    """It publishes a newer state while the older one is being put into place."""
    old = lost.world.mount(NAME)
    with World(folder / "o", lost.server.endpoint) as other:
        place = other.data_dir / NAME / "index.db"
        synced = -1

        def write() -> None:
            nonlocal synced
            for number in itertools.count():
                with contextlib.suppress(OSError):  # read-only
                    (old.path / "counter").write_text(str(number))
                if lost.world.run("sync", NAME, check=False).returncode == 0:
                    synced = number
                if place.exists():
                    break

        writer = threading.Thread(target=write)
        writer.start()
        done = other.run("recover", NAME, "--yes", check=False, timeout=120)
        writer.join()
        assert done.returncode == 0, done.stderr
        # what was built and overtaken holds nothing that anybody would look for
        assert list(other.data_dir.glob(f".{NAME}.*")) == []
        new = other.mount(NAME)
        assert int((new.path / "counter").read_text()) >= synced >= 0
        with contextlib.suppress(OSError):  # where it was noticed already
            (old.path / "late").write_text("too late")
        assert lost.world.run("sync", NAME, check=False).returncode != 0
        status = json.loads(lost.world.run("status", NAME, "--json").stdout)
        assert status["checkpoint"]["fenced"]
        new.stop()


# --- losses --------------------------------------------------------------------------------------


def chain_articles(lost: Lost) -> list[list[MessageId]]:
    """Message-IDs of the chain's records: by checkpoint, of the copies that are there."""
    there = set(spools.message_ids(lost.server.spool))
    done = lost.world.run("checkpoints", NAME, "--count", "0", "--json")
    found = []
    for checkpoint in json.loads(done.stdout):
        ids = [
            chain_message_id(lost.keys.chain_key, checkpoint["number"], copy) for copy in range(6)
        ]
        found.append([wanted for wanted in ids if wanted in there])
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_a_tenth_of_the_chain_gone(lost: Lost, seed: int) -> None:
    lost.change(12)
    articles = [wanted for copies in chain_articles(lost) for wanted in copies]
    assert len(articles) > 30
    gone = random.Random(seed).sample(range(len(articles) - 2), len(articles) // 10)
    delete(lost.server, [articles[number] for number in gone])
    lost.burn()
    lost.recover()
    lost.check()


def delete(server: ServerProcess, articles: Sequence[str]) -> None:
    """Out of the spool, with the server stopped."""
    server.stop()
    assert spools.remove(server.spool, articles) == len(articles)
    server.start()


def test_the_newest_checkpoint_gone(lost: Lost) -> None:
    former = json.loads(lost.world.run("checkpoints", NAME, "--json").stdout)
    mount = lost.world.mount(NAME)
    (mount.path / "newest").write_text("only in what will be lost" * 1000)
    mount.stop()
    newest = [
        wanted
        for number, copies in enumerate(chain_articles(lost))
        for wanted in copies
        if number > former[-1]["number"]
    ]
    delete(lost.server, newest)
    asked = lost.world.run("recover", NAME, check=False)
    assert "the servers have lost it, or hide it" in asked.stderr
    lost.burn()
    answer = lost.recover()
    assert "a newer one was lost" in str(answer["said"])
    assert answer["checkpoint"] == former[-1]["number"]
    lost.check()


def test_a_newest_checkpoint_that_is_there_and_damaged(lost: Lost) -> None:
    newest = chain_articles(lost)[-1]
    lost.server.stop()
    assert spools.damage(lost.server.spool, newest) == len(newest)
    lost.server.start()
    lost.burn()
    answer = lost.recover()
    assert "is there and cannot be read" in str(answer["said"])
    assert answer["checkpoint"] < answer["newest"]  # type: ignore[operator]


def test_another_article_under_the_id_of_the_newest_checkpoint(lost: Lost) -> None:
    """The only server has something else, whole, where both copies of the record should be."""
    *_, before, newest = chain_articles(lost)
    lost.server.stop()
    others: dict[str, str] = dict(zip(newest, before, strict=False))
    assert spools.exchange(lost.server.spool, others) == 2
    lost.server.start()
    lost.burn()
    answer = lost.recover()
    assert "is there and cannot be read" in str(answer["said"])
    assert answer["checkpoint"] < answer["newest"]  # type: ignore[operator]


def test_the_single_file_reader(lost: Lost, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    command = [
        sys.executable,
        str(ROOT / "scripts" / "recover_standalone.py"),
        *(NAME, str(target), "--host", lost.server.endpoint.host),
        *("--port", str(lost.server.endpoint.port)),
    ]
    done = subprocess.run(
        [*command, "--passphrase-file", str(lost.world.passphrase_file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert differences(lost.original, target) == []
    delete(lost.server, [copies[0] for copies in chain_articles(lost)])
    key = tmp_path / "key"
    key.write_text(lost.recovery_key)
    shutil.rmtree(target)
    subprocess.run([*command, "--recovery-key-file", str(key)], check=True, timeout=100)
    assert differences(lost.original, target) == []
