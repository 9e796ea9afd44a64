"""The durable transport over httpx and httpx2: what is sent, recorded, shown, retried and refused."""

from __future__ import annotations

import asyncio
import json

import pytest

import holdfast
from holdfast import Context, Holdfast, InvocationFailed, InvocationPaused, MemoryStore, Retry, StepFailed
from holdfast.integrations import _http
from tests.crash.mortal import MortalStore
from tests.integrations.libraries import LIBRARIES, Library

pytestmark = pytest.mark.anyio
SOON = Retry(max_attempts=4, initial=0)


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request) -> Library:
    return request.param


async def run(handler, store=None, **options):
    """The result of a handler in a new engine, and its journal's lines of steps."""
    hf = Holdfast(store or MemoryStore(), **options)
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id="it")
        result = await handle.result(5)
        return result, [line for line in await handle.journal() if line.kind == "step"]


async def pause_of(handler, store=None):
    """Why a handler was paused."""
    hf = Holdfast(store or MemoryStore())
    hf.handler(handler)
    async with hf as client:
        with pytest.raises(InvocationPaused) as caught:
            await (await client.start(handler, id="it")).result(5)
        return caught.value.reason


async def test_each_request_is_a_step_and_is_not_sent_again(library):
    service = library.service(lambda request: library.json({"path": request.url.path}))
    client = library.client(service)

    async def h(ctx: Context) -> list:
        one = await client.get("/v1/models", params={"limit": 3})
        two = await client.post("/v1/chat/completions", json={"model": "m"})
        await asyncio.sleep(0)
        return [one.json(), two.json(), two.headers["content-type"], one.elapsed.total_seconds() >= 0]

    store = MemoryStore()
    result, lines = await run(h, store)
    assert result == [{"path": "/v1/models"}, {"path": "/v1/chat/completions"}, "application/json", True]
    assert [line.id for line in lines] == ["GET v1.models#1", "POST v1.chat.completions#1"]
    assert lines[1].inputs == {
        "method": "POST", "url": "https://api.example/v1/chat/completions", "body": {"model": "m"},
    }  # fmt: skip
    assert lines[1].output["json"] == {"path": "/v1/chat/completions"}
    assert len(service.asked) == 2
    assert (await run(h, store))[0] == result
    assert len(service.asked) == 2


async def test_a_replay_in_the_middle_sends_only_what_is_new(library):
    service = library.service(lambda request: library.json({"n": int(request.url.path.strip("/"))}))
    client = library.client(service)

    async def h(ctx: Context) -> list:
        first = await client.get("/1")
        both = await asyncio.gather(client.get("/2"), client.get("/3"))
        last = await client.get("/4")
        return [answer.json()["n"] for answer in (first, *both, last)]

    lives = MortalStore()
    expected, _ = await run(h, lives)
    commits, sent = lives.commits, len(service.asked)
    assert (expected, sent) == ([1, 2, 3, 4], 4)
    for commit in range(1, commits + 1):
        for keeps_last in (False, True):
            service.asked.clear()
            store = MortalStore()
            store.die_at(commit, keeps_last=keeps_last)
            with pytest.raises(holdfast.StoreError):
                await run(h, store)
            before = len(service.asked)
            store.open()
            row = store.find("it")
            recorded = 0 if row is None else len(store.entries(row.n))
            store.close()
            assert (await run(h, store))[0] == expected
            assert len(service.asked) - before == 4 - recorded


async def test_outside_a_handler_and_in_a_steps_body_it_is_the_wrapped_transport(library):
    service = library.service(lambda _: library.json([1]))
    client = library.client(service)

    async def fetch() -> list:
        return (await client.post("/x")).json()

    async def h(ctx: Context) -> list:
        return await ctx.run(fetch)

    assert await fetch() == [1]
    result, lines = await run(h)
    assert (result, [line.id for line in lines]) == ([1], ["fetch#1"])
    assert ["idempotency-key" in request.headers for request in service.asked] == [False, False]


