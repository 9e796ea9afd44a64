"""Every error is a problem in JSON, whoever finds it: a route, the framework, the parser of HTTP, or nobody."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import errors
from holdfast.http import problems, refusals
from tests.http.serving import PROBLEM, problem


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the first answer in some bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body[: int(headers.get("content-length", 0))]


def raw_problem(answer: bytes) -> dict:
    status, headers, body = parts(answer)
    assert headers["content-type"] == PROBLEM
    assert json.loads(body)["status"] == status
    return json.loads(body)


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", "/nothing", 404, "HF601"),
        ("POST", "/", 405, "HF602"),
        ("PATCH", "/Demo/echo", 405, "HF602"),
        ("DELETE", "/health", 405, "HF602"),
        ("OPTIONS", "/Demo/echo", 405, "HF602"),
        ("GET", "/health?x=1", 400, "HF603"),
        ("GET", "/health?x=%FF", 400, "HF603"),
        ("POST", "/Demo/echo?id=a&id=b", 400, "HF603"),
        ("POST", "/Demo/echo?" + "&".join(f"a{n}=1" for n in range(30)), 400, "HF603"),
        ("GET", "/invocations/%FF", 400, "HF603"),
        ("GET", "/invocations/nobody", 404, "HF104"),
        ("POST", "/Demo/nothing", 404, "HF101"),
    ],
)
def test_a_wrong_request_is_a_problem(server, method, path, status, code):
    answer = server.ingress.request(method, path)
    assert (answer.status_code, problem(answer)["code"]) == (status, code)
    if status == 405:
        assert "HEAD" in answer.headers["allow"] or "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /Demo/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=range(11),
)
def test_what_is_no_http_is_a_problem_too(server, sent):
    assert raw_problem(server.raw(sent))["code"] == "HF603"


def test_an_upgrade_is_answered_as_plain_http(server):
    answer = server.ingress.get("/health", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert answer.json() == {"status": "ok"}


def test_old_http_is_answered_and_closed(server):
    status, headers, body = parts(server.raw(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    assert (status, headers.get("connection", "close"), body) == (200, "close", b'{"status":"ok"}')


def test_requests_in_one_parcel_are_answered_in_order(server):
    one = b"POST /Demo/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n%b\r\n"
    sent = b"".join(one % b"" + b'{"value":%d}' % number for number in range(3))
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    got = server.raw(sent + last)
    assert got.count(b"HTTP/1.1 200") == 4
    assert [line for line in got.split(b"\r\n") if line[:1] in {b"0", b"1", b"2"} or b"HTTP" in line[1:]] != []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_body_that_is_not_declared_as_json_is_refused(server, headers):
    for port, path in ((server.ingress, "/Demo/echo"), (server.admin, "/invocations/x/kill")):
        answer = port.post(path, content=b"{}" if "echo" in path else b"", headers=headers)
        assert (answer.status_code, problem(answer)["code"]) == (415, "HF607")
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "kind", ["application/json", 'Application/JSON; charset="UTF-8"', "application/json ;charset=utf-8"]
)
def test_json_may_be_declared_as_people_write_it(server, kind):
    assert server.ingress.post("/Demo/echo", content=b'{"value":1}', headers={"Content-Type": kind}).json() == 1


def test_an_operation_without_a_body_refuses_one(server):
    id = server.started("/Demo/hold")
    answer = server.admin.post(f"/invocations/{id}/cancel", json={"reason": "late"})
    assert (answer.status_code, problem(answer)["fix"]) == (400, "its parameters stand in the query: reason")
    assert server.status(id) != "cancelled"


def test_a_mistake_in_holdfast_is_logged_and_shows_nothing(server, monkeypatch, caplog):
    async def broken(self, id):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("holdfast.client.AsyncClient.promise", broken)
    answer = server.ingress.get("/promises/x")
    assert (answer.status_code, problem(answer)["code"]) == (500, "HF611")
    assert "secret" not in answer.text
    assert [record.levelno for record in caplog.records if record.name == "holdfast.http"] == [logging.ERROR]
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


EXAMPLES = [
    (errors.UnknownHandler("x"), 404),
    (errors.UnknownInvocation("x"), 404),
    (errors.UnknownPromise("x"), 404),
    (errors.UnknownSchedule("x"), 404),
    (errors.BadArguments("x"), 400),
    (errors.BadTimer("x"), 400),
    (errors.Unserialisable("x"), 400),
    (errors.TooLarge("x"), 413),
    (errors.Unreadable("x"), 500),
    (errors.IdConflict("x"), 409),
    (errors.AlreadySettled("x"), 409),
    (errors.WrongStatus("x"), 409),
    (errors.WouldDeadlock("x"), 409),
    (errors.TooMany("x"), 429),
    (errors.TerminalError("x", status=418), 418),
    (errors.InvocationFailed("i", "E", "x"), 500),
    (errors.InvocationCancelled("x"), 409),
    (errors.InvocationPaused("i", "x"), 409),
    (errors.EngineStopped("x"), 503),
    (errors.StoreFull("x"), 507),
    (errors.StoreFailed("x"), 503),
    (errors.StoreLocked("x"), 503),
]


@pytest.mark.parametrize("error, status", EXAMPLES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_status(error, status):
    answer = problems.problem(error)
    assert (answer.status_code, json.loads(answer.body)["code"]) == (status, error.code)
    assert ("retry-after" in answer.headers) is (status in {429, 503})


def test_a_text_without_a_json_form_is_shown_spelled_out():
    answer = problems.problem(errors.TerminalError("no \ud800", status=400), "ä/b")
    assert json.loads(answer.body)["detail"] == "no \\ud800"
    assert answer.headers["holdfast-invocation"] == "%C3%A4%2Fb"


def test_a_title_is_the_same_for_all_errors_of_a_kind():
    assert json.loads(problems.problem(refusals.UnknownRoute("x")).body)["title"] == "Unknown route"


METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
WORDS = st.sampled_from(
    ["Demo", "Chat", "echo", "total", "send", "history", "invocations", "promises", "x", "%2F", "%FF", ""]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Prefer", "Idempotency-Key", "Last-Event-ID", "Authorization", "X-Request-Id", "Origin"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(METHODS, st.lists(WORDS, max_size=5), st.binary(max_size=40), HEADERS, st.text(max_size=20))
def test_whatever_is_sent_no_answer_is_a_mistake_of_ours(server, method, words, body, headers, query):
    head = {"Prefer": b"wait=0"} | {name: text.strip().encode("latin-1") for name, text in headers.items()}
    for port in (server.ingress, server.admin):
        path = "/x/../" + "/".join(words)  # httpx would take "//x" for a host
        answer = port.request(method, path, content=body, headers=head, params={"id": query} if query else None)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and method != "HEAD":
            problem(answer)


PLACES = st.sampled_from(
    [
        ("ingress", "POST", "/Demo/echo"), ("ingress", "POST", "/Demo/total"),
        ("ingress", "POST", "/Demo/approve/send"),
        ("ingress", "POST", "/Chat/k/message"), ("ingress", "GET", "/Chat/k/history"),
        ("ingress", "POST", "/invocations/fuzzed/signals/word"), ("ingress", "POST", "/promises/fuzzed/resolve"),
        ("ingress", "POST", "/promises/fuzzed/reject"), ("ingress", "GET", "/invocations/fuzzed/result"),
        ("admin", "POST", "/invocations?target=Demo/total"), ("admin", "PUT", "/objects/Chat/other/lines"),
        ("admin", "POST", "/invocations/fuzzed/fork?step=x"), ("admin", "POST", "/sql"), ("admin", "POST", "/backup"),
        ("admin", "GET", "/invocations/fuzzed/journal"), ("admin", "POST", "/invocations/fuzzed/cancel"),
    ]
)  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "text", "value"]), inner),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.tuples(JSON_VALUES, st.binary(min_size=1, max_size=3)).map(lambda both: json.dumps(both[0]).encode() + both[1]),
    st.integers(100, 50_000).map(lambda depth: b'{"x":' + b"[" * depth),
    st.integers(100, 50_000).map(lambda depth: b'{"value":' + b"[" * depth + b"]" * depth + b"}"),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLACES, BODIES, HEADERS)
def test_whatever_body_and_headers_come_to_a_place_no_answer_is_a_mistake_of_ours(server, place, body, headers):
    port, method, path = place
    head = {"Prefer": b"wait=0"} | {name: text.strip().encode("latin-1") for name, text in headers.items()}
    answer = getattr(server, port).request(method, path, content=b"" if method == "GET" else body, headers=head)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        problem(answer)
