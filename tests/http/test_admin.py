"""The operators' port: task control, state, schedules, the store."""

import time

import pytest

from holdfast import Context, Holdfast, MemoryStore, Object, ObjectContext, Service
from holdfast.http.limits import HttpLimits
from tests.http.serving import problem, serving, wait_for

work = Service("Work")
shelf = Object("Shelf")
FAULT = {"there": True}


async def fetch(page: int) -> str:
    return f"page {page}"


async def shaky() -> str:
    if FAULT["there"]:
        raise TypeError("not mended yet")
    return "mended"


@work.handler
async def read(ctx: Context, pages: int = 2) -> list[str]:
    """Reads pages.

    One after another.
    """
    return [await ctx.run(fetch, page) for page in range(pages)]


@work.handler
async def hold(ctx: Context) -> bool:
    return await ctx.ask("Go on?", bool, about={"why": "test"})


@work.handler
async def parent(ctx: Context) -> list[str]:
    return await ctx.call(read, 1)


@work.handler
async def mend(ctx: Context) -> str:
    return await ctx.run(shaky)


@work.handler
async def crash(ctx: Context) -> None:
    await ctx.run(fetch, 1)
    if FAULT["there"]:
        raise RuntimeError("on purpose")


@shelf.handler
async def put(ctx: ObjectContext, name: str, value: int) -> None:
    ctx.set(name, value)
    ctx.append("log", name)


@shelf.handler
async def guard(ctx: ObjectContext) -> bool:
    return await ctx.ask("Let go?", bool)


@pytest.fixture(scope="module")
def server():
    with serving(work, shelf) as running:
        yield running


@pytest.fixture
def mended():
    yield lambda: FAULT.update(there=False)
    FAULT.update(there=True)


def move(server, invocation, verb, **query):
    return server.admin.post(f"/invocations/{invocation}/{verb}", params=query)


def ended(server, id):
    return wait_for(lambda: (status := server.status(id)) in {"done", "failed", "cancelled", "killed"} and status)


def test_a_handler_is_started_by_name(server):
    query = {"target": "Work/read", "id": "by-name", "delay": "PT0.01S"}
    answer = server.admin.post("/invocations", params=query, json={"pages": 1})
    assert (answer.status_code, answer.json()["id"]) == (202, "by-name")
    assert server.admin.get("/invocations/by-name/result").json() == ["page 0"]
    put_ = server.admin.post("/invocations", params={"target": "Shelf/put", "key": "n"}, json={"name": "a", "value": 1})
    assert ended(server, put_.json()["id"]) == "done"
    assert server.admin.post("/invocations", params={"target": "Work/read"}).status_code == 202
    assert problem(server.admin.post("/invocations", params={"target": "Work/lost"}))["code"] == "HF101"
    assert problem(server.admin.post("/invocations", params={"target": "Shelf/put"}))["code"] == "HF102"
    assert problem(server.admin.post("/invocations"))["code"] == "HF603"


def test_a_list_is_filtered_and_read_page_by_page(server):
    ids = [server.started("/Work/read", json={"pages": 0}, params={"id": f"page-{number}"}) for number in range(5)]
    for id in ids:
        ended(server, id)
    found, before = [], None
    while True:
        query = {"target": "Work/read", "status": "done", "limit": 2} | ({"before": before} if before else {})
        page = server.admin.get("/invocations", params=query).json()
        found += [view["id"] for view in page["invocations"]]
        before = page["next"]
        if before is None:
            break
    assert [id for id in found if id.startswith("page-")] == ids[::-1]
    assert all(view["output"] is None for view in page["invocations"])


def test_children_are_listed_by_their_parent(server):
    id = server.started("/Work/parent")
    assert ended(server, id) == "done"
    (child,) = server.admin.get("/invocations", params={"parent": id}).json()["invocations"]
    assert (child["target"], child["parent"]) == ("Work/read", id)


def test_an_object_is_listed_by_its_key(server):
    server.ingress.post("/Shelf/k%2F1/put", json={"name": "a", "value": 1})
    (view,) = server.admin.get("/invocations", params={"key": "k/1"}).json()["invocations"]
    assert (view["target"], view["key"]) == ("Shelf/put", "k/1")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "state=done", "status="])
def test_a_filter_that_cannot_be_is_refused(server, query):
    assert problem(server.admin.get(f"/invocations?{query}"))["code"] == "HF603"


def test_a_status_or_id_that_nobody_has_is_refused(server):
    assert problem(server.admin.get("/invocations?status=lost"))["code"] == "HF102"
    assert server.admin.get("/invocations?before=nobody").status_code == 404


@pytest.mark.parametrize("verb, status", [("cancel", "cancelled"), ("kill", "killed")])
def test_an_invocation_is_ended_with_a_reason(server, verb, status):
    id = server.started("/Work/hold")
    server.promise_of(id)
    assert move(server, id, verb, reason="not needed").json()["id"] == id
    assert ended(server, id) == status
    assert server.admin.get(f"/invocations/{id}").json()["reason"].endswith("not needed")
    told = server.ingress.get(f"/invocations/{id}/result")
    assert (told.status_code, problem(told)["code"]) == (409, "HF504")
    assert problem(move(server, id, verb))["code"] == "HF111"


