"""How often something may begin: at most so many times in any stretch of time as long as the period.

Promises: a burst of `rate` goes at once, and nothing more within the period; what is kept is small whatever the rate.
Refuses: to keep the time of every beginning. The generic cell rate algorithm would need one number, and let nearly
twice the rate through within a period after an idle time: a provider that counts would refuse those.
"""

from __future__ import annotations

import msgspec

from holdfast.errors import Unreadable

MOMENTS_MAX = 32  # exact for so many; beyond, neighbours are one moment, the later: some wait longer, none begins early


class Spent(msgspec.Struct, array_like=True):
    """What a lane has used of its allowance. Times are milliseconds."""

    period: int
    moments: list[tuple[int, int]]  # when, and how many began, oldest first

    @property
    def whole_at(self) -> int:
        """When all of the allowance is there again."""
        return self.moments[-1][0] + self.period if self.moments else 0

    def wait(self, now: int, rate: int, period: int) -> int:
        """Milliseconds until one more may begin; 0 if it may now."""
        self._look(now, period)
        left = sum(count for _, count in self.moments)
        for at, count in self.moments:
            if left < rate:
                break
            left -= count
            if left < rate:
                return at + period - now
        return 0

    def spend(self, now: int, period: int) -> None:
        """One begins."""
        self._look(now, period)
        self.moments.append((now, 1))
        if len(self.moments) > MOMENTS_MAX:
            gaps = [after - before for (before, _), (after, _) in zip(self.moments, self.moments[1:], strict=False)]
            place = gaps.index(min(gaps))
            (_, few), (at, more) = self.moments[place : place + 2]
            self.moments[place : place + 2] = [(at, few + more)]

    def _look(self, now: int, period: int) -> None:
        # None is later than now, unless the clock was set back: then nobody waits longer than a period for it.
        self.period = period
        self.moments = [(min(at, now), count) for at, count in self.moments if min(at, now) + period > now]


def write(spent: Spent) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(spent)


def read(text: bytes | None) -> Spent:
    """From the store; None: nothing was spent. Raises Unreadable."""
    if text is None:
        return Spent(0, [])
    try:
        return msgspec.json.decode(text, type=Spent)
    except msgspec.MsgspecError as error:
        raise Unreadable(
            f"what is stored of a rate does not decode: {error}",
            cause="the file is damaged, or a development version from before the first release wrote it",
            fix="nothing: its lane begins with a whole allowance",
        ) from None
