"""Payments: many attempts and one charge, and what follows when nobody knows whether there was one.

    python -m examples.p1_payments 30
    python -m examples.p1_payments 30 --id payout-1 --way checker
    python -m examples.p1_payments 30 --id payout-2 --way person
    holdfast serve examples.p1_payments:hf

A card is charged with an Idempotency-Key, so a charge may be sent again until its answer comes. The transfer beside it
knows no such key: what is sent twice is paid twice. Its step is declared `once`. Kill the program while the bank works,
and the next one does not send it again: it looks into the bank's books, or asks a person who can.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx

import holdfast
from examples.services import clients, dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, NotDone, Service

BUSY = {429, 503}  # refused before anything was done


@dataclass
class Payment:
    id: str
    reference: str
    amount: int


def charge(order: str, amount: int) -> Payment:
    """One charge, however often it is sent: the key is the same in every attempt and every process."""
    return pay(order, amount, {"Idempotency-Key": holdfast.step().idempotency_key})


def transfer(amount: int) -> Payment:
    """Sends money, each time it is sent. The step's key goes along as the reference, to find it again by."""
    try:
        return pay(holdfast.step().idempotency_key, amount, {})
    except httpx.ConnectError as error:
        raise NotDone("the bank cannot be reached") from error
    except httpx.HTTPStatusError as error:
        if error.response.status_code in BUSY:
            raise NotDone("the bank is busy") from error  # and is asked again when its Retry-After says
        raise


def find_transfer(amount: int) -> Payment:
    """Looks into the bank's books: called as the transfer would be, by the same key."""
    use = clients()
    reference = holdfast.step().idempotency_key
    answer = use.web.get(f"{use.where.office.url}/v1/payments", params={"reference": reference})
    answer.raise_for_status()
    for found in answer.json()["data"]:
        return Payment(**found)
    raise NotDone(f"no transfer of {amount} has the reference {reference}")


def pay(reference: str, amount: int, headers: dict[str, str]) -> Payment:
    use = clients()
    body = {"reference": reference, "amount": amount}
    answer = use.web.post(f"{use.where.office.url}/v1/payments", json=body, headers=headers)
    answer.raise_for_status()
    return Payment(**answer.json())


shop = Service("Shop")


@shop.handler
async def sell(ctx: Context, amount: int) -> Payment:
    """Charges a card."""
    return await ctx.run(charge, ctx.id, amount)


@shop.handler
async def pay_out(ctx: Context, amount: int) -> Payment:
    """Transfers money; a checker finds out what came of a transfer whose end nobody saw."""
    return await ctx.run(transfer, amount, once=find_transfer)


@shop.handler
async def pay_out_by_hand(ctx: Context, amount: int) -> Payment:
    """Transfers money; a person finds out."""
    return await ctx.run(transfer, amount, once=True)


WAYS = {"key": sell, "checker": pay_out, "person": pay_out_by_hand}

hf = Holdfast("p1_payments.db", services=[shop], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="order-1", text="30", way="key, checker or person: who sees to it that it is paid once")
    with hf as client:
        run = client.start(WAYS[given.way or "key"], int(given.text), id=given.id)
        print(result(client, run))
        account(client, run)


if __name__ == "__main__":
    main()
