"""What the rules see of the world: connections, their settings and keys.

Source: docs/spec/relay.md ("Core"). The server's sockets and the simulation's queues both are `Connection`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cloister.primitives.signature import SigningKey
from cloister.wire import limits
from cloister.wire.frames import HeadKey


class Connection(Protocol):
    """One client's connection. The core never waits for it."""

    @property
    def address(self) -> str:
        """Whom rates before login are counted against (an IP address)."""
        ...

    @property
    def tls(self) -> bytes:
        """SHA-256 of the server certificate that this connection's client saw; 32 bytes."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes queued and not yet taken by the network, beyond the one frame that is being written."""
        ...

    def send(self, data: bytes) -> None:
        """Queue one frame. Frames arrive whole and in order, or the connection ends."""
        ...

    def close(self, code: str) -> None:
        """Send what is queued and end; `disconnect` follows."""
        ...


Broadcast = Callable[[Iterable[Connection], bytes], list[Connection]]
"""Queue one frame for many; gives those for whom too much waits already (they got nothing)."""


def broadcast(connections: Iterable[Connection], data: bytes) -> list[Connection]:
    """The plain form of `Broadcast`: a reader for whom nothing waits gets a frame of any size."""
    behind = []
    for connection in connections:
        waiting = connection.waiting
        if waiting and waiting + len(data) > limits.SEND_BUFFER.value:
            behind.append(connection)
        else:
            connection.send(data)
    return behind


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayKeys:
    """The relay's keys: identity (L2, head key statements), head (signed heads), and its certificate chain."""

    identity: SigningKey
    head: SigningKey
    head_key: HeadKey
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator decides. `purge_every` (ms): how often what is past its time is looked for.

    `guests`: whether strangers may chat by session codes; joining a member's code of another purpose they always may.
    """

    realm: str
    incarnation: int = 0
    purge_every: int = 10 * limits.MINUTE
    guests: bool = False
    open: bool = False
    """Whether anybody may register a name without an invite; only in a realm that certifies nobody."""
