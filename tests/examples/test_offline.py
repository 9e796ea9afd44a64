"""The offline services speak as the real ones do: read by the real openai client and checked by its own types."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from examples.offline import Conversation, Fault, OfflineServer, Reply, ToolCall

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HELLO = [{"role": "user", "content": "Good morning, all of you"}]
KEY = "Bearer sk-secret-for-the-test"
TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOLS = [{"type": "function", "function": TOOL}]
RESPONSE_TOOLS = [{"type": "function", "strict": False, **TOOL}]


def looker(talk: Conversation) -> Reply:
    """Looks at two things at once, then tells what it saw."""
    seen = talk.results("look")
    if len(seen) < 2:
        return Reply(calls=tuple(ToolCall("look", {"at": f"the sky {n}"}) for n in (1, 2))[len(seen) :])
    return Reply("I saw " + " and ".join(seen))


@pytest.fixture(scope="module")
def shared() -> Iterator[OfflineServer]:
    with OfflineServer(models={"looker": looker}) as server:
        yield server


@pytest.fixture
def server(shared: OfflineServer) -> OfflineServer:
    shared.reset()
    return shared


@pytest.fixture
def client(server: OfflineServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="offline", max_retries=0) as made:
        yield made


def raw(server: OfflineServer, path: str, body: dict, **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers={"authorization": KEY, **headers}, timeout=10)


def events(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# What leaves the server is checked whole by the client's types, which the client itself does not do.


@pytest.mark.parametrize("model", ["any", "looker"])
def test_chat_answers_fit_the_clients_types(server, model):
    body = {"model": model, "messages": HELLO, "tools": CHAT_TOOLS, "stream_options": {"include_usage": True}}
    whole = ChatCompletion.model_validate_json(raw(server, CHAT, body).content)
    assert whole.usage
    assert whole.usage.prompt_tokens > 0 < whole.usage.completion_tokens
    chunks = events(raw(server, CHAT, {**body, "stream": True}).text)
    assert len(chunks) > 3
    for chunk in chunks:
        assert ChatCompletionChunk.model_validate(chunk).id == chunks[0]["id"]


@pytest.mark.parametrize("model", ["any", "looker"])
def test_responses_answers_fit_the_clients_types(server, model):
    body = {"model": model, "input": "Good morning", "instructions": "Be kind.", "tools": RESPONSE_TOOLS}
    whole = Response.model_validate_json(raw(server, RESPONSES, body).content)
    assert whole.usage
    assert whole.usage.input_tokens_details.cached_tokens == 0
    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    seen = [adapter.validate_python(event) for event in events(raw(server, RESPONSES, {**body, "stream": True}).text)]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[0].type == "response.created"
    assert seen[-1].type == "response.completed"
    assert [item.type for item in seen[-1].response.output] == [item.type for item in whole.output]


# The client itself, as the examples use it.


def test_chat_gives_text_and_usage(client, server):
    answer = client.chat.completions.create(model="any", messages=HELLO)
    assert answer.choices[0].message.content == "You said: Good morning, all of you"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert server.tokens() == answer.usage.total_tokens


def test_chat_streams_the_same_text(client):
    with client.chat.completions.create(
        model="any", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).startswith("You said: Good morning")
    assert chunks[-1].usage.total_tokens > 0
    assert not chunks[-1].choices


def test_chat_tool_calls_go_round_in_both_forms(client):
    streamed = ""
    with client.chat.completions.stream(model="looker", messages=HELLO, tools=CHAT_TOOLS) as stream:
        streamed = stream.get_final_completion().choices[0].message
    message = client.chat.completions.create(model="looker", messages=HELLO, tools=CHAT_TOOLS).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["look", "look"]
    assert [call.id for call in streamed.tool_calls] == [call.id for call in message.tool_calls]
    assert [c.function.arguments for c in streamed.tool_calls] == [c.function.arguments for c in message.tool_calls]
    told = [{"role": "tool", "tool_call_id": c.id, "content": f"star {i}"} for i, c in enumerate(message.tool_calls)]
    history = [*HELLO, message.model_dump(exclude_none=True), *told]
    last = client.chat.completions.create(model="looker", messages=history, tools=CHAT_TOOLS)
    assert last.choices[0].message.content == "I saw star 0 and star 1"


def test_one_tool_call_at_a_time_when_the_client_wants_it(client):
    answer = client.chat.completions.create(model="looker", messages=HELLO, tools=CHAT_TOOLS, parallel_tool_calls=False)
    assert len(answer.choices[0].message.tool_calls) == 1


def test_responses_tool_calls_go_round_in_both_forms(client):
    with client.responses.stream(model="looker", input="Look up", tools=RESPONSE_TOOLS) as stream:
        streamed = stream.get_final_response()
    whole = client.responses.create(model="looker", input="Look up", tools=RESPONSE_TOOLS)
    assert [item.call_id for item in streamed.output] == [item.call_id for item in whole.output]
    told = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"star {i}"}
        for i, item in enumerate(whole.output)
    ]
    history = [{"role": "user", "content": "Look up"}, *[item.model_dump() for item in whole.output], *told]
    last = client.responses.create(model="looker", input=history, tools=RESPONSE_TOOLS)
    assert last.output_text == "I saw star 0 and star 1"


def test_responses_stream_text(client):
    with client.responses.stream(model="any", input="Good night") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(pieces) == stream.get_final_response().output_text == "You said: Good night"


def test_models_are_listed(client, server):
    assert {model.id for model in client.models.list()} == {"looker", "offline"}
    for row in httpx.get(f"{server.url}/v1/models").json()["data"]:
        Model.model_validate(row)


# Faults.


def test_the_client_outlasts_two_failures(server):
    server.order(Fault("error", path=CHAT, status=500, times=1))
    server.order(Fault("error", path=CHAT, status=429, retry_after=0.01, times=1))
    with OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=2) as client:
        assert client.chat.completions.create(model="any", messages=HELLO).choices
    seen = server.requests()
    assert [(r.status, r.outcome) for r in seen] == [(500, "failed"), (429, "failed"), (200, "answered")]
    assert len({r.digest for r in seen}) == 1


def test_retry_after_is_sent(client, server):
    server.order(Fault("error", status=429, retry_after=7))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="any", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_a_cut_connection_is_a_connection_error(client, server, path):
    server.order(Fault("cut", times=None))
    call = {
        CHAT: lambda: client.chat.completions.create(model="any", messages=HELLO),
        RESPONSES: lambda: client.responses.create(model="any", input="Good morning"),
    }[path]
    with pytest.raises(openai.APIConnectionError):
        call()
    assert server.requests()[-1].outcome == "cut"
    assert server.tokens() == 0


def test_a_stream_is_cut_after_some_of_it_came(client, server):
    server.order(Fault("cut"))
    got = []
    with (
        pytest.raises((openai.APIConnectionError, httpx.HTTPError)),
        client.chat.completions.create(model="any", messages=HELLO, stream=True) as stream,
    ):
        got.extend(stream)
    assert 1 <= len(got) < 8


@pytest.mark.parametrize("stream", [False, True])
def test_malformed_json_is_an_error_of_the_reader(server, stream):
    server.order(Fault("malformed", path=CHAT))
    answer = raw(server, CHAT, {"model": "any", "messages": HELLO, "stream": stream})
    with pytest.raises(json.JSONDecodeError):
        events(answer.text) if stream else answer.json()


def test_empty_answers_have_no_choices_and_no_output(client, server):
    server.order(Fault("empty", times=None))
    assert client.chat.completions.create(model="any", messages=HELLO).choices == []
    assert client.responses.create(model="any", input="Good morning").output == []


def test_a_fault_can_wait_for_a_turn_a_phrase_or_a_path(client, server):
    server.order(Fault("error", contains="star 1", times=None))
    server.order(Fault("error", turn=5, times=None))
    server.order(Fault("error", path="/search", times=None))
    message = client.chat.completions.create(model="looker", messages=HELLO).choices[0].message
    told = [{"role": "tool", "tool_call_id": c.id, "content": f"star {i}"} for i, c in enumerate(message.tool_calls)]
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="looker", messages=[*HELLO, message.model_dump(exclude_none=True), *told])
    assert [r.turn for r in server.requests()] == [0, 1]


def test_a_fault_in_the_header_counts_per_conversation(server):
    header = json.dumps({"kind": "error", "status": 503, "times": 2})
    body = {"model": "any", "messages": HELLO}
    other = {"model": "any", "messages": [{"role": "user", "content": "Something else"}]}
    statuses = [
        raw(server, CHAT, asked, **{"x-offline-fault": header}).status_code for asked in (body, body, body, other)
    ]
    assert statuses == [503, 503, 200, 503]


def test_cleared_faults_are_gone(client, server):
    server.order(Fault("error", times=None))
    server.clear_faults()
    assert client.chat.completions.create(model="any", messages=HELLO).choices


@pytest.mark.parametrize("order", [{"kind": "bang"}, {"kind": "slow", "for": 3}, [], "slow"])
def test_an_unknown_fault_is_refused(server, order):
    assert httpx.post(f"{server.url}/admin/faults", json=order).status_code == 400


def test_a_client_that_left_is_seen(server):
    server.order(Fault("slow", seconds=30))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}{CHAT}", json={"model": "any", "messages": HELLO}, headers={"authorization": KEY}, timeout=0.2
        )
    seen = server.wait_for(lambda log: log[0].outcome == "gone")
    assert seen[0].fault == "slow"
    assert server.tokens() == 0


def test_a_client_that_died_while_sending_is_seen(server):
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as half:
        half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{")
        server.wait_for(bool)
    server.wait_for(lambda log: log[0].outcome == "gone")


def test_latency_delays_every_answer_and_none_waits_for_another():
    async def ask_all(url: str) -> float:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": KEY}, timeout=10) as client:
            begun = asyncio.get_running_loop().time()
            body = {"model": "any", "messages": HELLO}
            await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(5)))
            return asyncio.get_running_loop().time() - begun

    with OfflineServer(latency=0.3) as server:
        assert 0.3 <= asyncio.run(ask_all(server.url)) < 1.2


# What the real API refuses.


@pytest.mark.parametrize(
    "body",
    [
        {"model": "any"},
        {"model": "any", "messages": []},
        {"messages": HELLO},
        {"model": "any", "messages": [{"role": "alien", "content": "Hi"}]},
        {"model": "any", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"model": "any", "messages": [{"role": "tool", "tool_call_id": "c1", "content": "lost"}]},
        {"model": "any", "messages": HELLO, "n": 3},
        {"model": "any", "messages": ["hello"]},
    ],
)
def test_bad_requests_are_refused(server, body):
    answer = raw(server, CHAT, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert server.requests()[-1].outcome == "refused"


def test_a_tool_call_without_its_answer_is_refused(client):
    message = client.chat.completions.create(model="looker", messages=HELLO).choices[0].message
    half = [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "star"}]
    with pytest.raises(openai.BadRequestError, match=message.tool_calls[1].id):
        client.chat.completions.create(model="looker", messages=[*HELLO, message.model_dump(exclude_none=True), *half])


def test_server_kept_conversations_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="any", input="Go on", previous_response_id="resp_1")


def test_no_key_no_answer(server):
    assert httpx.post(f"{server.url}{CHAT}", json={"model": "any", "messages": HELLO}).status_code == 401
    assert httpx.post(f"{server.url}/search", json={"q": "Rome"}).status_code == 403
    assert httpx.post(f"{server.url}/content", json={"url": "x"}).status_code == 401
    assert httpx.get(f"{server.url}/v1/current.json?q=Rome").status_code == 401


def test_keys_are_not_in_the_log(client, server):
    raw(server, CHAT, {"model": "any", "messages": HELLO})
    httpx.get(f"{server.url}/v1/current.json?q=Rome&key=weather-secret")
    assert "secret" not in httpx.get(f"{server.url}/admin/requests").text


def test_digests_tell_equal_calls_apart_from_others(client, server):
    for text in ("one", "two", "one"):
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": text}])
    first, second, third = (request.digest for request in server.requests(CHAT))
    assert first == third != second


# The stand-ins beside the model.


def test_search_finds_pages_in_serpers_shape(server):
    answer = httpx.post(f"{server.url}/search", json={"q": "hotels in Rome", "num": 2}, headers={"x-api-key": "k"})
    found = answer.json()["organic"]
    assert found[0]["title"] == "Hotels in Rome"
    assert len(found) == 2
    assert set(found[0]) >= {"title", "link", "snippet", "position"}


def test_search_without_a_hit_has_no_organic_results(server):
    answer = httpx.post(f"{server.url}/search", json={"q": "zzz"}, headers={"x-api-key": "k"})
    assert "organic" not in answer.json()


def test_pages_come_as_html(server):
    page = httpx.post(f"{server.url}/content?token=t", json={"url": "https://guide.example/rome/sights"})
    assert page.headers["content-type"].startswith("text/html")
    assert "Colosseum" in page.text
    assert httpx.post(f"{server.url}/content?token=t", json={"url": "https://nowhere.example"}).status_code == 404


def test_the_weather_of_denver_can_fail_alone(server):
    server.order(Fault("error", path="/v1/current.json", contains="Denver", status=503, times=2))
    asked = [
        httpx.get(f"{server.url}/v1/current.json", params={"q": q, "key": "k"}).status_code
        for q in ("Denver", "Rome", "Denver", "Denver", "Atlantis")
    ]
    assert asked == [503, 200, 503, 200, 400]
    answer = httpx.get(f"{server.url}/v1/current.json", params={"q": "Denver", "key": "k"}).json()
    assert answer["location"]["name"] == "Denver"
    assert isinstance(answer["current"]["temp_c"], float)


def test_a_reminder_is_kept_once_per_key(server):
    for _ in range(2):
        httpx.post(f"{server.url}/reminders", json={"message": "Water the plants"}, headers={"idempotency-key": "k1"})
    httpx.post(f"{server.url}/reminders", json={"message": "Again"}, headers={"idempotency-key": "k2"})
    assert server.outbox() == ["Water the plants", "Again"]
    assert httpx.post(f"{server.url}/reminders", json={"message": "No key"}).status_code == 400


# As a process, and as a thread.


def test_it_runs_as_a_process_and_tells_its_url():
    with subprocess.Popen(
        [sys.executable, "-m", "examples.offline", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/v1/models") as answer:
            assert json.load(answer)["object"] == "list"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_the_thread_ends_with_the_block_also_with_a_request_held():
    before = threading.active_count()

    def hold(server: OfflineServer) -> None:
        with contextlib.suppress(httpx.HTTPError):
            raw(server, CHAT, {"model": "any", "messages": HELLO})

    with OfflineServer(faults=[Fault("slow", seconds=60)]) as server:
        holding = threading.Thread(target=hold, args=(server,))
        holding.start()
        server.wait_for(bool)
    holding.join(timeout=10)
    assert threading.active_count() == before
