"""``usenetfs mount``: start the daemon, in the background or here.

In the background: this process checks what can be checked, asks for the passphrase, starts the same
command with ``-f`` in a session of its own, hands it the passphrase through a pipe, and waits on
another pipe for one line of JSON: ready, or the error with its exit status; empty lines before it
say that it gets on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import usenetfs
from usenetfs import lock, mounts
from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.mount_options import MountOptions, format_mount_options, parse_mount_options
from usenetfs.cli.output import error_lines
from usenetfs.cli.passphrase import SECRET_VARIABLES, Passphrases
from usenetfs.cli.view import ViewRequest, fetch_key_file
from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.client import RemoteError
from usenetfs.control.model import ErrorReport
from usenetfs.errors import ConfigurationError, DatabaseError, MountError, UsenetfsError
from usenetfs.options import DaemonOptions

READY_TIMEOUT: Final = 120.0
"""Seconds without a word. Replaying a large staging area takes a while, and downloading an index as
long as it gets on; a daemon that hangs must not hang us."""


def run(
    common: Common,
    name: str,
    mountpoint: Path,
    *,
    foreground: bool,
    options: list[str],
    ready_fd: int | None,
    secrets_fd: int | None,
    at: str | None,
    follow: bool,
) -> None:
    """Mount ``name`` at ``mountpoint``; with ``at`` or ``follow`` a read-only view of it."""
    view = ViewRequest.of(at, follow=follow)
    chosen = parse_mount_options(options)
    if view is not None:
        chosen = replace(chosen, read_only=True, writeback=False)
    if ready_fd is not None:
        _run_reporting(common, name, mountpoint, chosen, view, ready_fd, secrets_fd)
        return
    paths = common.directories.filesystem(name)
    if view is None:
        paths = common.directories.existing(name)
    passphrases: Passphrases | None = None
    if not paths.exists():
        passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
        fetch_key_file(common, paths, passphrases)
    mountpoint = _check(common, _served(paths, view), mountpoint, chosen)
    if passphrases is None:
        passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    if foreground:
        serve(
            common,
            paths,
            mountpoint,
            chosen,
            passphrases,
            view,
            ready=lambda: None,
            foreground=True,
        )
    else:
        _start(common, paths, mountpoint, chosen, passphrases, view)


def _served(paths: FilesystemPaths, view: ViewRequest | None) -> FilesystemPaths:
    """The paths of what is mounted: the filesystem's, or those of a view of it."""
    if view is None:
        if not paths.index.is_file():
            raise DatabaseError(
                f'the keys of "{paths.name}" are here, and no index',
                hint=f"usenetfs recover {paths.name}; or only look: usenetfs mount --follow",
            )
        return paths
    served = paths.view(view.key)
    for folder in (served.data, served.logs, served.staging):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return served


def _check(common: Common, paths: FilesystemPaths, mountpoint: Path, chosen: MountOptions) -> Path:
    """Everything that can be wrong without the passphrase; returns the absolute mount point."""
    if not common.settings.servers:
        raise ConfigurationError(
            "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
        )
    with lock.exclusive(paths.lock, name=paths.name, purpose="about to be mounted"):
        return mounts.prepare_mount_point(
            mountpoint, filesystem=paths.name, allow_other=chosen.allow_other
        )


# --- the daemon's process ------------------------------------------------------------------------


def serve(
    common: Common,
    paths: FilesystemPaths,
    mountpoint: Path,
    chosen: MountOptions,
    passphrases: Passphrases,
    view: ViewRequest | None,
    *,
    ready: Callable[[], None],
    at_work: Callable[[], None] = lambda: None,
    foreground: bool,
) -> None:
    """Unlock and run the daemon; returns when the filesystem is unmounted."""
    from usenetfs import logs
    from usenetfs.cli.unlock import unlock_filesystem, vault_passwords

    unlocked = unlock_filesystem(paths, passphrases)
    paths = _served(paths, view)
    passwords = vault_passwords(common, passphrases)
    purpose = f"mounted on {mountpoint}"
    with lock.exclusive(paths.lock, name=paths.name, purpose=purpose):
        mountpoint = mounts.prepare_mount_point(
            mountpoint, filesystem=paths.name, allow_other=chosen.allow_other
        )
        options = DaemonOptions(
            name=paths.name,
            paths=paths,
            directories=common.directories,
            settings=common.settings,
            filesystem_id=unlocked.filesystem_id,
            master_key=unlocked.master_key,
            passwords=passwords,
            mountpoint=mountpoint,
            ready=ready,
            at_work=at_work,
            read_only=chosen.read_only,
            allow_other=chosen.allow_other,
            writeback=chosen.writeback,
            foreground=foreground,
            debug=chosen.debug,
            noexec=chosen.noexec,
            fsync=chosen.fsync,
            view=None if view is None else view.view,
        )
        secrets = (*options.secrets, passphrases.filesystem, passphrases.vault)
        with logs.running(
            paths.logs, common.settings.log, verbosity=common.verbosity, secrets=secrets
        ):
            from usenetfs.daemon import run_daemon
            from usenetfs.daemon.last_words import last_words

            with last_words(paths.logs):
                run_daemon(options)


