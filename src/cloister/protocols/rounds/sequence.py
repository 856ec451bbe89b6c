"""The sequence numbers of a room's members, read from what is stored: document 002's table of them.

Source: docs/spec/classic/transport.md ("What is stored"), docs/spec/record.md ("Chains"). For each epoch that is held
and each of its members: the number that its next message must have at least, and how many of the numbers below, within
the window, were never seen. They begin again at 0 with each key exchange, and outlive every restart.

Left out: suites that store other items (`mls`, `pair`, `code`): their rooms have no such table, the result is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloister.protocols.interface import DeviceId
from cloister.protocols.ratchet import WINDOW, RecvChain, SendChain
from cloister.protocols.rounds.epochs import EPOCH, RECV, SEND, Epoch, chain_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One member in one epoch: `next` is the next number not used, `skipped` those below it that may still come.

    `own` says that it is this device, and `next` what it sends with; an epoch that has ended sends nothing more.
    """

    epoch: int
    device: DeviceId
    own: bool
    next: int
    skipped: int = 0


def numbers_of(items: Mapping[bytes, bytes], me: DeviceId) -> tuple[Numbers, ...]:
    """All of them, by epoch and in the order of the roster; () where nothing of the kind is stored."""
    prefix = EPOCH.key(b"\0")[:-1]
    found = [EPOCH.decode(value) for key, value in items.items() if key.startswith(prefix)]
    return tuple(row for epoch in sorted(found, key=lambda each: each.number) for row in _of_epoch(items, epoch, me))


def _of_epoch(items: Mapping[bytes, bytes], epoch: Epoch, me: DeviceId) -> list[Numbers]:
    rows = []
    for place, device in enumerate(epoch.roster):
        key = SEND.key(epoch.th) if device == me else RECV.key(chain_key(epoch.th, place))
        if key in items:
            chain = (SEND if device == me else RECV).decode(items[key])
            rows.append(_row(epoch, device, chain))
    return rows


def _row(epoch: Epoch, device: DeviceId, chain: SendChain | RecvChain) -> Numbers:
    if isinstance(chain, SendChain):
        return Numbers(epoch=epoch.number, device=device, own=True, next=chain.seq)
    skipped = min(chain.seq, WINDOW) - chain.window.bit_count()
    return Numbers(epoch=epoch.number, device=device, own=False, next=chain.seq, skipped=skipped)
