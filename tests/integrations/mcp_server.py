"""An MCP server for the tests: `python mcp_server.py stdio FILE` or `http FILE PORT`. Each call is a line of FILE."""

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

server = MCPServer("tools")
log = Path(sys.argv[2])


def note(line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


@server.tool()
def add(a: int, b: int) -> str:
    """The sum of two numbers."""
    note("add")
    return str(a + b)


@server.tool()
def fail() -> str:
    """Fails."""
    note("fail")
    raise RuntimeError("broken inside")


@server.tool()
def refuse() -> str:
    """Says by the protocol that its arguments are wrong, as some servers do."""
    note("refuse")
    raise MCPError(INVALID_PARAMS, "not with these")


if __name__ == "__main__":
    note("begun")
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[3]))
