"""Invocations and promises by id, on both ports."""

import pytest

from tests.http.serving import problem, receive, serving, wait_for


@pytest.fixture(params=["ingress", "admin"])
def port(server, request):
    return getattr(server, request.param)


def test_a_status_shows_input_output_and_what_it_is(server, port):
    server.ingress.post("/Demo/total?id=shown", json={"x": 1})
    view = port.get("/invocations/shown").json()
    assert (view["id"], view["target"], view["status"]) == ("shown", "Demo/total", "done")
    assert (view["input"], view["output"]) == ({"x": 1}, 2)


def test_a_result_is_202_until_it_is_there(server, port):
    id = server.started("/Demo/hold")
    pending = port.get(f"/invocations/{id}/result?wait=0")
    assert pending.status_code == 202
    assert pending.headers["location"] == f"/invocations/{id}/result"
    port.post(f"/promises/{server.promise_of(id)}/resolve", json="now")
    assert port.get(f"/invocations/{id}/result").json() == "now"
    assert port.get(f"/invocations/{id}/result?wait=0").json() == "now"


def test_a_result_that_is_waited_for_comes_at_once(server):
    id = server.started("/Demo/hold")
    promise = server.promise_of(id)
    with server.connect() as connection:
        connection.sendall(f"GET /invocations/{id}/result HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: server.traffic.waiting.taken == 1)
        server.ingress.post(f"/promises/{promise}/resolve", json="here")
        assert receive(connection) == b'"here"'
    wait_for(lambda: server.traffic.waiting.taken == 0)


@pytest.mark.parametrize("wait", ["x", "-1", "nan", ""])
def test_a_wait_that_is_no_number_of_seconds_is_refused(server, wait):
    id = server.started("/Demo/echo")
    assert problem(server.ingress.get(f"/invocations/{id}/result", params={"wait": wait}))["code"] == "HF603"


def test_a_failure_is_told_whenever_the_result_is_asked_for(server, port):
    id = server.started("/Demo/fail", json={"how": "terminal"})
    for _ in range(2):
        answer = port.get(f"/invocations/{id}/result")
        assert (answer.status_code, problem(answer)["invocation"]) == (422, id)


def test_a_journal_shows_the_steps(server, port):
    id = server.started("/Demo/total", json={"x": 1})
    server.ingress.get(f"/invocations/{id}/result")
    (step,) = port.get(f"/invocations/{id}/journal").json()["steps"]
    assert (step["kind"], step["state"], step["output"]) == ("step", "done", 2)
    assert port.get(f"/invocations/{id}/inputs", params={"step": step["id"]}).json() == step["inputs"]
    missing = port.get(f"/invocations/{id}/inputs", params={"step": "nothing#1"})
    assert (missing.status_code, problem(missing)["code"]) == (404, "HF104")
    assert problem(port.get(f"/invocations/{id}/inputs"))["detail"] == "the parameter 'step' is missing"


def test_a_journal_is_read_page_by_page_and_tells_last_what_is_waited_for(server, port):
    id = server.started("/Demo/rounds", json={"count": 3})
    promise = server.promise_of(id)
    whole = port.get(f"/invocations/{id}/journal").json()
    assert whole["next"] is None
    assert [(step["id"], step["place"]) for step in whole["steps"]] == [
        ("add#1", 0), ("add#2", 1), ("add#3", 2), ("ask#1", None),
    ]  # fmt: skip
    assert (whole["steps"][-1]["state"], whole["steps"][-1]["promise"]) == ("waiting", promise)
    pages, after = [], 0
    while after is not None:
        page = port.get(f"/invocations/{id}/journal", params={"after": after, "limit": 2}).json()
        pages.append(page["steps"])
        after = page["next"]
    assert pages == [whole["steps"][:2], whole["steps"][2:]]
    for wrong in ({"after": -1}, {"after": "x"}, {"limit": 0}, {"limit": 1001}):
        assert problem(port.get(f"/invocations/{id}/journal", params=wrong))["code"] == "HF603"


def test_one_in_a_queue_says_what_it_waits_for(server, port):
    key = f"queued-{port.base_url.port}"
    first, second = server.started(f"/Chat/{key}/wait"), server.started(f"/Chat/{key}/wait")
    assert port.get(f"/invocations/{first}").json()["queue"] is None
    assert port.get(f"/invocations/{second}").json()["queue"] == {
        "waits_for": "key", "name": f"Chat/{key}", "holder": first, "ahead": 0,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["", "/result", "/journal", "/events", "/inputs?step=x"])
def test_an_invocation_that_is_not_there_is_404(port, path):
    answer = port.get(f"/invocations/nobody{path}")
    assert (answer.status_code, problem(answer)["code"]) == (404, "HF104")


def test_one_curl_settles_a_promise(server, port):
    id = server.started("/Demo/approve", json={"amount": 5000})
    promise = server.promise_of(id)
    view = port.get(f"/promises/{promise}").json()
    assert (view["question"], view["status"], view["about"]) == ("Approve?", "open", {"amount": 5000})
    answer = port.post(f"/promises/{promise}/resolve", json=True)
    assert answer.json() == {"id": promise, "status": "resolved"}
    assert port.get(f"/invocations/{id}/result").json() is True
    late = port.post(f"/promises/{promise}/resolve", json=False)
    assert (late.status_code, problem(late)["code"]) == (409, "HF109")


def test_a_promise_is_rejected_with_a_reason(server, port):
    for content, reason in ((b'"too dear"', "too dear"), (b"", "rejected by the client")):
        id = server.started("/Demo/approve", json={"amount": 5000})
        answer = port.post(f"/promises/{server.promise_of(id)}/reject", content=content)
        assert answer.json()["status"] == "rejected"
        told = port.get(f"/invocations/{id}/result")
        assert (told.status_code, problem(told)["detail"]) == (409, reason)


@pytest.mark.parametrize(
    "verb, content, code",
    [
        ("resolve", b'"yes"', "HF102"),
        ("resolve", b"", "HF102"),
        ("resolve", b"{", "HF102"),
        ("resolve", b"true false", "HF102"),
        ("resolve", b"[" * 100_000, "HF102"),
        ("reject", b"5", "HF603"),
        ("reject", b"{", "HF603"),
    ],
)
def test_a_value_that_does_not_fit_settles_nothing(server, verb, content, code):
    id = server.started("/Demo/approve", json={})
    promise = server.promise_of(id)
    answer = server.ingress.post(f"/promises/{promise}/{verb}", content=content)
    assert (answer.status_code, problem(answer)["code"]) == (400, code)
    assert server.ingress.get(f"/promises/{promise}").json()["status"] == "open"


@pytest.mark.parametrize("call", [("GET", ""), ("POST", "/resolve"), ("POST", "/reject")])
def test_a_promise_that_is_not_there_is_404(port, call):
    method, path = call
    answer = port.request(method, f"/promises/prm_none{path}")
    assert (answer.status_code, problem(answer)["code"]) == (404, "HF105")


def test_a_signal_reaches_a_running_invocation(server, port):
    id = server.started("/Demo/hear")
    answer = port.post(f"/invocations/{id}/signals/word", json={"say": "hi"})
    assert (answer.status_code, answer.json()["id"]) == (202, id)
    assert port.get(f"/invocations/{id}/result").json() == {"say": "hi"}
    late = port.post(f"/invocations/{id}/signals/word", json=1)
    assert (late.status_code, problem(late)["code"]) == (409, "HF111")


def test_what_both_ports_say_of_themselves(server):
    for port, face in ((server.ingress, "ingress"), (server.admin, "admin")):
        about = port.get("/").json()
        assert (about["name"], about["face"]) == ("holdfast", face)
        assert port.get("/health").json() == {"status": "ok"}
        assert port.head("/health").content == b""


def test_the_ingress_has_no_task_control():
    with serving() as server:
        id = server.started("/Demo/hold")
        for path in (f"/invocations/{id}/cancel", f"/invocations/{id}/kill", "/invocations/purge?older_than=0"):
            assert server.ingress.post(path).status_code in {404, 405}
        assert server.ingress.delete(f"/invocations/{id}").status_code == 405
        assert server.ingress.get("/invocations").status_code == 404