async def test_secrets_are_sent_and_never_stored(library):
    service = library.service(lambda _: library.json({"ok": True}, **{"set-cookie": "session=SECRET-6"}))
    client = library.client(service, hide=["Floor-Pass"])

    async def h(ctx: Context) -> str:
        headers = {"Authorization": "Bearer SECRET-1", "X-Api-Key": "SECRET-2", "Cookie": "c=SECRET-3"}
        url = "https://api.example/x?q=Rome&api_key=SECRET-5&KEY=SECRET-7&floor_pass=SECRET-8"
        await client.post(url, headers=headers, json={"api_key": "SECRET-9", "max_tokens": 5, "q": "Rome"})
        await client.post("/token", data={"client_secret": "SECRET-10", "grant": "plain"})
        await client.get("https://user:SECRET-4@api.example/z")
        answer = await client.get("/y", auth=("user", "SECRET-11"))
        return repr(dict(answer.headers))

    store = MemoryStore()
    result, lines = await run(h, store)
    assert "SECRET" not in result
    assert lines[0].inputs["url"] == ("https://api.example/x?q=Rome&api_key=(hidden)&KEY=(hidden)&floor_pass=(hidden)")
    assert lines[0].inputs["body"] == {"api_key": "(hidden)", "max_tokens": 5, "q": "Rome"}
    assert lines[1].inputs["body"] == [["client_secret", "(hidden)"], ["grant", "plain"]]
    assert lines[2].inputs["url"] == "https://api.example/z"
    assert "SECRET" not in repr(vars(store))
    first = service.asked[0]
    assert first.headers["authorization"] == "Bearer SECRET-1"
    assert b"SECRET-9" in first.content
    assert "SECRET-5" in str(first.url)


async def begin(handler, store):
    """The first life: until the handler sleeps."""
    hf = Holdfast(store)
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id="it")
        with pytest.raises(TimeoutError):
            await handle.result(0.05)


async def test_a_rotated_key_is_the_same_request(library):
    keys = iter(["one", "two", "three", "four"])
    service = library.service(lambda _: library.json({}))
    client = library.client(service)

    async def h(ctx: Context) -> str:
        await client.post("/x", params={"api_key": next(keys)}, headers={"Authorization": next(keys)})
        await ctx.sleep(0.15)
        return "done"

    store = MemoryStore()
    await begin(h, store)
    assert (await run(h, store))[0] == "done"
    assert list(keys) == []
    assert len(service.asked) == 1


async def test_another_text_at_the_same_place_is_a_mismatch(library):
    said = ["Rome"]
    service = library.service(lambda _: library.json({}))
    client = library.client(service)

    async def h(ctx: Context) -> str:
        await client.post("/x", json={"messages": [{"role": "user", "content": said[0]}]})
        await ctx.sleep(0.15)
        return "done"

    store = MemoryStore()
    await begin(h, store)
    said[0] = "Oslo"
    assert "POST x#1" in await pause_of(h, store)
    assert len(service.asked) == 1


async def test_a_multipart_boundary_is_no_part_of_the_request(library):
    service = library.service(lambda _: library.json({}))
    client = library.client(service)
    boundaries = []

    async def h(ctx: Context) -> str:
        request = client.build_request("POST", "/files", files={"file": ("a.txt", b"hello")}, data={"to": "x"})
        boundaries.append(request.headers["content-type"])
        await client.send(request)
        await ctx.sleep(0.15)
        return "sent"

    store = MemoryStore()
    await begin(h, store)
    result, lines = await run(h, store)
    assert result == "sent"
    assert len(set(boundaries)) == 2
    assert len(service.asked) == 1
    assert lines[0].inputs["body"].keys() == {"type", "bytes", "digest"}
    assert b"hello" in service.asked[0].content


