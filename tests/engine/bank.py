"""A bank that knows no idempotency keys, and steps that pay: what must not be done twice."""

import asyncio
from collections import Counter

import msgspec

from holdfast import NotDone, step
from tests.engine.lives import Flags


class Receipt(msgspec.Struct):
    """What the bank gives for a payment."""

    number: int
    amount: int


class Bank:
    """What was paid, over all lives, by the key of the step that paid. `flags` hold bodies up, by name."""

    def __init__(self):
        self.flags = Flags()
        self.paid = []  # (key, amount)
        self.asked = []  # keys that somebody looked for
        self.keys = []  # of bodies that began
        self.attempts = []

    async def pay(self, amount: int) -> Receipt:
        """A step's body: waits at two gates, before the money is paid and after."""
        key = step().idempotency_key
        self.keys.append(key)
        self.attempts.append(step().attempt)
        await self._pass("before")
        self.paid.append((key, amount))
        await self._pass("after")
        return Receipt(len(self.paid), amount)

    def pay_now(self, amount: int) -> Receipt:
        """The same in a thread, without a wait."""
        key = step().idempotency_key
        self.keys.append(key)
        self.paid.append((key, amount))
        return Receipt(len(self.paid), amount)

    async def find(self, amount: int) -> Receipt:
        """A checker."""
        return self.find_now(amount)

    def find_now(self, amount: int) -> Receipt:
        """The same in a thread."""
        key = step().idempotency_key
        self.asked.append(key)
        if (key, amount) not in self.paid:
            raise NotDone("no payment has this key")
        return Receipt(self.paid.index((key, amount)) + 1, amount)

    @property
    def twice(self):
        """Keys that were paid more than once."""
        return [key for key, count in Counter(key for key, _ in self.paid).items() if count > 1]

    def hold(self, *places):
        """Bodies stop there."""
        for place in places:
            self.flags.gate(place).clear()

    def let_go(self, *places):
        """Bodies go on there."""
        for place in places:
            self.flags.gate(place).set()

    async def _pass(self, place):
        while not self.flags.gate(place).is_set():
            await asyncio.sleep(0.002)
