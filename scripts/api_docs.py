"""Writes what is generated of the API's documentation: docs/openapi.json, and the tables of
docs/api.md between their marks.

    python -m scripts.api_docs           writes both
    python -m scripts.api_docs --check   status 1 if one is not as it should be
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from usenetfs.control import message, model
from usenetfs.control.endpoints import ENDPOINTS, Endpoint
from usenetfs.control.message import Message
from usenetfs.control.openapi import field_docs, openapi

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs/openapi.json"
TEXT: Final = ROOT / "docs/api.md"
TABLES: Final = {
    "status": model.StatusReport,
    "history": model.HistoryReport,
    "operations": model.OperationsReport,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or only look."""
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    wanted = {DOCUMENT: document(), TEXT: text(TEXT.read_text(encoding="utf-8"))}
    wrong = [
        path
        for path, content in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]
    for path in wrong:
        if check:
            print(f"{path.relative_to(ROOT)} is not true any more: python -m scripts.api_docs")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return int(check and bool(wrong))


def document() -> str:
    """The OpenAPI document."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def text(before: str) -> str:
    """``docs/api.md`` with its tables as they should be."""
    for name, content in (
        ("endpoints", endpoints()),
        *((name, keys(kind)) for name, kind in TABLES.items()),
    ):
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, rest = before.split(start)
        before = head + start + content + end + rest.split(end)[1]
    return before


def endpoints() -> str:
    """A row for each."""
    rows = [
        f"| `{e.method} {e.path}` | {e.summary} | {_body(e)} | {_answer(e)} |" for e in ENDPOINTS
    ]
    return "\n".join(["| request | what | body | answer |", "|---|---|---|---|", *rows]) + "\n"


def _body(endpoint: Endpoint) -> str:
    if endpoint.body is None:
        return ""
    return ", ".join(f"`{field.name}`" for field in dataclasses.fields(endpoint.body))


def _answer(endpoint: Endpoint) -> str:
    if isinstance(endpoint.answer, str):
        return f"`{endpoint.answer.partition(';')[0]}`"
    return f"`{endpoint.answer.__name__}`"


def keys(kind: type[Message]) -> str:
    """A row for each key, those of values within it, too: ``servers[].name``."""
    rows = [f"| `{key}` | {name} | {said} |" for key, name, said in _keys(kind, "")]
    return "\n".join(["| key | type | meaning |", "|---|---|---|", *rows]) + "\n"


def _keys(kind: type[Any], before: str) -> Iterator[tuple[str, str, str]]:
    said = field_docs(kind)
    for name, hint in message.hints_of(kind).items():
        key, many = before + name, message.is_many(hint)
        inner: Any = message.inner_type(hint)
        shown = f"{key}[]" if many else key
        if isinstance(inner, type) and issubclass(inner, Message):
            about = said.get(name) or " ".join((inner.__doc__ or "").split())
            yield shown, "list" if many else "object", about.replace("``", "`")
            yield from _keys(inner, f"{shown}.")
        else:
            optional = " or null" if message.is_optional(hint) else ""
            yield shown, _NAMES[inner] + optional, said.get(name, "")


_NAMES: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


if __name__ == "__main__":
    sys.exit(main())
