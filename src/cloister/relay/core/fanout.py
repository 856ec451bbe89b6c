"""Reading and following logs: present, pages, pushes, and readers that fall behind.

Source: docs/spec/log.md ("Access"), docs/spec/relay.md ("Fan-out").

Invariants
- A frame with new entries is built once and given to every follower as the same bytes object.
- Every Page and Pushed ends with the entry that its head signs, so each verifies on its own.
- A follower gets entries without a gap: who missed one is told `behind`, once, and gets nothing more of that log
  until it presents again. Nothing is queued for a reader for whom limits.SEND_BUFFER bytes wait already.
- Following ends with the commit that ends the epoch, and with Forget.
- An unknown token and an unknown log get the same answer after the same work.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Appended
from cloister.relay.core.log import Logs
from cloister.relay.core.ports import Broadcast
from cloister.relay.core.state import Access, EpochState, LogState, Peer
from cloister.wire import limits
from cloister.wire.frames import REALM_LOG, Behind, Done, Entry, Forget, Head, Page, Present, Pushed, encode

_FEW: Final = 128
_PUSH: Final = limits.PUSH.value
_SURELY: Final = _PUSH // 2
"""So many entries with so many bytes of payload fit into one pushed frame."""


class Fanout:
    """Who reads what."""

    def __init__(self, logs: Logs, broadcast: Broadcast) -> None:
        self._logs = logs
        self._broadcast = broadcast

    # --- requests -------------------------------------------------------------------------------------------

    def present(self, peer: Peer, frame: Present, now: int) -> None:
        """Open a log with a token, answer with its next page, follow it."""
        epoch = self._opened(frame)
        access = self._access(peer, frame.log)
        if epoch is not None:
            _remember(access, epoch)
        state = access.state
        end = epoch.end if epoch is not None else 0
        ended = 0 < end <= state.durable
        upto = end if ended else state.durable
        items = self._logs.page(access, frame.after, upto)
        last = items[-1].seq if items else frame.after
        head = self._logs.head_at(state, last)
        peer.behind.discard(frame.log)
        if last == state.durable and not ended:
            state.followers[peer.connection] = peer
        else:
            state.followers.pop(peer.connection, None)
        peer.send(Page(rid=frame.rid, log=frame.log, entries=items, head=head, more=last < upto))

    def _opened(self, frame: Present) -> EpochState | None:
        """The epoch that the token opens; None for the realm log, which needs none."""
        if frame.log == REALM_LOG:
            if frame.token:
                raise PeerError("not_allowed", "the realm log has no token")
            return None
        epoch = self._logs.known_epoch(frame.log, sha256(frame.token))
        if epoch is None:
            raise PeerError("not_allowed", "the token opens nothing here")
        return epoch

    def _access(self, peer: Peer, log: bytes) -> Access:
        access = peer.logs.get(log)
        if access is None:
            if len(peer.logs) >= limits.SUBSCRIPTIONS.value:
                raise PeerError("quota", "this connection follows as many logs as it may")
            state = self._logs.state(log)
            access = peer.logs[log] = state.accesses[peer] = Access(state)
        return access

    def forget(self, peer: Peer, frame: Forget, now: int) -> None:
        """Stop following a log, and forget its tokens."""
        access = peer.logs.pop(frame.log, None)
        if access is not None:
            _leave(peer, access.state)
        peer.behind.discard(frame.log)
        peer.send(Done(rid=frame.rid))

    @staticmethod
    def leave(peer: Peer) -> None:
        """The peer is gone."""
        for access in peer.logs.values():
            _leave(peer, access.state)
        peer.logs.clear()
        peer.behind.clear()

    # --- pushing --------------------------------------------------------------------------------------------

    def push(self, appended: Appended) -> None:
        """Give the followers what has been stored, under the head that has been signed for it."""
        state, entries = appended.state, appended.entries
        if not state.followers:
            return
        size = 0
        for entry in entries:
            size += len(entry.payload)
        if size <= _SURELY and len(entries) <= _FEW:
            self._push_chunk(state, entries, self._logs.head(state))
        else:
            for chunk in _chunks(entries):
                self._push_chunk(state, chunk, self._logs.head_at(state, chunk[-1].seq))
        epoch = state.epochs.get(entries[-1].token_hash)
        if epoch is not None and epoch.end:
            state.followers.clear()  # the epoch has ended: nothing of the next one is theirs

    def _push_chunk(self, state: LogState, entries: list[Entry], head: Head) -> None:
        if len(entries[0].payload) <= _PUSH:
            data = encode(Pushed(state.log, entries, head))  # type: ignore[arg-type]  # nobody adds a stub
            behind = self._broadcast(state.followers, data)
        else:
            behind = list(state.followers)
        for connection in behind:
            peer = state.followers.pop(connection)
            peer.behind.add(state.log)
            self.announce(peer)

    @staticmethod
    def announce(peer: Peer) -> None:
        """Tell a reader which logs it is behind in, when there is room to say so."""
        while peer.behind and not peer.clogged:
            log = peer.behind.pop()
            peer.send(Behind(log=log, seq=peer.logs[log].state.durable))


def _leave(peer: Peer, state: LogState) -> None:
    state.accesses.pop(peer, None)
    state.followers.pop(peer.connection, None)


def _remember(access: Access, epoch: EpochState) -> None:
    tokens = access.tokens
    tokens.pop(epoch.token_hash, None)
    tokens[epoch.token_hash] = epoch
    if len(tokens) > limits.TOKENS.value:
        del tokens[next(iter(tokens))]


def _chunks(entries: list[Entry]) -> list[list[Entry]]:
    """The entries in groups that fit into a pushed frame; a larger entry is a group of its own."""
    groups: list[list[Entry]] = []
    size = limits.PUSH.value + 1
    for entry in entries:
        add = len(entry.payload) + 34 * len(entry.item_hashes) + 192
        if size + add > limits.PUSH.value:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += add
    return groups
