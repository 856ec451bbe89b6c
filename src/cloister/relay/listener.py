"""Connections from the network: accepted, tuned, let in at the gate, secured with TLS.

Source: docs/spec/relay.md ("Server"), docs/spec/wire.md ("Transport").

Invariants
- TLS 1.3 only, no compression; a stranger has limits.HANDSHAKE for the handshake and limits.CONNECTIONS places for
  each address.
- Without TLS only where both ends are this machine (loopback), and only on a listener that was told so.
- Out of file descriptors: nothing is accepted for a while, what stands goes on. No connection that fails before it
  is accepted (ECONNABORTED and the network errors that accept passes on) ends the accepting.
- The kernel holds back a bounded amount for each connection and notices a dead peer within half a minute.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket as sockets
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cloister.relay.gate import Gate, Place, place_of
from cloister.wire import limits

SECONDS: Final = limits.HANDSHAKE.value / 1000
GOODBYE: Final = limits.GOODBYE.value / 1000
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE: Final = 0.25
_SEND_KERNEL: Final = 256 * limits.KIB
Made = Callable[[Place, bool], asyncio.Protocol]
"""Makes the protocol of a connection; the second argument says whether TLS protects it."""


def tls_context(certificate: str) -> ssl.SSLContext:
    """TLS 1.3 only, from a PEM file with certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate)
    return context


def listen(host: str, port: int) -> sockets.socket:
    """A listening socket; an empty host is every address of this machine."""
    if not host and sockets.has_dualstack_ipv6():
        listener = sockets.create_server(("", port), family=sockets.AF_INET6, dualstack_ipv6=True, backlog=1024)
    else:
        family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
        listener = sockets.create_server((host, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener


class Listener:
    """One listening socket and the way in behind it. `first_request`: HTTP is awaited after TLS."""

    def __init__(
        self,
        listening: sockets.socket,
        tls: ssl.SSLContext,
        gate: Gate,
        made: Made,
        out_of_files: Callable[[], None],
        *,
        first_request: bool,
        plain_at_home: bool,
    ) -> None:
        self._listening = listening
        self._tls = tls
        self._gate = gate
        self._made = made
        self._out_of_files = out_of_files
        self._first_request = first_request
        self._plain_at_home = plain_at_home
        self._loop = asyncio.get_running_loop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listening.getsockname()[1]
        return port

    def close(self) -> None:
        """Accept nothing more."""
        self._listening.close()

    async def accept(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """Let connections in, each in a task of its own, until `close`."""
        while True:
            try:
                accepted, peer = await self._loop.sock_accept(self._listening)
            except OSError as error:
                if self._listening.fileno() < 0:
                    return  # it was closed
                no_files = error.errno in _NO_FILES
                if no_files:
                    self._out_of_files()
                await asyncio.sleep(_PAUSE if no_files else 0)
                continue
            spawn(self._open(accepted, peer))

    async def _open(self, accepted: sockets.socket, peer: tuple[str, int]) -> None:
        """One connection, once it has a place."""
        if not peer:  # some systems accept what has gone already, and have no address for it
            accepted.close()
            return
        address = place_of(peer[0])
        if not await self._gate.enter(address):
            accepted.close()
            return
        place = Place(self._gate, address)
        try:
            _tune(accepted)
            secured = not (self._plain_at_home and _at_home(accepted))
            transport = await self._connect(accepted, place, secured)
        except (OSError, ssl.SSLError, TimeoutError):
            accepted.close()
            place.leave()
            return
        if self._first_request:
            place.expect_request(self._loop.call_later(SECONDS, transport.abort))

    async def _connect(self, accepted: sockets.socket, place: Place, secured: bool) -> asyncio.Transport:
        def made() -> asyncio.Protocol:
            return self._made(place, secured)

        if not secured:
            transport, _ = await self._loop.connect_accepted_socket(made, accepted)
        else:
            transport, _ = await self._loop.connect_accepted_socket(
                made, accepted, ssl=self._tls, ssl_handshake_timeout=SECONDS, ssl_shutdown_timeout=GOODBYE
            )
        return transport


def _at_home(accepted: sockets.socket) -> bool:
    """Whether both ends of the connection are this machine's loopback addresses."""
    return all(is_loopback(end()[0]) for end in (accepted.getsockname, accepted.getpeername))


def is_loopback(host: str) -> bool:
    """Whether an IP address is of this machine and no network."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _tune(accepted: sockets.socket) -> None:
    """Notice a dead peer within half a minute; let the kernel hold back a bounded amount."""
    accepted.setblocking(False)
    for level, option, value in (
        (sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1),
        (sockets.SOL_SOCKET, sockets.SO_SNDBUF, _SEND_KERNEL),
        (sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPIDLE", 0), 15),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPINTVL", 0), 5),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPCNT", 0), 3),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_USER_TIMEOUT", 0), 30_000),
    ):
        if option:
            accepted.setsockopt(level, option, value)
