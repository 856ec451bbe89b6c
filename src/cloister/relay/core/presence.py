"""Presence: who of those who want to be seen is connected now, told to whoever has asked for the user list.

Source: docs/spec/classic/pair.md, fix F4.6; document 003's `user_list`.

Invariants
- Opt-in, for each connection: without `presence` nothing is said of a device, and nothing is stored at all.
- A hint: no rule of the relay and none of a client's keys or members follows from it.
- A change is pushed to the connections that have asked for `user_list`; a slow reader misses it and may ask again.
"""

from __future__ import annotations

from cloister.relay.core.batch import Gathering
from cloister.relay.core.directory import Directory
from cloister.relay.core.state import Peer
from cloister.wire.frames import Online, Presence, UserList, Users


class Attendance:
    """Who is visible, and who follows."""

    def __init__(self, directory: Directory, gathering: Gathering) -> None:
        self._directory = directory
        self._gathering = gathering
        self._visible: dict[str, set[Peer]] = {}
        self._followers: set[Peer] = set()

    def user_list(self, peer: Peer, frame: UserList, now: int) -> None:
        """All users, and who of them is seen to be online; changes follow while the connection lasts."""
        self._followers.add(peer)
        names = list(self._directory.realm.users())
        peer.send(Users(rid=frame.rid, names=names, online=sorted(self._visible.keys() & set(names))))

    def presence(self, peer: Peer, frame: Presence, now: int) -> None:
        """Let this connection be seen, or not."""
        self._show(peer) if frame.visible else self._hide(peer)
        self._gathering.done(peer, frame.rid)

    def leave(self, peer: Peer) -> None:
        """The connection is gone."""
        self._followers.discard(peer)
        self._hide(peer)

    def _show(self, peer: Peer) -> None:
        seen = self._visible.setdefault(peer.user, set())
        if not seen:
            self._tell(peer.user, online=True)
        seen.add(peer)

    def _hide(self, peer: Peer) -> None:
        seen = self._visible.get(peer.user, set())
        if peer in seen:
            seen.remove(peer)
            if not seen:
                del self._visible[peer.user]
                self._tell(peer.user, online=False)

    def _tell(self, user: str, *, online: bool) -> None:
        for follower in self._followers:
            if not follower.clogged:
                follower.send(Online(name=user, online=online))
