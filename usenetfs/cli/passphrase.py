"""Where passphrases come from: file, variable, keyring, terminal, or the parent process's pipe.

Invariant: a passphrase is never in an argument, never in a variable of a child process, and never
printed. A passphrase file may end with one newline, which is not part of it.
"""

from __future__ import annotations

import getpass
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from usenetfs.cli import remembered
from usenetfs.cli.context import Common
from usenetfs.cli.output import note
from usenetfs.errors import UsageError, WrongPassphraseError

PASSPHRASE_VARIABLE: Final = "USENETFS_PASSPHRASE"  # noqa: S105  a name
VAULT_VARIABLE: Final = "USENETFS_VAULT_PASSPHRASE"
SECRET_VARIABLES: Final = (PASSPHRASE_VARIABLE, VAULT_VARIABLE)

_MAX_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class Passphrases:
    """What one command needs to unlock."""

    filesystem: str = field(repr=False)
    vault: str = field(repr=False)
    """The same unless given apart."""

    def to_pipe(self) -> bytes:
        return json.dumps([self.filesystem, self.vault]).encode()

    @classmethod
    def from_pipe(cls, descriptor: int) -> Passphrases:
        with os.fdopen(descriptor, "rb") as pipe:
            filesystem, vault = json.loads(pipe.read(4 * _MAX_FILE))
        return cls(filesystem, vault)


def obtain(
    common: Common, *, prompt: str, filesystem: bool = True, name: str | None = None
) -> Passphrases:
    """The passphrases, from wherever they are given; asks at most once.

    Files and variables come before the keyring, which may have that of the filesystem ``name``.
    ``filesystem`` False: only the vault's is needed.
    """
    vault = given(common.vault_passphrase_file, VAULT_VARIABLE)
    if vault is not None and not filesystem:
        return Passphrases(vault, vault)
    passphrase = given(common.passphrase_file, PASSPHRASE_VARIABLE)
    if passphrase is None:
        account = name if filesystem else remembered.VAULT
        if account is not None:
            passphrase = remembered.recall(common, account)
        if vault is None and filesystem and passphrase is not None:
            vault = remembered.recall(common, remembered.VAULT)
    if passphrase is None:
        passphrase = ask(prompt)
    return Passphrases(passphrase, passphrase if vault is None else vault)


def obtain_new(common: Common, *, prompt: str) -> str:
    """A new passphrase: given, or typed twice alike."""
    passphrase = given(common.passphrase_file, PASSPHRASE_VARIABLE)
    return ask_twice(prompt) if passphrase is None else checked_new(passphrase)


def given(file: Path | None, variable: str) -> str | None:
    """The passphrase from ``file`` or, without one, from ``variable``; None when neither is."""
    if file is not None:
        return read_file(file)
    value = os.environ.get(variable)
    if value == "":
        raise UsageError(
            f"{variable} is set and empty", hint="set it to the passphrase or unset it"
        )
    return value


def read_file(file: Path) -> str:
    """The passphrase in ``file`` (``-``: standard input)."""
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_MAX_FILE + 1)
        else:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                content = opened.read(_MAX_FILE + 1)
            if stat.S_ISREG(mode) and mode & 0o077:
                note(f"usenetfs: warning: {file} can be read by others; close it: chmod 600 {file}")
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"the passphrase file {file} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(
            f"cannot read the passphrase file {file}: {error.strerror}",
            hint="check the path given to --passphrase-file",
        ) from None
    if len(content) > _MAX_FILE:
        raise UsageError(f"the passphrase file {file} is too long")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError(f"the passphrase file {file} is empty")
    return text


def ask(prompt: str) -> str:
    """Ask on the terminal, without echo."""
    if not sys.stdin.isatty():
        raise UsageError(
            "a passphrase is needed and there is no terminal to ask on",
            hint="give --passphrase-file FILE (in fstab: passphrase_file=FILE), "
            f"or set {PASSPHRASE_VARIABLE}",
        )
    typed = getpass.getpass(f"{prompt}: ")
    if not typed:
        raise WrongPassphraseError("the passphrase is empty", hint="type it again")
    return typed


def ask_twice(prompt: str, *, ask_once: Callable[[str], str] = ask) -> str:
    """Ask until two answers are alike, three times at most."""
    for _ in range(3):
        first = checked_new(ask_once(prompt))
        if first == ask_once(f"{prompt}, again"):
            return first
        note("usenetfs: the two differ; once more")
    raise WrongPassphraseError("the passphrases differ", hint="start again")


def checked_new(passphrase: str) -> str:
    """``passphrase``, if it is long enough to protect anything; UsageError otherwise."""
    if len(passphrase) < 8:
        raise UsageError(
            "the passphrase is too short: it protects everything",
            hint="use at least 8 characters; several words are better",
        )
    return passphrase


def with_vault(common: Common, filesystem: str) -> Passphrases:
    """``filesystem``, and the vault's where one is given apart."""
    vault = given(common.vault_passphrase_file, VAULT_VARIABLE)
    return Passphrases(filesystem, filesystem if vault is None else vault)
