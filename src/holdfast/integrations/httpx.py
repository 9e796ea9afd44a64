"""Makes httpx's async clients durable: in a handler, each request is a step. See docs/integrations.md."""

from typing import ClassVar

import httpx

from holdfast.integrations._http import Durable

__all__ = ["DurableTransport"]


class DurableTransport(Durable[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    """`httpx.AsyncClient(transport=DurableTransport())`: used in a handler, each of its requests is one step."""

    _library: ClassVar = httpx
