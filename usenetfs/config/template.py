"""The commented configuration file that ``usenetfs config init`` writes.

Owns the form of that file. Its content is ``models``: sections, keys, defaults and their
docstrings, so that a new setting cannot be forgotten here. Every line that sets something is
commented out, which leaves the defaults in force; with the ``#`` taken away each is valid.
Docstrings are read from the module's source, by this command alone.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from usenetfs.config import models

INTRODUCTION: Final = """\
Settings of usenetfs. A line that starts with "#" and a key is a default: take the "#" away and
change the value. Stronger than this file are variables (USENETFS_CACHE__MAX_SIZE) and the command
line (--set "cache.max_size=5 GiB"). `usenetfs config show --origin` says what holds, and why."""

EXAMPLES: Final[Mapping[str, Any]] = {
    "data_dir": "~/.local/share/usenetfs",
    "cache_dir": "~/.cache/usenetfs",
    "servers.name": "main",
    "servers.host": "news.example.net",
    "servers.port": 563,
    "servers.ca_file": "/etc/ssl/certs/news.pem",
    "servers.pin": "00" * 32,
    "servers.username": "me",
    "servers.storage_group": "reseller",
    "servers.reserved_connections": 1,
    "posting.groups": ["alt.binaries.test", "alt.binaries.misc"],
    "posting.rules.groups": ["alt.binaries.sounds.lossless"],
    "posting.rules.pattern": "*.flac",
    "posting.rules.min_size": "1 MiB",
    "posting.rules.max_size": "4 GiB",
    "network.retry.connect.delay": "1 s",
    "network.retry.connect.jitter": 0.25,
    "network.retry.connect.max_delay": "1 min",
    "network.retry.connect.retries": 5,
    "network.retry.connect.strategy": "exponential",
    "control.listen": "127.0.0.1:8119",
    "upload.level": 3,
    "upload.connections": 8,
    "upload.rate": "5 MB",
    "upload.quiet_hours": "08:00-18:00",
    "upload.workers": 2,
}
"""What is shown where the default is nothing: by the keys of the path, without numbers."""

_WIDTH: Final = 100


def commented_file() -> str:
    """The whole file. What ``EXAMPLES`` does not know and has no default is named, not shown."""
    notes = _docstrings()
    lines = [f"# {line}" for line in INTRODUCTION.splitlines()]
    tables: list[tuple[str, type[BaseModel], bool]] = []
    lines += ["", *_keys("", models.Settings, notes, tables)]
    explained: set[type[BaseModel]] = set()
    while tables:
        name, model, several = tables.pop(0)
        if model in explained:
            lines.append(f"#[{name}]   # the same keys")
            continue
        explained.add(model)
        brackets = f"[[{name}]]" if several else f"[{name}]"
        about = notes.get((model.__name__, ""), "").partition(": ")[2]
        lines += ["", *_comment(_sentence(about)), f"#{brackets}" if several else brackets]
        below: list[tuple[str, type[BaseModel], bool]] = []
        lines += _keys(name, model, notes, below)
        tables = below + tables
    return "\n".join(lines) + "\n"


def _keys(
    table: str,
    model: type[BaseModel],
    notes: Mapping[tuple[str, str], str],
    tables: list[tuple[str, type[BaseModel], bool]],
) -> Iterator[str]:
    """The lines of a table's own keys; the tables below it are appended to ``tables``."""
    for key, field in model.model_fields.items():
        path = f"{table}.{key}" if table else key
        below = _section_of(field)
        if below is not None:
            tables.append((path, *below))
            continue
        yield from _comment(notes.get((model.__name__, key), ""))
        value, is_default = _value(path, key, model, field)
        if value is None:
            yield f"# {key}: not set."
        else:
            note = "" if is_default else "   # an example"
            yield f"#{key} = {json.dumps(value, ensure_ascii=False)}{note}"


def _section_of(field: FieldInfo) -> tuple[type[BaseModel], bool] | None:
    """The section that a field holds, and whether there may be several."""
    annotation = field.annotation
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in typing.get_args(annotation):
        if inspect.isclass(argument) and issubclass(argument, BaseModel):
            return argument, True
    return None


def _value(path: str, key: str, model: type[BaseModel], field: FieldInfo) -> tuple[Any, bool]:
    """What to show, as the file spells it, and whether it is the default."""
    if not field.is_required() and field.default not in {None, ()}:
        bare = model.model_construct(**{key: field.default})
        return bare.model_dump(mode="json", include={key}, warnings=False)[key], True
    return EXAMPLES.get(path), False


def _docstrings() -> dict[tuple[str, str], str]:
    """The docstring of each section (under "") and of each of its keys."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(models)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name, ""] = " ".join((ast.get_docstring(node) or "").split())
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[node.name, field.target.id] = " ".join(str(after.value.value).split())
    return found


def _comment(text: str) -> list[str]:
    text = text.replace("``", "`")
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
