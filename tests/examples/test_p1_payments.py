"""P1: payments. The bank counts: one for many attempts with a key, and one without, whenever the program is killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.offline import Fault, OfflineServer
from examples.p1_payments import BUSY, WAYS, hf, pay_out, sell, shop
from holdfast import Holdfast, HttpOptions, StoreError
from tests.crash.mortal import MortalStore
from tests.examples.conftest import HELD, SETTLE
from tests.examples.test_pages import stored_in
from tests.http.serving import Serving, wait_for

ROOT = Path(__file__).parents[2]
PATH = "/v1/payments"
SLOW = pytest.mark.slow
WAY = pytest.mark.parametrize("way", WAYS)
MOMENT = pytest.mark.parametrize("moment", ["slow", "late"])  # of the kill: before the bank has paid, and after


@pytest.fixture
def server(shared_server: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> OfflineServer:
    monkeypatch.setenv("OFFLINE_URL", shared_server.url)
    shared_server.reset()
    return shared_server


def posts(server: OfflineServer) -> list[Any]:
    """What was sent to the bank to be paid; a payment is looked for by its reference alone."""
    return [request for request in server.requests(PATH) if request.status != 200]


class Program:
    """The example as a process, in a folder of its own."""

    def __init__(self, folder: Path, server: OfflineServer, *words: str) -> None:
        self.folder, self.server, self.words = folder, server, words

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "examples.p1_payments", *self.words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OFFLINE_URL": self.server.url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(self, said: str = "") -> str:
        """What it prints when it is left alone; `said` is what the person types."""
        return self.start().communicate(said, timeout=60)[0]

    def killed(self, moment: str) -> None:
        """Begun, and killed while the bank works on its payment."""
        self.server.order(Fault(moment, path=PATH, seconds=HELD))
        child = self.start()
        self.server.wait_for(lambda log: any(request.outcome == "open" and request.fault for request in log))
        time.sleep(SETTLE)
        child.kill()
        child.communicate()
        self.server.clear_faults()
        self.server.wait_for(lambda log: all(request.outcome != "open" for request in log))
        assert len(self.server.payments()) == (moment == "late")


@contextmanager
def served(folder: Path) -> Iterator[Serving]:
    """The example's server, over the file that its programs left in the folder."""
    with stored_in(folder, hf) as program, Serving(program, HttpOptions(port=0, admin_port=0)).running() as serving:
        yield serving


def test_one_charge_for_many_attempts(server: OfflineServer, tmp_path: Path) -> None:
    server.order(Fault("cut", path=PATH, times=3))
    with stored_in(tmp_path, hf) as program, program as client:
        assert client.call(sell, 30, id="order-1").amount == 30
    assert [request.outcome for request in posts(server)] == ["cut", "cut", "cut", "answered"]
    assert len({request.digest for request in posts(server)}) == 1  # of key, reference and amount
    assert [payment["amount"] for payment in server.payments()] == [30]


@SLOW
@WAY
@MOMENT
def test_killed_while_the_bank_works_it_is_paid_once(
    way: str, moment: str, server: OfflineServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, server, "30", "--id", "order-1", "--way", way)
    program.killed(moment)
    if way == "person":
        assert "It waits. The same command goes on with it." in program.finish()
        paid = server.payments()
        said = {"outcome": "done", "result": paid[0]} if paid else {"outcome": "not done"}
        printed = program.finish(json.dumps(said))
        assert "order-1 asks: What came of step 'transfer#1' of 'order-1'?" in printed
    else:
        printed = program.finish()
    (payment,) = server.payments()
    assert f"Payment(id='pay_1', reference='{payment['reference']}', amount=30)" in printed
    sent_again = way == "key" or moment == "slow"
    assert len(posts(server)) == 1 + sent_again
    assert len({request.digest for request in posts(server)}) == 1


@SLOW
@MOMENT
@pytest.mark.parametrize("by", ["http", "command line"])
def test_a_person_settles_it_in_the_inbox(moment: str, by: str, server: OfflineServer, tmp_path: Path) -> None:
    Program(tmp_path, server, "30", "--id", "order-1", "--way", "person").killed(moment)
    with served(tmp_path) as serving:
        (ask,) = wait_for(lambda: serving.admin.get("/asks").json())
        (payment,) = server.payments() or [None]
        said = {"outcome": "not done"} if payment is None else {"outcome": "done", "result": payment}
        assert payment is None or payment["reference"] == ask["about"]["idempotency_key"]
        if by == "http":
            refused = serving.admin.post(f"/promises/{ask['id']}/resolve", json={"outcome": "done"})
            assert (refused.status_code, refused.json()["code"]) == (400, "HF102")
            assert serving.admin.post(f"/promises/{ask['id']}/resolve", json=said).status_code == 200
        else:
            command = [sys.executable, "-m", "holdfast.cli", "answer", "--value", json.dumps(said)]
            url = ["--url", serving.servers.admin_url]
            subprocess.run([*command, *url], cwd=tmp_path, check=True, capture_output=True)
        answer = serving.ingress.get("/invocations/order-1/result")
        assert answer.json()["amount"] == 30
        states = [line["state"] for line in serving.ingress.get("/invocations/order-1/journal").json()["steps"]]
    assert states == (["begun", "not done", "begun", "done"] if payment is None else ["begun", "done"])
    assert len(server.payments()) == 1


def test_a_connection_that_is_cut_after_the_transfer_is_looked_into_at_once(
    server: OfflineServer, tmp_path: Path
) -> None:
    server.order(Fault("cut", path=PATH))
    with stored_in(tmp_path, hf) as program, program as client:
        assert client.call(pay_out, 30, id="order-1").amount == 30
    assert [request.outcome for request in posts(server)] == ["cut"]
    assert len(server.payments()) == 1


@pytest.mark.parametrize("status", sorted(BUSY))
def test_a_bank_that_is_busy_has_not_paid_and_is_asked_again(
    status: int, server: OfflineServer, tmp_path: Path
) -> None:
    server.order(Fault("error", path=PATH, status=status, retry_after=0.4, times=2))
    began = time.monotonic()
    with stored_in(tmp_path, hf) as program, program as client:
        run = client.start(pay_out, 30, id="order-1")
        assert run.result(20).amount == 30
        states = [line.state for line in run.journal()]
    assert time.monotonic() - began >= 0.8
    assert states == ["begun", "not done", "begun", "not done", "begun", "done"]
    assert len(server.payments()) == 1


@pytest.mark.timeout(120)
@WAY
def test_it_dies_at_every_commit_and_pays_once(way: str, server: OfflineServer) -> None:
    deps = hf._deps

    async def live(store: MortalStore) -> Any:
        async with Holdfast(store, services=[shop], deps=deps) as client:
            run = await client.start(WAYS[way], 30, id="order-1")
            while True:
                try:
                    return await run.result(0.02)
                except TimeoutError:
                    for ask in await client.asks():
                        paid = server.payments()
                        said = {"outcome": "done", "result": paid[0]} if paid else {"outcome": "not done"}
                        await client.answer(ask.id, said)

    whole = MortalStore()
    asyncio.run(live(whole))
    died = 0
    for commit in range(1, whole.commits + 1):
        for keeps_last in (False, True):
            server.reset()
            store = MortalStore()
            store.die_at(commit, keeps_last=keeps_last)
            try:
                asyncio.run(live(store))
            except StoreError:
                died += 1
                assert asyncio.run(live(store)).amount == 30
            assert len(server.payments()) == 1
    assert died == 2 * whole.commits
