"""The control API on a port of this machine, with the web page: off unless ``control.listen``.

Owns the token: 32 random bytes in a file that only its owner can read, kept from mount to mount, so
that what reads metrics need not be told anew. That the port is taken ends nothing: the filesystem
is served, and the status says why there is no page.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import stat
from pathlib import Path

import trio

from usenetfs.config.vault import replace_file
from usenetfs.control.serving import address_of, listen_on, serve_port
from usenetfs.daemon.facade import Facade
from usenetfs.daemon.parts import Parts
from usenetfs.errors import LocalStorageError, UsenetfsError
from usenetfs.options import DaemonOptions

log = logging.getLogger("usenetfs.daemon")


async def serve_web(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
    """Serve until cancelled; return at once where it is off or cannot be."""
    listen = options.settings.control.listen
    if listen is None:
        return
    host, _, port = listen.rpartition(":")
    try:
        token = await trio.to_thread.run_sync(obtain_token, options.paths.token)
        listener = _listen(host.strip("[]"), int(port))
    except UsenetfsError as error:
        log.warning("no web page and no metrics on a port: %s", error)
        parts.errors.report(error)
        return
    address = f"http://{address_of(listener)}/"
    with listener:
        facade.served_at(address)
        log.info("web page and metrics at %s", address)
        try:
            await serve_port(facade, listener, token=token)
        except Exception:  # the mount must live on
            log.exception("a fault of usenetfs ended the web page; the filesystem is served on")
            parts.errors.report(UsenetfsError("internal error: the web page has ended"))
        finally:
            facade.served_at(None)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen_on(host, port)
    except OSError as error:
        raise LocalStorageError(
            f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}",
            hint="another mount or program has the port: set another one in control.listen",
        ) from error


def obtain_token(path: Path) -> str:
    """The token in the file, made if there is none or others could have read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return _new_token(path)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        token = file.read(1024).decode("ascii", "replace").strip()
    if mode & 0o077 or not is_token(token):
        return _new_token(path)
    return token


def is_token(text: str) -> bool:
    """Whether it looks like one of ours."""
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _new_token(path: Path) -> str:
    token = secrets.token_hex(32)
    replace_file(path, token.encode() + b"\n")
    return token
