"""Handlers by their paths: call, send, delay, ids, idempotency, keys, waiting."""

import asyncio

import pytest

from holdfast import BadHandler, Holdfast, Object, Service
from holdfast.http.ingress import ingress_app
from holdfast.http.limits import HttpLimits
from tests.http.serving import problem, serving, wait_for


def test_a_call_answers_with_the_results_json_and_names_the_invocation(server):
    answer = server.ingress.post("/Demo/total", json={"x": 2, "y": 3})
    assert (answer.status_code, answer.json()) == (200, 5)
    assert answer.headers["content-type"] == "application/json"
    assert server.ingress.get(f"/invocations/{answer.headers['holdfast-invocation']}").json()["output"] == 5


def test_an_argument_with_a_default_may_be_left_out(server):
    assert server.ingress.post("/Demo/total", json={"x": 2}).json() == 3


@pytest.mark.parametrize("content", [b"", b"{}", b" \n"])
def test_no_body_is_no_arguments(server, content):
    assert server.ingress.post("/Demo/echo", content=content).text == "null"


def test_the_only_argument_that_is_an_object_is_the_body(server):
    id = server.started("/Demo/approve", json={"amount": 5})
    assert server.ingress.get(f"/invocations/{id}").json()["input"] == {"about": {"amount": 5}}


def test_a_send_answers_202_with_the_id_and_where_to_look(server):
    answer = server.ingress.post("/Demo/hold/send")
    id = answer.json()["id"]
    assert answer.status_code == 202
    assert answer.json()["status"] in {"ready", "suspended", "queued"}
    assert answer.headers["location"] == f"/invocations/{id}"
    assert answer.headers["holdfast-invocation"] == id


@pytest.mark.parametrize("delay", ["PT0.01S", "0.01", "pt0s", "0"])
def test_a_send_may_begin_later(server, delay):
    id = server.started("/Demo/echo", json={"value": 1}, params={"delay": delay})
    assert server.ingress.get(f"/invocations/{id}/result").json() == 1


@pytest.mark.parametrize("delay", ["", "-1", "-PT1S", "soon", "nan", "inf", "P1M", "PT", "1e400", "P999999999999D"])
def test_a_delay_that_cannot_be_is_refused(server, delay):
    answer = server.ingress.post("/Demo/echo/send", params={"delay": delay})
    assert problem(answer)["code"] == "HF603"


def test_a_call_takes_no_delay(server):
    answer = server.ingress.post("/Demo/echo?delay=1")
    assert (answer.status_code, problem(answer)["fix"]) == (400, "known are: id")


def test_an_id_names_one_invocation(server):
    first = server.ingress.post("/Demo/total?id=sum-1", json={"x": 1})
    assert first.headers["holdfast-invocation"] == "sum-1"
    assert server.ingress.post("/Demo/total?id=sum-1", content=b' { "x" : 1 } ').json() == 2
    other = server.ingress.post("/Demo/total?id=sum-1", json={"x": 5})
    assert (other.status_code, problem(other)["code"]) == (409, "HF103")
    assert problem(other)["invocation"] == "sum-1"


@pytest.mark.parametrize("id", ["a/b", "ä ö", "50%", "a?b#c"])
def test_an_id_of_any_characters_is_found_under_its_encoded_form(server, id):
    sent = server.ingress.post("/Demo/echo/send", params={"id": id}, json={"value": 7})
    assert server.ingress.get(sent.headers["location"]).json()["id"] == id
    assert server.ingress.get(sent.headers["location"] + "/result").json() == 7


def test_requests_with_one_idempotency_key_are_one_invocation(server):
    headers = {"Idempotency-Key": "order-17"}
    ids = {server.started("/Demo/hold", headers=headers) for _ in range(3)}
    assert len(ids) == 1
    assert server.started("/Demo/hold", headers={"Idempotency-Key": "order-18"}) not in ids


def test_an_empty_idempotency_key_is_refused(server):
    assert problem(server.ingress.post("/Demo/hold/send", headers={"Idempotency-Key": ""}))["code"] == "HF603"


def test_a_key_stands_in_the_path(server):
    assert server.ingress.post("/Chat/ada/message", json={"text": "hi"}).json() == ["hi"]
    assert server.ingress.post("/Chat/bob/message", json={"text": "ho"}).json() == ["ho"]
    assert server.ingress.post("/Chat/ada/message", json={"text": "again"}).json() == ["hi", "again"]


@pytest.mark.parametrize("key", ["a%2Fb", "%C3%A4", "send", "x%20y"])
def test_a_key_may_hold_any_character(server, key):
    server.ingress.post(f"/Chat/{key}/message", json={"text": "hi"})
    assert server.ingress.get(f"/Chat/{key}/history").json() == ["hi"]


