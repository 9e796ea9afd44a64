"""A store whose process dies at the n-th commit: just before it is durable, or just after and before anyone is told."""

from holdfast import MemoryStore, StoreFailed
from holdfast.stores.base import Batch


class MortalStore(MemoryStore):
    """What was committed outlives the death; `open` begins the next life."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self._dies_at = 0
        self._keeps_last = False
        self._dead = False

    def die_at(self, commit: int, *, keeps_last: bool) -> None:
        """Dies at that commit of this life, counted from 1. `keeps_last`: it is durable, but nobody hears of it."""
        self._dies_at, self._keeps_last = commit, keeps_last

    def open(self) -> None:
        super().open()
        self.commits, self._dead = 0, False

    def commit(self, batch: Batch) -> None:
        if self._dead:
            raise StoreFailed("the process is dead")
        self.commits += 1
        if self.commits == self._dies_at:
            self._dead, self._dies_at = True, 0
            if self._keeps_last:
                super().commit(batch)
            raise StoreFailed("the process died")
        super().commit(batch)
