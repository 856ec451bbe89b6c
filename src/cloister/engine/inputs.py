"""What happens to the engine: each input is handled whole, giving one unit of writes and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from cloister.engine.values import Command, SessionCommand


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to the relay stands; `tls` is the SHA-256 of the certificate that it showed."""

    tls: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A frame came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended; `code` stands in the error registry."""

    code: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Somebody wants something; the answer bears the same ticket."""

    ticket: int
    command: Command


@dataclass(frozen=True, slots=True)
class Meet:
    """Somebody wants to make, join or confirm a session of two; the answer bears the same ticket."""

    ticket: int
    command: SessionCommand


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Input = Opened | Received | Closed | Execute | Meet | Tick