def test_an_invocation_is_paused_and_goes_on(server):
    id = server.started("/Work/hold")
    promise = server.promise_of(id)
    assert move(server, id, "pause", reason="lunch").json()["status"] == "paused"
    told = server.ingress.get(f"/invocations/{id}/result")
    assert (told.status_code, problem(told)["code"]) == (409, "HF505")
    assert "lunch" in problem(told)["detail"]
    assert move(server, id, "resume").status_code == 200
    server.admin.post(f"/promises/{promise}/resolve", json=True)
    assert server.ingress.get(f"/invocations/{id}/result").json() is True
    assert problem(move(server, id, "resume"))["code"] == "HF111"


def test_a_fault_pauses_and_after_mending_it_goes_on(server, mended):
    id = server.started("/Work/mend")
    wait_for(lambda: server.status(id) == "paused")
    mended()
    move(server, id, "resume")
    assert server.ingress.get(f"/invocations/{id}/result").json() == "mended"


def test_a_failed_one_is_opened_again(server, mended):
    id = server.started("/Work/crash")
    assert ended(server, id) == "failed"
    mended()
    assert move(server, id, "retry").status_code == 200
    assert ended(server, id) == "done"
    assert problem(move(server, id, "retry"))["code"] == "HF111"


def test_a_run_is_made_anew_from_a_step(server):
    id = server.started("/Work/read", json={"pages": 3})
    ended(server, id)
    steps = [step["id"] for step in server.admin.get(f"/invocations/{id}/journal").json()["steps"]]
    again = move(server, id, "restart", **{"from": steps[2], "id": "again-1"})
    assert (again.status_code, again.json()["id"]) == (202, "again-1")
    assert again.headers["location"] == "/invocations/again-1"
    assert server.ingress.get("/invocations/again-1/result").json() == ["page 0", "page 1", "page 2"]
    assert id in server.admin.get("/invocations/again-1").json()["origin"]
    assert move(server, id, "restart").status_code == 202
    assert problem(move(server, id, "restart", **{"from": "nothing#1"}))["code"] == "HF104"


def test_a_run_is_forked_with_another_result(server):
    id = server.started("/Work/read", json={"pages": 3})
    ended(server, id)
    step = server.admin.get(f"/invocations/{id}/journal").json()["steps"][1]["id"]
    fork = server.admin.post(f"/invocations/{id}/fork", params={"step": step}, json="mine")
    assert fork.status_code == 202
    assert server.ingress.get(f"/invocations/{fork.json()['id']}/result").json() == ["page 0", "mine", "page 2"]
    assert problem(server.admin.post(f"/invocations/{id}/fork", params={"step": step}))["code"] == "HF603"
    assert problem(server.admin.post(f"/invocations/{id}/fork", json="mine"))["code"] == "HF603"
    assert problem(server.admin.post(f"/invocations/{id}/fork", params={"step": step}, json=5))["code"] == "HF102"


@pytest.mark.parametrize("verb", ["POST", "DELETE"])
def test_an_ended_invocation_is_deleted(server, verb):
    id = server.started("/Work/hold")
    path = f"/invocations/{id}" + ("/purge" if verb == "POST" else "")
    assert problem(server.admin.request(verb, path))["code"] == "HF111"
    move(server, id, "kill")
    assert server.admin.request(verb, path).status_code == 204
    assert server.admin.get(f"/invocations/{id}").status_code == 404


def test_what_ended_long_ago_is_deleted_together(server):
    id = server.started("/Work/read", json={"pages": 0})
    ended(server, id)
    assert server.admin.post("/invocations/purge", params={"older_than": "P1D"}).json() == {"purged": 0}
    time.sleep(0.01)
    assert server.admin.post("/invocations/purge", params={"older_than": "0"}).json()["purged"] >= 1
    assert server.admin.get(f"/invocations/{id}").status_code == 404
    assert problem(server.admin.post("/invocations/purge"))["code"] == "HF603"


def test_questions_are_listed(server):
    id = server.started("/Work/hold")
    promise = server.promise_of(id)
    (ask,) = [one for one in server.admin.get("/asks").json() if one["id"] == promise]
    assert (ask["question"], ask["schema"], ask["about"]) == ("Go on?", {"type": "boolean"}, {"why": "test"})
    move(server, id, "kill")


def test_state_is_read_and_written(server):
    for key in ("a", "b", "c/d"):
        server.ingress.post("/Shelf/{}/put".format(key.replace("/", "%2F")), json={"name": "n", "value": 1})
    keys = server.admin.get("/objects/Shelf", params={"limit": 2}).json()
    assert keys == {"keys": ["a", "b"], "next": "b"}
    assert server.admin.get("/objects/Shelf", params={"after": "b"}).json()["keys"][-1] > "c"
    assert server.admin.get("/objects/Shelf/c%2Fd").json() == {"n": 1, "log": ["n"]}
    assert server.admin.put("/objects/Shelf/a/n", json=7).status_code == 204
    assert server.admin.delete("/objects/Shelf/a/log").status_code == 204
    assert server.admin.get("/objects/Shelf/a").json() == {"n": 7}
    for content in (b"null", b"", b"{"):
        assert problem(server.admin.put("/objects/Shelf/a/n", content=content))["code"] == "HF603"


