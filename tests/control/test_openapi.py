"""What is written of the API is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import cast

from scripts import api_docs
from usenetfs.control import client
from usenetfs.control.app import DaemonFacade, build_app
from usenetfs.control.endpoints import ENDPOINTS
from usenetfs.control.model import StatusReport
from usenetfs.control.openapi import openapi

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documents_are_true() -> None:
    """If this fails: python -m scripts.api_docs"""
    assert api_docs.main(["--check"]) == 0


def test_every_route_is_in_the_document_and_every_reference_leads_somewhere() -> None:
    document = json.loads(json.dumps(openapi()))
    routes = {
        (route.path, method)  # type: ignore[attr-defined]
        for route in build_app(cast(DaemonFacade, None)).routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    written = {
        (path, method.upper()) for path, methods in document["paths"].items() for method in methods
    }
    assert routes == written == {(each.path, each.method) for each in ENDPOINTS}
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == set(schemas)
    for endpoint in ENDPOINTS:
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        assert (operation.get("security") == []) == endpoint.public


def test_every_key_of_the_status_is_explained() -> None:
    text = (DOCS / "api.md").read_text()
    for field in dataclasses.fields(StatusReport):
        assert re.search(rf"^\| `{field.name}(\[\])?` \|", text, re.MULTILINE), field.name


def test_the_client_asks_for_nothing_that_is_not_there() -> None:
    source = inspect.getsource(client)
    asked = set(re.findall(r'"(/v1/[\w/]+)"', source))
    assert asked
    assert asked <= {endpoint.path for endpoint in ENDPOINTS}
