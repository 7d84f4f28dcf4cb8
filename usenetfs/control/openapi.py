"""The control API as an OpenAPI 3.1 document, made from the table of endpoints and the messages.

Descriptions are the docstrings of the messages and of their fields, read from the source. A test
compares ``docs/openapi.json`` with it; ``python -m scripts.api_docs`` writes both documents.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from typing import Any

import usenetfs
from usenetfs.control.endpoints import ENDPOINTS, EVENTS_TYPE, JSON_TYPE, Endpoint
from usenetfs.control.message import Message, hints_of
from usenetfs.control.model import API_VERSION, ErrorReport

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def openapi() -> dict[str, Any]:
    """The document."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    _reference(ErrorReport, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usenetfs control API",
            "version": str(API_VERSION),
            "description": "What a mounted usenetfs says and does. On a Unix socket that only its"
            " owner can open; with `control.listen` also on a port of this machine, with a token.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "x-usenetfs-version": usenetfs.__version__,
        "servers": [{"url": "http://127.0.0.1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(endpoint.answer, str):
        media: dict[str, Any] = {endpoint.answer.partition(";")[0]: {}}
    else:
        media = {JSON_TYPE: {"schema": _reference(endpoint.answer, schemas)}}
    error = {JSON_TYPE: {"schema": _error_body()}}
    described: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": {
            "200": {"description": "Success", "content": media},
            "default": {"description": "What went wrong, and what to do", "content": error},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.answer == EVENTS_TYPE:
        interval = {"type": "number", "minimum": 0.2, "maximum": 3600, "default": 1}
        parameters.append(
            {"name": "interval", "in": "query", "required": False, "schema": interval}
        )
    if parameters:
        described["parameters"] = parameters
    if endpoint.body is not None:
        needed = any(_is_required(each) for each in dataclasses.fields(endpoint.body))
        described["requestBody"] = {
            "required": needed,
            "content": {JSON_TYPE: {"schema": _reference(endpoint.body, schemas)}},
        }
    if endpoint.public:
        described["security"] = []
    return described


def _error_body() -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{ErrorReport.__name__}"}
    return {"type": "object", "required": ["error"], "properties": {"error": reference}}


def _reference(message: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = message.__name__
    if name not in schemas:
        schemas[name] = {}  # so that what refers to itself ends
        schemas[name] = _schema(message, schemas)
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(message: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    said = field_docs(message)
    hints = hints_of(message)
    properties = {}
    for each in dataclasses.fields(message):
        properties[each.name] = _type(hints[each.name], schemas)
        if each.name in said:
            properties[each.name] = {**properties[each.name], "description": said[each.name]}
    schema: dict[str, Any] = {
        "type": "object",
        "description": _clean(message.__doc__ or ""),
        "properties": properties,
    }
    required = [each.name for each in dataclasses.fields(message) if _is_required(each)]
    return schema | ({"required": required} if required else {})


def _is_required(each: dataclasses.Field[Any]) -> bool:
    return each.default is each.default_factory is dataclasses.MISSING


def _type(hint: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return {"type": "array", "items": _type(typing.get_args(hint)[0], schemas)}
    if origin is types.UnionType:
        inner = next(a for a in typing.get_args(hint) if a is not types.NoneType)
        return {"anyOf": [_type(inner, schemas), {"type": "null"}]}
    if dataclasses.is_dataclass(hint):
        return _reference(typing.cast("type[Message]", hint), schemas)
    return {"type": _SIMPLE[hint]}


def field_docs(message: type[Any]) -> dict[str, str]:
    """The docstrings of a message's fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(message)))
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    said: dict[str, str] = {}
    name = None
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif (
            name is not None
            and isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
        ):
            said[name] = _clean(str(statement.value.value))
            name = None
        else:
            name = None
    return said


def _clean(text: str) -> str:
    """A docstring as one paragraph of Markdown."""
    text = re.sub(r":(?:data|class|meth):`([^`]*)`", r"`\1`", text)
    text = re.sub(r"\bNone\b", "null", text)
    return " ".join(text.replace("``", "`").split())