async def test_one_key_for_all_attempts_on_what_is_not_safe_to_repeat(library):
    def answer(request):
        failing = sum(one.method == request.method for one in service.asked) < 3
        return library.json({"error": "busy"}, 503) if failing else library.json({})

    service = library.service(answer)
    client = library.client(service, retry=SOON)

    async def h(ctx: Context) -> list:
        codes = [(await client.request(method, "/x")).status_code for method in ("POST", "GET", "PATCH", "DELETE")]
        own = await client.post("/own", headers={"Idempotency-Key": "mine"})
        return [*codes, own.status_code]

    result, _ = await run(h)
    assert result == [200] * 5
    keys = {method: {one.headers.get("idempotency-key") for one in service.asked if one.method == method}
            for method in ("GET", "DELETE", "PATCH")}  # fmt: skip
    assert keys["GET"] == keys["DELETE"] == {None}
    assert len(keys["PATCH"]) == 1
    posts = [one.headers["idempotency-key"] for one in service.asked if one.method == "POST"]
    assert len(set(posts[:3])) == 1
    assert posts[3] == "mine"
    assert {posts[0]} != keys["PATCH"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_the_last_answer_is_the_clients_own_error(library, status):
    service = library.service(lambda _: library.json({"error": "no"}, status, **{"x-request-id": "r1"}))
    client = library.client(service, retry=SOON)

    async def h(ctx: Context) -> list:
        answer = await client.post("/x")
        try:
            answer.raise_for_status()
        except library.module.HTTPStatusError as error:
            told = error.response.headers
            return [error.response.status_code, told["x-should-retry"], told["x-request-id"], answer.json()]
        return []

    result, lines = await run(h)
    assert result == [status, "false", "r1", {"error": "no"}]
    assert len(service.asked) == 4
    assert lines[0].tries == 4


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_what_asking_again_cannot_mend_is_not_asked_again(library, status):
    service = library.service(lambda _: library.json({"error": "no"}, status))
    client = library.client(service)

    async def h(ctx: Context) -> list:
        answer = await client.post("/x")
        return [answer.status_code, answer.headers["x-should-retry"]]

    assert (await run(h))[0] == [status, "false"]
    assert len(service.asked) == 1


async def test_the_service_says_whether_to_ask_again(library):
    def answer(request):
        again = {"/broke": "false", "/odd": "true"}[request.url.path]
        status = {"/broke": 429, "/odd": 409}[request.url.path]
        return library.json({}, status, **{"x-should-retry": again})

    service = library.service(answer)
    client = library.client(service, retry=SOON)

    async def h(ctx: Context) -> list:
        return [(await client.post(path)).headers.get_list("x-should-retry") for path in ("/broke", "/odd")]

    assert (await run(h))[0] == [["false"], ["false"]]
    assert [request.url.path for request in service.asked] == ["/broke", *["/odd"] * 4]


async def test_retry_after_is_honoured(library):
    loop = asyncio.get_running_loop()
    at = []

    def answer(_):
        at.append(loop.time())
        return library.json({}, 429, **{"retry-after": "1"}) if len(at) == 1 else library.json({})

    client = library.client(library.service(answer), retry=SOON)

    async def h(ctx: Context) -> int:
        return (await client.post("/x")).status_code

    assert (await run(h))[0] == 200
    assert at[1] - at[0] >= 1


async def test_a_connection_that_fails_to_the_last_is_the_steps_failure(library):
    service = library.service(lambda _: library.module.ConnectError("refused"))
    client = library.client(service, retry=SOON)

    async def h(ctx: Context) -> list:
        try:
            await client.post("/x")
        except StepFailed as failed:
            return [failed.error_type, failed.attempts]
        return []

    assert (await run(h))[0] == ["ConnectError", 4]
    assert len(service.asked) == 4


async def test_an_impossible_url_pauses_and_is_not_tried_for_a_day(library):
    service = library.service(lambda _: library.module.UnsupportedProtocol("no such scheme"))
    client = library.client(service)

    async def h(ctx: Context) -> str:
        return (await client.post("/x")).text

    assert "no such scheme" in await pause_of(h)
    assert len(service.asked) == 1


async def test_a_stream_is_told_live_and_recorded_whole(library):
    gate = asyncio.Event()

    async def answer():
        pieces = [
            b'data: {"n": 1}\n\ndata: {"',
            b'n": 2}\r\n',
            b"\r\n: hello\n\n",
            b"event: end\ndata: [DONE]\n\n",
        ]

        class Waiting(library.module.AsyncByteStream):
            async def __aiter__(self):
                for place, piece in enumerate(pieces):
                    if place == 3:
                        await gate.wait()
                    yield piece

            async def aclose(self):
                pass

        return library.module.Response(200, headers={"content-type": "text/event-stream"}, stream=Waiting())

    service = library.service(lambda _: answer())
    client = library.client(service)

    async def h(ctx: Context) -> list:
        async with client.stream("POST", "/chat", json={"stream": True}) as response:
            return [line async for line in response.aiter_lines() if line]

    hf = Holdfast(MemoryStore())
    hf.handler(h)
    async with hf as api:
        handle = await api.start(h, id="it")
        live = []
        async for event in handle.watch():
            if event.kind == "chunk":
                live.append(event.data["event"])
                if len(live) == 2:
                    gate.set()  # two came while the answer was still on its way
        result = await handle.result(5)
    assert live[:2] == [{"event": "message", "data": {"n": 1}}, {"event": "message", "data": {"n": 2}}]
    assert result == ['data: {"n": 1}', 'data: {"n": 2}', ": hello", "event: end", "data: [DONE]"]


async def test_a_stream_that_is_cut_is_asked_for_again_and_handed_on_whole(library):
    def answer(_):
        cut = len(service.asked) == 1
        end = library.module.RemoteProtocolError("cut") if cut else b"data: 2\n\n"
        return library.stream(b"data: 1\n\n", end)

    service = library.service(answer)
    client = library.client(service, retry=SOON)

    async def h(ctx: Context) -> str:
        async with client.stream("GET", "/chat") as response:
            return "".join([text async for text in response.aiter_text()])

    result, lines = await run(h)
    assert result == "data: 1\n\ndata: 2\n\n"
    assert (len(service.asked), lines[0].tries) == (2, 2)


BODIES = {
    "json": (b'{"a": [1, 2.5, null],\n "b": "\xc3\xa9"}', "application/json", "json"),
    "json that would lose a digit": (b'{"price": 1.10}', "application/json", "text"),
    "json with a key twice": (b'{"a": 1, "a": 2}', "application/json", "text"),
    "json that is a number": (b"17", "application/json", "text"),
    "no json at all": (b"{oops", "application/json", "text"),
    "text": ("Ünï".encode(), "text/plain; charset=utf-8", "text"),
    "latin text": ("Ünï".encode("latin-1"), "text/plain; charset=latin-1", "data"),
    "bytes": (bytes(range(256)), "image/png", "data"),
    "nothing": (b"", "text/plain", "text"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_comes_back_as_it_was(library, case):
    body, kind, form = BODIES[case]
    client = library.client(library.service(lambda _: library.stream(body, kind=kind)))

    async def h(ctx: Context) -> list:
        answer = await client.get("/x")
        return [answer.content.hex(), answer.headers["content-type"], len(answer.text)]

    result, lines = await run(h)
    given = bytes.fromhex(result[0])
    assert given == body or (form == "json" and json.loads(given) == json.loads(body))
    assert result[1] == kind
    assert form in lines[0].output or body == b""


async def test_a_compressed_answer_is_recorded_as_it_reads(library):
    client = library.client(library.service(lambda _: library.zipped({"a": "long" * 100})))

    async def h(ctx: Context) -> str:
        return (await client.get("/x")).json()["a"]

    result, lines = await run(h)
    assert result == "long" * 100
    assert lines[0].output["json"] == {"a": "long" * 100}


async def test_only_headers_that_are_looked_at_are_recorded(library):
    given = {"etag": "e", "x-ratelimit-remaining": "3", "cf-ray": "r", "X-Total-Count": "7", "date": "today"}
    client = library.client(library.service(lambda _: library.json({}, **given)), keep=["X-Total-Count"])

    async def h(ctx: Context) -> dict:
        return dict((await client.get("/x")).headers)

    headers = (await run(h))[0]
    assert headers.keys() == {"content-type", "content-length", "etag", "x-ratelimit-remaining", "x-total-count"}


async def test_redirects_are_followed_step_by_step(library):
    def answer(request):
        if request.url.path == "/old":
            return library.module.Response(307, headers={"location": "/new"})
        return library.json({"at": request.url.path})

    client = library.client(library.service(answer))

    async def h(ctx: Context) -> dict:
        return (await client.post("/old", json={"a": 1}, follow_redirects=True)).json()

    result, lines = await run(h)
    assert result == {"at": "/new"}
    assert [line.id for line in lines] == ["POST old#1", "POST new#1"]


async def test_too_large_an_answer_pauses_before_it_is_read_whole(library, monkeypatch):
    monkeypatch.setattr(_http, "BODY_BYTES_MAX", 100)
    given = []

    class Endless(library.module.AsyncByteStream):
        async def __aiter__(self):
            while True:
                given.append(1)
                yield b"x" * 30

        async def aclose(self):
            given.append("closed")

    client = library.client(library.service(lambda _: library.module.Response(200, stream=Endless())))

    async def h(ctx: Context) -> str:
        return (await client.get("/film.mp4")).text

    reason = await pause_of(h)
    assert "HF202" in reason
    assert "GET film.mp4" in reason
    assert given == [1, 1, 1, 1, "closed"]


async def test_a_request_of_many_megabytes_is_sent_whole_and_not_shown(library):
    service = library.service(lambda _: library.json({}))
    client = library.client(service)

    async def h(ctx: Context) -> int:
        return (await client.post("/x", content=b"\x00\xff" * 20_000_000)).status_code

    result, lines = await run(h)
    assert result == 200
    assert len(service.asked[0].content) == 40_000_000
    assert lines[0].inputs["body"]["bytes"] == 40_000_000


async def test_a_cancelled_wait_stops_the_request(library):
    seen = []

    async def answer():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("stopped")
            raise

    client = library.client(library.service(lambda _: answer()))

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.05):
                await client.get("/slow")
        except TimeoutError:
            return "late"
        return ""

    assert (await run(h))[0] == "late"
    await asyncio.sleep(0.01)
    assert seen == ["stopped"]


async def refused(handler) -> str:
    hf = Holdfast(MemoryStore())
    hf.handler(handler)
    async with hf as client:
        with pytest.raises(InvocationFailed) as caught:
            await (await client.start(handler)).result(5)
        return caught.value.message


async def test_a_client_is_neither_made_nor_opened_nor_closed_in_a_handler(library):
    service = library.service(lambda _: library.json({}))
    shared = library.client(service)

    async def makes(ctx: Context) -> None:
        library.client(service)

    async def enters(ctx: Context) -> None:
        async with shared:
            pass

    async def closes(ctx: Context) -> None:
        await shared.aclose()

    assert "made in a handler" in await refused(makes)
    assert "opened by async with in a handler" in await refused(enters)
    fresh = library.client(service)
    shared = fresh
    assert "closed in a handler" in await refused(closes)
    assert service.closed == 0


async def test_opened_and_closed_outside_it_opens_and_closes_the_wrapped_one(library):
    service = library.service(lambda _: library.json({}))
    async with library.client(service) as client:
        await client.get("/x")
    await library.client(service).aclose()
    assert service.closed == 2


async def test_a_websocket_is_refused(library):
    client = library.client(library.service(lambda _: library.json({})))

    async def h(ctx: Context) -> None:
        await client.get("/ws", headers={"upgrade": "websocket"})

    assert "WebSocket" in await refused(h)


async def test_a_policy_of_pauses_pauses(library):
    client = library.client(
        library.service(lambda _: library.json({}, 503)), retry=Retry(max_attempts=2, initial=0, then="pause")
    )

    async def h(ctx: Context) -> None:
        await client.get("/x")

    assert "503" in await pause_of(h)