def _run_reporting(
    common: Common,
    name: str,
    mountpoint: Path,
    chosen: MountOptions,
    view: ViewRequest | None,
    ready_fd: int,
    secrets_fd: int | None,
) -> None:
    """The background process: as in the foreground, with the parent told how it went."""
    os.set_inheritable(ready_fd, False)  # noqa: FBT003  not by keyword
    told = False

    def tell(message: dict[str, Any]) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(ready_fd, json.dumps(message).encode() + b"\n")
            os.close(ready_fd)

    def get_on() -> None:
        if not told:
            with contextlib.suppress(BrokenPipeError):
                os.write(ready_fd, b"\n")

    try:
        paths = common.directories.existing(name)
        _ = common.settings  # relative paths in it are relative to where the user is
        mountpoint = mountpoint.absolute()
        os.chdir("/")
        passphrases = (
            Passphrases.from_pipe(secrets_fd)
            if secrets_fd is not None
            else passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
        )
        serve(
            common,
            paths,
            mountpoint,
            chosen,
            passphrases,
            view,
            ready=lambda: tell({"ready": True, "pid": os.getpid()}),
            at_work=get_on,
            foreground=False,
        )
    except Exception as error:
        tell(_failure(error))
        raise


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, UsenetfsError):
        report = ErrorReport(error.error_code, error.message, error.hint, error.recoverable)
    else:
        report = ErrorReport("internal", error_lines(error)[0].removeprefix("usenetfs: "))
    return {"ready": False, "error": report.to_json()}


# --- the parent ----------------------------------------------------------------------------------


def _start(
    common: Common,
    paths: FilesystemPaths,
    mountpoint: Path,
    chosen: MountOptions,
    passphrases: Passphrases,
    view: ViewRequest | None,
) -> None:
    ready_read, ready_write = os.pipe()
    secrets_read, secrets_write = os.pipe()
    logs = _served(paths, view).logs
    logs.mkdir(mode=0o700, exist_ok=True)
    command = [
        *(sys.executable, "-P", "-m", "usenetfs"),
        *common.arguments(),
        *("mount", "-f", "--ready-fd", str(ready_write), "--secrets-fd", str(secrets_read)),
        *(() if view is None else view.arguments),
        *("-o", format_mount_options(chosen), "--", paths.name, str(mountpoint)),
    ]
    errors = logs / "daemon.err"
    try:
        with errors.open("wb") as stderr:
            errors.chmod(0o600)
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(),
                pass_fds=(ready_write, secrets_read),
                start_new_session=True,
            )
    finally:
        os.close(ready_write)
        os.close(secrets_read)
    with os.fdopen(secrets_write, "wb") as pipe:
        pipe.write(passphrases.to_pipe())
    answer = _answer(ready_read, child)
    if answer is None:
        raise _died(child, errors)
    if not answer["ready"]:
        child.wait()
        raise RemoteError(ErrorReport.from_json(answer["error"]))
    child.returncode = 0  # it lives on without us; Popen must not warn about that


def _answer(ready: int, child: subprocess.Popen[bytes]) -> Any:
    """The child's one line, or None when it ended without. Ends the child when it hangs."""
    deadline = time.monotonic() + READY_TIMEOUT
    content = b""
    try:
        while not content.endswith(b"\n"):
            left = deadline - time.monotonic()
            if not select.select([ready], [], [], max(left, 0))[0]:
                raise MountError(
                    f"the daemon is not ready, and has not got on for {READY_TIMEOUT:.0f} s",
                    hint="its log may say why; try -f to watch it",
                )
            piece = os.read(ready, 65536)
            if not piece:
                return None
            content = (content + piece).lstrip(b"\n")
            if not content:
                deadline = time.monotonic() + READY_TIMEOUT
    except BaseException:  # also Ctrl-C: a daemon that nobody waited for must not stay
        child.send_signal(signal.SIGTERM)
        raise
    finally:
        os.close(ready)
    return json.loads(content)


def _died(child: subprocess.Popen[bytes], errors: Path) -> MountError:
    status = child.wait()
    ended = f"by signal {-status}" if status < 0 else f"with status {status}"
    last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return MountError(
        f"the daemon ended {ended} before it was ready" + (f": {last[0]}" if last else ""),
        hint=f"see {errors}, or try again with -f",
    )


def _environment() -> dict[str, str]:
    """Ours, without secrets, and such that the same usenetfs is found again."""
    environment = {k: v for k, v in os.environ.items() if k not in SECRET_VARIABLES}
    root = str(Path(usenetfs.__file__).parent.parent)
    others = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p and p != root]
    environment["PYTHONPATH"] = os.pathsep.join([root, *others])
    return environment
