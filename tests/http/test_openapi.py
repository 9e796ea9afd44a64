"""The OpenAPI documents: valid, complete, with examples that fit, and kept by the server that serves them."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema
import msgspec
import openapi_spec_validator
import pydantic
import pytest

from holdfast import Context, Object, ObjectContext, Service, Workflow, WorkflowContext
from holdfast.http.limits import HttpLimits
from holdfast.http.openapi import example_of
from tests.http.serving import serving

shop = Service("Shop")
cart = Object("Cart")
order = Workflow("Order")


class Card(msgspec.Struct, tag="card"):
    number: str


class Cash(msgspec.Struct, tag="cash"):
    amount: float


class Guest(pydantic.BaseModel):
    """Who pays."""

    name: str = pydantic.Field(min_length=2, examples=["Ada"])
    friends: list["Guest"] = []
    level: Literal["gold", "plain"] = "plain"


@dataclass
class Tree:
    name: str
    kids: list["Tree"]


@shop.handler
async def pay(ctx: Context, guest: Guest, by: Card | Cash, tip: float = 0.0) -> Card | Cash:
    """Takes the money.

    At once.
    """
    return by


@shop.handler
async def grow(ctx: Context, tree: Tree) -> Tree | None:
    return tree


@shop.handler
async def anything(ctx: Context, value=None):
    return value


@cart.handler
async def put(ctx: ObjectContext, item: str, *tags: str, **counts: int) -> int:
    ctx.set("item", item)
    return len(tags)


@cart.handler(shared=True)
async def items(ctx: ObjectContext) -> dict[str, Any]:
    return {"item": ctx.get("item")}


@order.main
async def run(ctx: WorkflowContext, total: int) -> int:
    return total


@order.handler
async def asked(ctx: WorkflowContext) -> bool:
    return True


@pytest.fixture(scope="module")
def server():
    def prepare(hf):
        hf.handler(plain)
        hf.schedule(anything, id="daily", cron="0 9 * * *")

    with serving(
        shop, cart, order, prepare=prepare, limits=HttpLimits(wait_seconds=0.1, wait_seconds_max=0.2)
    ) as running:
        yield running


async def plain(ctx: Context, words: list[str]) -> str:
    return " ".join(words)


@pytest.fixture(params=["ingress", "admin"])
def port(server, request):
    return getattr(server, request.param)


@pytest.fixture
def document(port):
    return port.get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_document_is_valid(document):
    assert document["openapi"] == "3.1.0"
    openapi_spec_validator.validate(document)


def test_every_route_is_described_and_nothing_else(server):
    for face, _ in server.servers._faces:
        client = server.ingress if face is server.servers._faces[0][0] else server.admin
        described = set(client.get("/openapi.json").json()["paths"])
        handlers, *routes = face._router.routes if client is server.ingress else (None, *face._router.routes)
        served = {route.path for route in routes}
        if handlers is not None:
            served |= {operation.path for operation in handlers.operations}
        assert described == served


def test_handlers_are_described_as_they_are_called(server):
    paths = server.ingress.get("/openapi.json").json()["paths"]
    assert {"/Shop/pay", "/Shop/pay/send", "/Cart/{key}/put", "/Cart/{key}/items", "/Order/{key}/run", "/plain"} <= set(
        paths
    )
    pay_ = paths["/Shop/pay"]["post"]
    assert (pay_["operationId"], pay_["summary"]) == ("Shop.pay", "Takes the money.")
    assert pay_["description"].endswith("At once.")
    assert pay_["requestBody"]["required"] is True
    assert [one["name"] for one in pay_["parameters"]] == ["id", "Idempotency-Key", "Prefer"]
    assert "get" in paths["/Cart/{key}/items"]
    assert "get" not in paths["/Cart/{key}/put"]
    assert [one["name"] for one in paths["/Order/{key}/run"]["post"]["parameters"]][:2] == ["key", "Idempotency-Key"]


def test_names_of_operations_differ(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_every_operation_tells_its_errors(document):
    for _, path, operation in operations(document):
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}, path


def test_every_example_fits_its_schema(document):
    found = 0
    for _, _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"] | {"components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(content["example"])
            found += 1
    assert found > 3


def test_every_example_of_a_handler_is_accepted(server):
    document = server.ingress.get("/openapi.json").json()
    called = 0
    for method, path, operation in operations(document):
        if method == "post" and "requestBody" in operation and not path.startswith(("/invocations", "/promises")):
            example = operation["requestBody"]["content"]["application/json"]["example"]
            answer = server.ingress.post(path.replace("{key}", "k"), json=example)
            assert answer.status_code in {200, 202}, (path, example, answer.text)
            called += 1
    assert called == 16


@pytest.mark.parametrize(
    "schema, example",
    [
        ({}, {}),
        ({"const": 5}, 5),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "minLength": 6}, "text.."),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "integer", "exclusiveMinimum": 10}, 11),
        ({"type": "number"}, 1.5),
        ({"type": "array", "items": {"type": "null"}}, []),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, [None, None]),
        ({"type": "array", "prefixItems": [{"type": "boolean"}]}, [True]),
        ({"type": "object", "properties": {"a": {"type": "null"}, "b": {}}}, {"a": None}),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        (True, None),
    ],
    ids=str,
)
def test_an_example_is_small_and_fits(schema, example):
    assert example_of(schema, {}) == example


def test_an_example_of_what_contains_itself_ends():
    table = {"A": {"type": "object", "properties": {"a": {"$ref": "#/A"}}, "required": ["a"]}}
    assert example_of({"$ref": "#/A"}, table)["a"]


@pytest.mark.slow
@pytest.mark.parametrize("face", ["ingress", "admin"])
def test_schemathesis_finds_no_mistake_of_ours(server, face, tmp_path):
    """Requests made from the document, right ones and wrong ones: no 5xx, and every answer is one that it tells.
    Not the event stream, which has no end."""
    url = getattr(server.servers, f"{face}_url")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", "all",
        "--exclude-checks", "positive_data_acceptance",  # a schema cannot tell that a name is taken, or SQL wrong
        "--max-examples", "5", "--workers", "1", "--header", "Prefer: wait=0", "--no-color", "--seed", "1",
        "--request-timeout", "20", "--suppress-health-check", "all", "--exclude-operation-id", "watch",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
