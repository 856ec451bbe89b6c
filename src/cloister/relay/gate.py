"""Who may be on the way in: at most a few connections of one address that have not logged in yet.

Source: docs/spec/limits.md (CONNECTIONS, LINE, LINE_TIME). A connection is inside from accept to login or end. The
next ones of the same address wait in line, without cost to other addresses; who comes to a line that is too long, or
has waited in it for too long, is turned away. Slow strangers hold a place for as long as the deadlines of TLS, HTTP
and login allow, and no longer.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from typing import Final

from cloister.wire import limits

LINE: Final = limits.LINE.value
_PATIENCE: Final = limits.LINE_TIME.value / 1000


def place_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Gate:
    """Counts and queues for each address; who got in holds a `Place`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: dict[str, int] = {}
        self._lines: dict[str, deque[asyncio.Future[bool]]] = {}

    async def enter(self, address: str) -> bool:
        """Wait for a place; False when the line is too long, or none came in time."""
        if self._inside.get(address, 0) < self._most:
            self._inside[address] = self._inside.get(address, 0) + 1
            return True
        line = self._lines.setdefault(address, deque())
        if len(line) >= LINE:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        line.append(turn)
        patience = loop.call_later(_PATIENCE, self._give_up, address, turn)
        try:
            return await turn  # True: the place was handed over, so the count stays
        finally:
            patience.cancel()

    def _give_up(self, address: str, turn: asyncio.Future[bool]) -> None:
        """No place came in time; one that comes in this moment is not given back."""
        if turn.done():
            return
        line = self._lines[address]
        line.remove(turn)  # the first: who came later waits longer
        if not line:
            del self._lines[address]
        turn.set_result(False)

    def leave(self, address: str) -> None:
        """Give a place to the next in line, or back; called by `Place`."""
        line = self._lines.get(address)
        while line:
            turn = line.popleft()
            if not line:
                del self._lines[address]
            if not turn.done():
                turn.set_result(True)
                return
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]


class Place:
    """A connection's place at the gate, until it has logged in or ended; and the deadline of its first request."""

    __slots__ = ("_gate", "_requested", "_timer", "address", "held")

    def __init__(self, gate: Gate, address: str) -> None:
        self._gate = gate
        self._timer: asyncio.TimerHandle | None = None
        self._requested = False
        self.address = address
        self.held = True

    def expect_request(self, timer: asyncio.TimerHandle) -> None:
        """`timer` ends the connection unless a request comes (or has come already)."""
        self._timer = timer
        if self._requested:
            self.requested()

    def requested(self) -> None:
        """The request is here."""
        self._requested = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """The place is free."""
        self.requested()
        if self.held:
            self.held = False
            self._gate.leave(self.address)
