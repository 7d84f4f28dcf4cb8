"""``usenetfs server``: add, list and remove news servers.

A server is an entry of the user's configuration file, and its password one of the vault. The file
is edited as text, so that what people wrote stays as they wrote it, and validated before it
replaces the old one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usenetfs.article.passphrase import Argon2Cost
from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import console, note, say_json
from usenetfs.config.loader import validate
from usenetfs.config.models import ServerSection
from usenetfs.config.sources import file_layer, user_config_file
from usenetfs.config.toml_lines import locate_keys
from usenetfs.config.vault import Vault, replace_file
from usenetfs.errors import ConfigurationError, UsageError


def add(
    common: Common,
    name: str,
    given: dict[str, Any],
    *,
    password_file: Path | None,
    groups: Sequence[str] = (),
) -> None:
    """Add the server ``name`` with the keys ``given``; of a known one, only store the password.

    ``groups`` become the newsgroups to post to, where none is configured yet.
    """
    known = _find(common, name)
    if known is None and "host" not in given:
        raise UsageError(
            f'server "{name}" is not configured yet', hint="say where it is: --host HOST"
        )
    if known is not None and given:
        raise UsageError(
            f'server "{name}" is configured already',
            hint=f"edit {_config_file(common)}, or remove it first: usenetfs server remove {name}",
        )
    username = known.username if known is not None else given.get("username")
    if username is None and (password_file is not None or known is not None):
        raise UsageError(
            f'server "{name}" has no user name, so it takes no password',
            hint="give --username NAME",
        )
    before = text = _read(_config_file(common))
    if groups:
        text = _with_groups(common, text, groups)
    if known is None:
        text += _entry({"name": name, **given}, text)
    if text != before:
        _check(common, text)
    if username is not None:
        _store_password(common, name, username, password_file)
    if text != before:
        replace_file(_config_file(common), text.encode())
    if known is None:
        note(f"Server {name} added to {_config_file(common)}.")
        if not groups and not common.settings.posting.groups:
            note('Still to say: newsgroups to post to, [posting] groups = ["…"] in that file.')
        else:
            note("Next: usenetfs init NAME, which also checks the server")


def list_servers(common: Common, *, as_json: bool) -> None:
    """Show the configured servers; never a password."""
    servers = common.settings.servers
    if as_json:
        say_json([{**s.model_dump(mode="json"), "port": s.effective_port} for s in servers])
        return
    if not servers:
        note("No server is configured. Add one: usenetfs server add NAME --host HOST")
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    for heading in ("name", "address", "tls", "user", "connections", "priority", "posting"):
        table.add_column(heading)
    for s in servers:
        table.add_row(
            s.name,
            f"{s.host}:{s.effective_port}",
            s.tls,
            s.username or "",
            str(s.connections),
            str(s.priority),
            "yes" if s.posting else "no",
        )
    console().print(table)


def remove(common: Common, name: str) -> None:
    """Take the server ``name`` out of the configuration, and its password out of the vault."""
    server = _find(common, name)
    if server is None:
        names = ", ".join(s.name for s in common.settings.servers) or "none"
        raise UsageError(f'there is no server "{name}"', hint=f"there are: {names}")
    file = _config_file(common)
    text = _read(file)
    lines = _lines_of(text, name)
    if lines is None:
        raise ConfigurationError(
            f'server "{name}" is not in {file}',
            hint=f"it comes from: {common.loaded.origin(('servers',))}; remove it there",
        )
    vault = None
    if server.username is not None and common.directories.vault.exists():
        vault = Vault.open(common.directories.vault, _vault_passphrase(common))
    rows = text.splitlines(keepends=True)
    kept = "".join(rows[: lines[0]] + rows[lines[1] :])
    _check(common, kept)
    replace_file(file, kept.encode())
    if vault is not None and vault.remove(name):
        vault.save()
    note(f"Server {name} removed from {file}.")


# --- the file ------------------------------------------------------------------------------------


def _config_file(common: Common) -> Path:
    return common.config_file or user_config_file(os.environ)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _check(common: Common, text: str) -> None:
    """ConfigurationError when ``text`` could not be the configuration file."""
    file = _config_file(common)
    draft = file.with_name(f".{file.name}.draft")
    replace_file(draft, text.encode())
    try:
        layer = file_layer("user file", draft, required=True)
        if layer is not None:
            validate((layer,))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"nothing was changed: {error.message.partition(': ')[2]}", hint=error.hint
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _entry(keys: dict[str, Any], before: str) -> str:
    gap = "" if not before or before.endswith("\n\n") else "\n" if before.endswith("\n") else "\n\n"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join([f"{gap}[[servers]]", *lines, ""])


def _with_groups(common: Common, text: str, groups: Sequence[str]) -> str:
    """``text`` with ``groups`` as the newsgroups to post to; UsageError when there are others."""
    configured = common.settings.posting.groups
    if configured == tuple(groups):
        return text
    if configured:
        raise UsageError(
            f"newsgroups to post to are configured already: {', '.join(configured)}",
            hint=f"leave --group out, or edit {common.loaded.origin(('posting', 'groups'))}",
        )
    line = f"groups = {json.dumps(list(groups), ensure_ascii=False)}\n"
    header = locate_keys(text).get(("posting",))
    if header is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[posting]\n{line}"
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:header], line, *lines[header:]])


def _lines_of(text: str, name: str) -> tuple[int, int] | None:
    """The lines ``[start, end)``, from 0, of the entry of server ``name`` in ``text``."""
    import tomllib

    places = locate_keys(text)
    entries = tomllib.loads(text).get("servers", [])
    number = next((n for n, entry in enumerate(entries) if entry.get("name") == name), None)
    start = places.get(("servers", number)) if number is not None else None
    if start is None:
        return None
    lines = text.splitlines()
    end = start
    while end < len(lines) and not lines[end].lstrip().startswith("["):
        end += 1
    return start - 1, end


# --- the vault -----------------------------------------------------------------------------------


def _find(common: Common, name: str) -> ServerSection | None:
    return next((s for s in common.settings.servers if s.name == name), None)


def _store_password(common: Common, name: str, username: str, password_file: Path | None) -> None:
    if password_file is not None:
        password = passphrase.read_file(password_file)
    else:
        password = passphrase.ask(f"Password of {username} at {name}")
    path = common.directories.vault
    if path.exists():
        vault = Vault.open(path, _vault_passphrase(common))
    else:
        note("The vault keeps the servers' passwords. It is opened by the same passphrase as your")
        note("filesystems, unless you choose another one here.")
        vault = Vault.create(
            path,
            _new_vault_passphrase(common),
            cost=Argon2Cost.of(common.settings.keys.memory, common.settings.keys.iterations),
        )
    vault.set(name, password)
    vault.save()
    note(f"Password stored, encrypted, in {path}.")


def _vault_passphrase(common: Common) -> str:
    return passphrase.obtain(common, prompt="Passphrase of the vault", filesystem=False).vault


def _new_vault_passphrase(common: Common) -> str:
    given = passphrase.given(common.vault_passphrase_file, passphrase.VAULT_VARIABLE)
    if given is not None:
        return passphrase.checked_new(given)
    return passphrase.obtain_new(common, prompt="New passphrase")