def test_state_is_not_written_under_a_running_handler(server):
    id = server.started("/Shelf/busy/guard")
    promise = server.promise_of(id)
    refused = server.admin.put("/objects/Shelf/busy/n", json=1)
    assert (refused.status_code, problem(refused)["code"]) == (409, "HF111")
    server.admin.post(f"/promises/{promise}/resolve", json=True)
    server.ingress.get(f"/invocations/{id}/result")
    assert server.admin.put("/objects/Shelf/busy/n", json=1).status_code == 204


def test_handlers_are_listed_with_their_schemas(server):
    listed = {one["target"]: one for one in server.admin.get("/handlers").json()}
    assert listed["Work/read"]["arguments"]["properties"] == {"pages": {"type": "integer", "default": 2}}
    assert listed["Work/read"]["returns"] == {"type": "array", "items": {"type": "string"}}
    assert listed["Shelf/put"]["kind"] == "object"


def test_what_runs_is_checked_against_the_code(server):
    id = server.started("/Work/hold")
    server.promise_of(id)
    (check,) = [one for one in server.admin.get("/check").json() if one["id"] == id]
    assert (check["ok"], check["problem"]) == (True, None)
    move(server, id, "kill")


def test_info_and_metrics_count(server):
    server.ingress.post("/Work/read", json={"pages": 0})
    info = server.admin.get("/info").json()
    assert info["counts"]["done"] >= 1
    assert info["services"] == ["Shelf", "Work"]
    metrics = server.admin.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'holdfast_invocations{{status="done"}} {info["counts"]["done"]}' in metrics.text.splitlines()
    assert all(line.startswith(("#", "holdfast_")) for line in metrics.text.splitlines())


def test_a_backup_goes_beside_the_store_and_nowhere_else(server, tmp_path):
    done = server.admin.post("/backup", json={"path": "copy.db"})
    copy = server.program.store_path.with_name("copy.db")
    assert done.json() == {"path": "copy.db", "bytes": copy.stat().st_size}
    with Holdfast(copy) as client:
        assert client.list(limit=1)
    outside = tmp_path / "out.db"
    store = server.program.store_path.name
    for name in (str(outside), "../out.db", "a/b", "..", ".", "", "x\0y", store, f"{store}-journal", f"{store}-wal"):
        assert problem(server.admin.post("/backup", json={"path": name}))["code"] == "HF603"
    assert not outside.exists()
    assert server.admin.post("/backup", json={"path": "copy.db"}).status_code == 400
    for content in (b"", b"[]", b'{"path":5}', b'{"path":"x.db","mode":1}'):
        assert problem(server.admin.post("/backup", content=content))["code"] == "HF603"


def test_the_store_is_read_by_sql(server):
    server.ingress.post("/Work/read?id=by-sql", json={"pages": 0})
    table = server.admin.post("/sql", json={"query": "SELECT id, status FROM invocation WHERE id = 'by-sql'"}).json()
    assert table == {"columns": ["id", "status"], "rows": [["by-sql", 4]], "cut": False}
    refused = server.admin.post("/sql", json={"query": "DELETE FROM invocation"})
    assert (refused.status_code, problem(refused)["code"]) == (400, "HF102")


def test_a_store_that_is_no_file_has_neither_sql_nor_backup_files():
    with serving(work, store=MemoryStore()) as server:
        assert problem(server.admin.post("/sql", json={"query": "SELECT 1"}))["detail"] == "the store is no file"
        assert problem(server.admin.post("/backup", json={"path": "a"}))["detail"] == "the store is no file"


def test_schedules_are_listed_paused_and_fired():
    def plan(hf):
        hf.schedule(read, 1, id="hourly", cron="0 * * * *")

    with serving(work, prepare=plan, limits=HttpLimits()) as server:
        (one,) = server.admin.get("/schedules").json()
        assert (one["id"], one["target"], one["paused"]) == ("hourly", "Work/read", False)
        fired = server.admin.post("/schedules/hourly/trigger")
        assert fired.status_code == 202
        assert server.ingress.get(f"/invocations/{fired.json()['id']}/result").json() == ["page 0"]
        assert server.admin.post("/schedules/hourly/pause").status_code == 204
        assert server.admin.get("/schedules").json()[0]["paused"] is True
        assert server.admin.post("/schedules/hourly/resume").status_code == 204
        for verb in ("pause", "resume", "trigger"):
            missing = server.admin.post(f"/schedules/nightly/{verb}")
            assert (missing.status_code, problem(missing)["code"]) == (404, "HF114")
