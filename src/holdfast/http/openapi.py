"""What a face serves, as OpenAPI 3.1, made from the same table that serves it.

Promises: every operation with the schemas of its type hints, examples that fit them, and problem+json for every error.
Refuses: hand-written descriptions, which grow old.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, TypedDict

import msgspec
from starlette.responses import Response

from holdfast.http import problems
from holdfast.http.exchange import TEXT, Exchange
from holdfast.http.face import Operation, answer
from holdfast.values import Definitions, schema_for

REFS = "#/components/schemas/"
DEPTH_MAX = 6  # of an example: a type may contain itself


class About(TypedDict):
    """What stands behind this port."""

    name: str
    version: str
    face: str
    openapi: str


class Health(TypedDict):
    """That it serves."""

    status: str


def about_operations(face: str, others: Sequence[Operation]) -> list[Operation]:
    """GET /, /health and /openapi.json of a face that has these other operations."""

    async def about(exchange: Exchange) -> Response:
        exchange.query(())
        return answer(About(name="holdfast", version=version("holdfast"), face=face, openapi="/openapi.json"))

    async def health(exchange: Exchange) -> Response:
        exchange.query(())
        return answer(Health(status="ok"))

    async def openapi(exchange: Exchange) -> Response:
        exchange.query(())
        return Response(described(), media_type="application/json")

    @cache
    def described() -> bytes:
        return msgspec.json.encode(document(face, [*others, *own]))

    own = [
        Operation("GET", "/", "about", "What this is.", about, {200: About}),
        Operation("GET", "/health", "health", "That it serves; needs no token.", health, {200: Health}),
        Operation("GET", "/openapi.json", "openapi", "This document.", openapi, {200: dict[str, Any]}),
    ]
    return own


def document(face: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    definitions = Definitions(REFS)
    problem = definitions.take(schema_for(problems.Problem))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _described(operation, definitions)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Holdfast {face}",
            "version": version("holdfast"),
            "description": "Durable execution: what was answered with 200 or 202 is stored and survives a crash.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "An error: what happened, the likely cause and the next step.",
                    "content": {problems.TYPE: {"schema": problem}},
                }
            },
            "schemas": definitions.table,
        },
    }


def _described(operation: Operation, definitions: Definitions) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", operation.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    parameters += [
        {"name": one.name, "in": "query", "required": one.required, "description": one.about, "schema": one.schema}
        for one in operation.query
    ]
    parameters += [
        {"name": name, "in": "header", "description": about, "schema": TEXT}
        for name, about in operation.headers.items()
    ]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about.strip().partition("\n")[0],
        "parameters": parameters,
        "responses": {str(status): _answer(operation, status, definitions) for status in operation.answers}
        | {"default": {"$ref": "#/components/responses/Problem"}},
    }
    if operation.about.strip() != described["summary"]:
        described["description"] = operation.about.strip()
    if operation.body is not None:
        schema = definitions.take(_schema(operation.body))
        example = operation.example
        if example is None:
            example = example_of(schema, definitions.table)
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    return described


ABOUT_STATUS = {200: "Done.", 202: "Durable, and not done yet.", 204: "Done; there is nothing to say."}


def _answer(operation: Operation, status: int, definitions: Definitions) -> dict[str, Any]:
    hint = operation.answers[status]
    described: dict[str, Any] = {"description": ABOUT_STATUS[status]}
    if hint is not None:
        media = operation.media if status == 200 else "application/json"
        described["content"] = {media: {"schema": definitions.take(_schema(hint))}}
    return described


def _schema(hint: Any) -> dict[str, Any]:
    return hint if isinstance(hint, dict) else schema_for(hint)


def example_of(schema: Any, table: Mapping[str, Any], depth: int = 0) -> Any:
    """A small value that fits a schema: its own example or default where it has one, required fields only."""
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "$ref" in schema:
        return example_of(table.get(schema["$ref"].rpartition("/")[2]), table, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example_of(schema[key][0], table, depth + 1)
    return _plain_example(schema, table, depth)


FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT10S",
    "uuid": "6f1c3a52-7d0e-4b8f-9a35-2c4e8d1b7f60",
    "decimal": "1.5",
    "email": "ada@example.com",
    "uri": "https://example.com/",
}


def _plain_example(schema: Mapping[str, Any], table: Mapping[str, Any], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            wanted = schema.get("required") or list(properties)[:1]
            return {name: example_of(properties.get(name, {}), table, depth + 1) for name in wanted}
        case "array":
            items = schema.get("prefixItems", [schema.get("items", {})] * schema.get("minItems", 0))
            return [example_of(item, table, depth + 1) for item in items]
        case "string":
            text = FORMATS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), ".")
        case "integer":
            return max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "number":
            return max(1.5, schema.get("minimum", 1.5), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return {}
