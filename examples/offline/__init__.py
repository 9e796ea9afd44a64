"""The offline model and stand-ins: what the examples talk to on a machine without keys or network.

`with OfflineServer() as server` runs them in this process, for a test; `python -m examples.offline --port 4010` as a
process of their own. `POST /admin/faults` orders failures, `GET /admin/requests` shows every request and its cost.
"""

from examples.offline.conversation import Conversation, Reply, ToolCall, Turn
from examples.offline.faults import Fault
from examples.offline.ledger import Request
from examples.offline.server import OfflineAdmin, OfflineServer

__all__ = ["Conversation", "Fault", "OfflineAdmin", "OfflineServer", "Reply", "Request", "ToolCall", "Turn"]
