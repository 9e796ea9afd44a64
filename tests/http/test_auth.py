"""Tokens, host names, origins; where it may be bound."""

import hashlib
import socket

import pytest

from holdfast import BadArguments
from holdfast.http.auth import Guard, is_loopback, read_hashes
from holdfast.http.options import HttpOptions
from holdfast.http.server import Listeners
from tests.http.serving import problem, serving

TOKEN = "k3-Lw8-tZ0pQ-x5-VbN2"
OTHER = "another-token-of-mine"
OWN = {"Authorization": f"Bearer {TOKEN}"}
PAGE = "https://desk.example.com"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# who may ask\n\n{hashlib.sha256(OTHER.encode()).hexdigest()}  the night shift\n")
    with serving(tokens=[TOKEN], tokens_file=file) as server:
        yield server


@pytest.fixture(scope="module")
def named():
    with serving(hosts=["agents.local"]) as server:
        yield server


@pytest.mark.parametrize("port", ["ingress", "admin"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer " + hashlib.sha256(TOKEN.encode()).hexdigest()},
        {"Authorization": b"Bearer \xff"},
    ],
    ids=str,
)
def test_without_its_token_nothing_is_served(guarded, port, headers):
    client = getattr(guarded, port)
    for method, path in (("GET", "/"), ("GET", "/openapi.json"), ("GET", "/invocations/x"), ("POST", "/Demo/echo")):
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, problem(answer)["code"]) == (401, "HF604")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text


def test_a_token_given_twice_is_none(guarded):
    head = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n\r\n"
    with guarded.connect() as connection:
        connection.sendall(head.encode())
        assert b" 401 " in connection.recv(100)


@pytest.mark.parametrize("port", ["ingress", "admin"])
@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer {OTHER}"])
def test_with_a_token_everything_is(guarded, port, token):
    client = getattr(guarded, port)
    assert client.get("/", headers={"Authorization": token}).status_code == 200
    assert client.get("/nothing", headers={"Authorization": token}).status_code == 404


def test_health_needs_no_token(guarded):
    assert guarded.ingress.get("/health").status_code == 200
    assert guarded.admin.get("/health").status_code == 200


def test_a_token_from_the_environment_is_asked_for(monkeypatch):
    monkeypatch.setenv("HOLDFAST_TOKEN", TOKEN)
    with serving() as server:
        assert server.ingress.get("/").status_code == 401
        assert server.ingress.get("/", headers=OWN).status_code == 200


@pytest.mark.parametrize("address", ["0.0.0.0", "::", ""])
def test_an_address_beyond_loopback_is_not_bound_without_a_token(address, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    for host in ("host", "admin_host"):
        with pytest.raises(BadArguments, match="there is no token"):
            Listeners(HttpOptions(**{host: address}, port=0, admin_port=0))


def test_an_address_beyond_loopback_is_served_with_a_token():
    with serving(host="0.0.0.0", tokens=[TOKEN]) as server:
        assert server.ingress.get("/", headers=OWN | {"Host": "agents.example.com"}).status_code == 200
        assert server.ingress.get("/", headers={"Host": "agents.example.com"}).status_code == 401
        assert server.listeners.admin.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("token", ["", "secret", "x" * 15])
def test_a_token_that_can_be_guessed_is_refused(token):
    with pytest.raises(BadArguments, match="less than 16 characters"):
        Guard(tokens=[token])


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"secret\n", b"\xff\xfe", b"0" * 63])
def test_a_file_of_tokens_that_holds_none_is_refused(tmp_path, content):
    path = tmp_path / "tokens"
    path.write_bytes(content)
    with pytest.raises(BadArguments, match="the file of tokens"):
        read_hashes(path)
    with pytest.raises(BadArguments, match="the file of tokens"):
        read_hashes(tmp_path / "gone")


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:9", 200),
        ("agents.local:8080", 200),
        ("evil.example.com", 403),
        ("localhost.evil.example.com", 403),
        ("127.0.0.1.nip.io:8080", 403),
        ("localhost:8080:evil", 403),
        ("user@localhost", 403),
        ("", 403),
    ],
)
def test_only_names_of_this_machine_are_answered(named, host, status):
    answer = named.ingress.get("/health", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert problem(answer)["code"] == "HF605"


def test_a_second_host_header_does_not_get_a_foreign_name_in(server):
    sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n"
    assert b" 403 " in server.raw(sent)[:20]
    assert b" 403 " in server.raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")[:20]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
    ids=str,
)
def test_a_foreign_web_page_reads_and_starts_nothing(server, headers, status):
    assert server.ingress.get("/Chat/ada/history", headers=headers).status_code == status
    assert server.ingress.post("/Demo/echo", headers=headers).status_code == status
    assert "access-control-allow-origin" not in server.ingress.get("/health", headers=headers).headers


def test_a_page_of_its_own_origin_may_ask(server):
    host = server.servers.ingress_url.removeprefix("http://")
    assert server.ingress.post("/Demo/echo", headers={"Origin": f"http://{host}"}).status_code == 200


def test_an_origin_that_is_allowed_may_ask_and_read():
    with serving(origins=[PAGE + "/"], tokens=[TOKEN]) as server:
        ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        preflight = server.ingress.options("/Demo/echo", headers=ask)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        answer = server.ingress.post("/Demo/echo", headers=OWN | {"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "Holdfast-Invocation" in answer.headers["access-control-expose-headers"]
        refused = server.ingress.post("/Demo/echo", headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        foreign = server.ingress.options("/Demo/echo", headers=ask | {"Origin": "https://evil.example.com"})
        assert foreign.status_code == 403


@pytest.mark.parametrize("host", ["", "*", "http://agents.local", "agents.local:8080", "a b", "agents.local/"])
def test_what_is_no_host_name_is_refused(host):
    with pytest.raises(BadArguments, match="is no host name"):
        Guard(hosts=[host])


@pytest.mark.parametrize(
    "origin", ["", "*", "null", "desk.example.com", "https://desk.example.com/page", "https://*.com"]
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(BadArguments, match="is no origin"):
        Guard(origins=[origin])


def test_a_port_in_use_is_said_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadArguments, match=f"cannot serve on 127.0.0.1:{port}: Address already in use"):
            Listeners(HttpOptions(port=0, admin_port=port))
    with pytest.raises(BadArguments, match="is no address"):
        Listeners(HttpOptions(host="no.such.host.invalid", port=0))
    with pytest.raises(BadArguments, match="cannot serve on"):
        Listeners(HttpOptions(host="192.0.2.1", port=0, tokens=[TOKEN]))


@pytest.mark.parametrize("address, loopback", [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
    ("fe80::1%lo", False), ("localhost", False), ("", False),
])  # fmt: skip
def test_what_counts_as_this_machine(address, loopback):
    assert is_loopback(address) is loopback