def test_only_shared_handlers_may_be_read_with_get(server):
    assert server.ingress.get("/Chat/new/history").json() == []
    answer = server.ingress.get("/Chat/new/message")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert server.ingress.get("/Demo/echo").status_code == 405


@pytest.mark.parametrize(
    "path, code",
    [
        ("/Demo", "HF101"),
        ("/Demo/nothing", "HF101"),
        ("/Demo/echo/sent", "HF101"),
        ("/Demo/echo/send/x", "HF101"),
        ("/Demo//echo", "HF101"),
        ("/Chat/message", "HF101"),
        ("/Chat//message", "HF102"),
        ("/Chat/%FF/message", "HF603"),
        ("/Nobody/echo", "HF601"),
        ("/demo/echo", "HF601"),
        ("/x/y", "HF601"),
        ("/Demo/echo/", "HF101"),
    ],
)
def test_a_path_that_is_nobodys_is_refused(server, path, code):
    answer = server.ingress.post(path, json={"text": "x"} if "message" in path else None)
    assert problem(answer)["code"] == code
    assert answer.status_code in {400, 404}


def test_arguments_that_do_not_fit_are_named(server):
    answer = server.ingress.post("/Demo/total", json={"x": "two"})
    assert (answer.status_code, problem(answer)["code"]) == (400, "HF102")
    assert "argument 'x' does not read as int" in problem(answer)["detail"]


def test_a_call_that_lasts_longer_than_its_client_waits_says_where_the_result_will_be(server):
    answer = server.ingress.post("/Demo/hold", headers={"Prefer": "respond-async, wait=0"})
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(answer.json()["id"] + "/result")


@pytest.mark.parametrize("wait", ["wait", "wait=x", "wait=-1"])
def test_a_wait_that_cannot_be_read_is_refused(server, wait):
    assert problem(server.ingress.post("/Demo/hold", headers={"Prefer": wait}))["code"] == "HF603"


def test_a_call_that_does_not_say_how_long_waits_no_longer_than_the_limit():
    with serving(limits=HttpLimits(wait_seconds=0.05)) as server:
        assert server.ingress.post("/Demo/hold").status_code == 202
    with serving(limits=HttpLimits(wait_seconds_max=0.05)) as server:
        assert server.ingress.post("/Demo/hold", headers={"Prefer": "wait=500"}).status_code == 202


def test_what_a_handler_ends_with_is_the_answer(server):
    terminal = server.ingress.post("/Demo/fail", json={"how": "terminal"})
    assert (terminal.status_code, problem(terminal)["detail"]) == (422, "no such flight")
    failed = server.ingress.post("/Demo/fail", json={"how": "work"})
    assert (failed.status_code, problem(failed)["code"]) == (500, "HF503")
    assert problem(failed)["invocation"] == failed.headers["holdfast-invocation"]
    assert problem(failed)["fix"] == f"see GET /invocations/{problem(failed)['invocation']}/journal"
    assert "serving.py" not in failed.text  # places in the source are for the log
    told = problem(server.ingress.post("/Demo/fail", json={"how": "tell"}))
    assert told["detail"].endswith("next step: pass key=...")
    assert (told["cause"], told["fix"]) == ("", "")


def test_a_handler_sees_tracing_headers_and_no_secrets(server):
    headers = {"traceparent": "00-1-2-03", "Authorization": "Bearer x", "Cookie": "a=b", "X-Request-Id": "r1"}
    seen = server.ingress.post("/Demo/known", headers=headers).json()
    assert seen == {"traceparent": "00-1-2-03", "x-request-id": "r1"}


def test_a_client_that_goes_away_cancels_nothing(server):
    with server.connect() as connection:
        connection.sendall(b"POST /Demo/hold?id=left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: server.ingress.get("/invocations/left").status_code == 200)
    wait_for(lambda: server.traffic.waiting.taken == 0, "the place to be given back")
    promise = server.promise_of("left")
    assert server.ingress.post(f"/promises/{promise}/resolve", json="on").status_code == 200
    assert server.ingress.get("/invocations/left/result").json() == "on"


@pytest.mark.parametrize(
    "hides", [Service("invocations"), Object("promises"), Service("health")], ids=lambda group: group.name
)
def test_a_service_that_hides_a_route_is_refused(hides, tmp_path):
    async def handler(ctx): ...

    hides.handler(handler)

    async def serve():
        async with Holdfast(tmp_path / "agent.db", services=[hides]) as client:
            ingress_app(client)

    with pytest.raises(BadHandler, match="its path belongs to something else"):
        asyncio.run(serve())


def test_a_handler_called_send_does_not_hide_how_another_is_sent():
    mail = Service("Mail")

    async def send(ctx) -> str:
        return "sent"

    mail.handler(send)
    with serving(mail) as server:
        assert server.ingress.post("/Mail/send").json() == "sent"
        assert server.ingress.post("/Mail/send/send").status_code == 202
