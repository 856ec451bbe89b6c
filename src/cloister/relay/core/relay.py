"""The relay's rules behind one object: connections and frames in, frames and batches of writes out.

Source: docs/spec/relay.md ("Core"). No transport, thread, clock or randomness of its own; `now` (ms) and `rng` are
given. The server and the simulation drive it alike:

    core.connect(connection, now); core.frame(connection, data, now) ...; core.disconnect(connection, now)
    batch = core.take_batch()             the writes since the last one, or None
    store.apply(batch.writes)             elsewhere; one transaction, durable when it returns
    core.committed(batch, now)            in the order taken: heads are signed, acks sent, followers served
    core.drained(connection, now)         a reader took what waited for it
    core.tick(now)                        about once a second: deadlines, retention

Invariants
- Rules decide at once on state that may be ahead of the disk; nothing that depends on a write is said before it
  stands. A failed commit means that the process ends (`failed`): no write is retried, no state is repaired.
- A frame that breaks the form ends the connection; one that breaks a rule gets `Refused` and changes nothing.
- One table maps (state of the connection, kind of frame) to its handler; a missing pair is refused in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cloister.errors import PeerError, UnavailableError
from cloister.identity.authority import Authority
from cloister.primitives import Rng
from cloister.relay.core.batch import Batch, Gathering
from cloister.relay.core.directory import Directory
from cloister.relay.core.enrol import Admission
from cloister.relay.core.exclusion import Exclusion
from cloister.relay.core.fanout import Fanout
from cloister.relay.core.guests import Guests
from cloister.relay.core.log import Logs
from cloister.relay.core.login import Door
from cloister.relay.core.mailbox import Mailboxes
from cloister.relay.core.ports import Broadcast, Connection, RelayKeys, Settings, broadcast
from cloister.relay.core.prekeys import Prekeys
from cloister.relay.core.presence import Attendance
from cloister.relay.core.quota import Bucket
from cloister.relay.core.rendezvous import Rendezvous
from cloister.relay.core.rooms import Rooms
from cloister.relay.core.runs import Runs
from cloister.relay.core.stage import Staging
from cloister.relay.core.state import LOGGED_IN, Peer, State
from cloister.relay.store.interface import Purge, Store
from cloister.wire import limits
from cloister.wire.frames import (
    Ack,
    Append,
    Bye,
    Certify,
    Commit,
    CreateSession,
    Deposit,
    Enrol,
    Forget,
    Frame,
    GetGroupInfo,
    GetMailKeys,
    GetPubkey,
    GuestLogin,
    Hello,
    InvitePut,
    JoinSession,
    Login,
    MailAck,
    MailOpen,
    OpenRun,
    Pass,
    Post,
    PrekeysClaim,
    PrekeysPut,
    Presence,
    Present,
    PutMailKey,
    Refused,
    Release,
    Stage,
    UserList,
    decode_before_login,
    decode_request,
    encode,
)

Handler = Callable[[Peer, Any, int], None]

COSTS: Final[Mapping[type[Frame], int]] = {OpenRun: 20, Presence: 20, Commit: 5, Stage: 5, GetGroupInfo: 5, Append: 5}
"""What a request takes of limits.POST_RATE; one where it is not named."""
_IN_FLIGHT: Final = limits.IN_FLIGHT.value
_SEND_BUFFER: Final = limits.SEND_BUFFER.value
_FRAME: Final = limits.FRAME.value
_READY: Final = State.READY
_CLOSED: Final = State.CLOSED
STORING: Final = frozenset(
    {Enrol, Post, Commit, OpenRun, Stage, Deposit, PutMailKey, PrekeysPut, Certify, Append, InvitePut}
)
"""Requests that a full disk refuses (`storage_full`); reading and acknowledging mail go on."""


class RelayCore:
    """One relay."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        keys: RelayKeys,
        authority: Authority,
        rng: Rng,
        broadcast: Broadcast = broadcast,
    ) -> None:
        self._store = store
        self._settings = settings
        self._gathering = Gathering()
        self._logs = Logs(store, settings, keys, self._gathering)
        self.directory = Directory(store, self._logs, self._gathering, self._shut_out)
        self._mailboxes = Mailboxes(
            store, self._gathering, self.directory.check_mail, lambda device: self._door.peers_of(device)
        )
        self._prekeys = Prekeys(
            store, self._gathering, self.directory.check_mail, lambda device: self._door.peers_of(device)
        )
        self.exclusion = Exclusion(store, self._gathering)
        self._door = Door(settings, keys, rng, self.directory, self.exclusion, self._logs, self._mailboxes)
        self._staging = Staging(store, self._gathering)
        self._runs = Runs(store, self._logs, self._mailboxes, self._gathering)
        self._rooms = Rooms(store, self._logs, self._runs, self._mailboxes, self._staging, self._gathering)
        self._fanout = Fanout(self._logs, broadcast)
        self._attendance = Attendance(self.directory, self._gathering)
        self._rendezvous = Rendezvous(settings, rng)
        self._guests = self._door.guests = Guests(
            store, self._gathering, self._logs, self._rooms, self._fanout, self._rendezvous
        )
        self.admission = Admission(store, settings, authority, rng, self.directory, self._gathering)
        self._peers: dict[Connection, Peer] = {}
        self._strangers: dict[Peer, int] = {}
        self._addresses: dict[str, int] = {}
        self._next_purge = 0
        self.full = False
        self.handlers: Mapping[State, Mapping[type[Frame], Handler]] = self._table()
        self._requests = self.handlers[State.READY]

    def _table(self) -> Mapping[State, Mapping[type[Frame], Handler]]:
        return {
            State.EXPECT_HELLO: {Hello: self._door.hello},
            State.EXPECT_LOGIN: {Login: self._door.login},
            State.EXPECT_ENROL: {Enrol: self.admission.enrol, GuestLogin: self._door.guest},
            State.GUEST: {
                Present: self._guests.present,
                Forget: self._guests.forget,
                Post: self._guests.post,
                Commit: self._guests.commit,
                **self._meeting(),
            },
            State.READY: {
                Present: self._fanout.present,
                Forget: self._fanout.forget,
                Post: self._rooms.post,
                Commit: self._rooms.commit,
                GetGroupInfo: self._rooms.group_info,
                OpenRun: self._runs.open,
                Stage: self._staging.stage,
                Deposit: self._mailboxes.deposit,
                MailOpen: self._mailboxes.open,
                MailAck: self._mailboxes.ack,
                PutMailKey: self.directory.put_mail_key,
                GetMailKeys: self.directory.get_mail_keys,
                PrekeysPut: self._prekeys.put,
                PrekeysClaim: self._prekeys.claim,
                Certify: self.admission.certify,
                Append: self.directory.append,
                InvitePut: self.admission.invite_put,
                UserList: self._attendance.user_list,
                Presence: self._attendance.presence,
                GetPubkey: self.directory.get_pubkey,
                **self._meeting(),
            },
        }

    def _meeting(self) -> dict[type[Frame], Handler]:
        """Session codes: for guests and devices alike."""
        return {
            CreateSession: self._rendezvous.create,
            JoinSession: self._rendezvous.join,
            Pass: self._rendezvous.pass_on,
            Release: self._rendezvous.release,
        }

    # --- connections ----------------------------------------------------------------------------------------

    def connect(self, connection: Connection, now: int) -> None:
        """A new connection; closed at once when its address has too many that are not logged in."""
        address = connection.address
        if self._addresses.get(address, 0) >= limits.CONNECTIONS.value:
            connection.close("quota")
            return
        rate = limits.POST_RATE.value
        peer = self._peers[connection] = Peer(connection, Bucket(limits.SECOND / rate, 5 * rate, now))
        self._strangers[peer] = now + limits.HANDSHAKE.value
        self._addresses[address] = self._addresses.get(address, 0) + 1

    def disconnect(self, connection: Connection, now: int) -> None:
        """A connection is gone."""
        peer = self._peers.pop(connection, None)
        if peer is None:
            return
        peer.state = State.CLOSED
        self._no_stranger(peer)
        self._rendezvous.leave(peer)
        self._fanout.leave(peer)
        self._attendance.leave(peer)
        self._door.leave(peer)

    def _no_stranger(self, peer: Peer) -> None:
        """The peer has logged in, or is gone."""
        if self._strangers.pop(peer, None) is not None:
            address = peer.connection.address
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def drained(self, connection: Connection, now: int) -> None:
        """What waited for this reader has been taken: say what it is behind in, send more mail."""
        peer = self._peers.get(connection)
        if peer is not None and peer.state in LOGGED_IN:
            self._fanout.announce(peer)
            self._mailboxes.pump(peer)

    def known(self, connection: Connection) -> bool:
        """Whether the connection has logged in."""
        peer = self._peers.get(connection)
        return peer is not None and peer.state in LOGGED_IN

    def busy(self, connection: Connection) -> bool:
        """Whether to read on only later: answers wait for the reader, or too many requests are under way."""
        peer = self._peers.get(connection)
        return peer is not None and (peer.clogged or peer.in_flight >= limits.IN_FLIGHT.value)

    def _close(self, peer: Peer, code: str) -> None:
        if peer.state is not State.CLOSED:
            peer.state = State.CLOSED
            peer.send(Bye(code=code))
            peer.connection.close(code)

    def _shut_out(self, device: str) -> None:
        """A device stops counting, once the batch that says so stands."""
        self._mailboxes.drop(device)
        self._prekeys.drop(device)
        self._gathering.after(lambda _: self._end(device, "revoked"))

    def _end(self, device: str, code: str) -> None:
        """Close every connection of a device."""
        for peer in self._door.peers_of(device):
            self._close(peer, code)

    def serve(self, user: str, wanted: bool) -> None:
        """Let a user's devices log in, or no more, which ends their connections; PeerError("unknown_sender").

        For the operator's requests. A device that the user adds is one of the user's.
        """
        devices = self.directory.realm.user(user).devices
        self.exclusion.put(user, not wanted)

        def end(_now: int) -> None:
            for device in devices:
                self._end(device, "disabled")

        if not wanted:
            self._gathering.after(end)

    # --- frames ---------------------------------------------------------------------------------------------

    def frame(self, connection: Connection, data: bytes, now: int) -> bool:
        """One frame of a client. False: read on only later (see `busy`)."""
        peer = self._peers.get(connection)
        if peer is None or peer.state is _CLOSED:
            return True
        requests = self._requests
        if peer.state is not _READY:
            if peer.state is not State.GUEST:
                self._stranger(peer, data, now)
                return True
            requests = self.handlers[State.GUEST]
        try:
            if len(data) > _FRAME:
                raise PeerError("bad_encoding", "a frame over the limit")
            frame = decode_request(data)
        except PeerError as error:
            self._close(peer, error.code)
            return True
        kind = type(frame)
        try:
            if not peer.requests.take(now, COSTS.get(kind, 1)):
                raise PeerError("quota", "requests of this connection")
            if self.full and kind in STORING:
                raise PeerError("storage_full")
            handler = requests.get(kind)
            if handler is None:
                raise PeerError("not_allowed", "not for guests")
            handler(peer, frame, now)
        except (PeerError, UnavailableError) as error:
            peer.send(Refused(rid=frame.rid, code=error.code, detail=error.detail))
        return peer.in_flight < _IN_FLIGHT and connection.waiting < _SEND_BUFFER

    def _stranger(self, peer: Peer, data: bytes, now: int) -> None:
        """A frame before login: a refusal ends the connection."""
        try:
            if len(data) > limits.LOGIN_FRAME.value:
                raise PeerError("bad_encoding", "a frame over the limit before login")
            frame = decode_before_login(data)
        except PeerError as error:
            self._close(peer, error.code)
            return
        rid = frame.rid if isinstance(frame, Enrol) else 0
        try:
            handler = self.handlers[peer.state].get(type(frame))
            if handler is None:
                raise PeerError("not_allowed", "not now")
            if self.full and type(frame) in STORING:
                raise PeerError("storage_full")
            handler(peer, frame, now)
        except (PeerError, UnavailableError) as error:
            number = now if error.code == "clock_skew" else 0
            peer.send(Refused(rid=rid, code=error.code, detail=error.detail, number=number))
            self._close(peer, error.code)
            return
        if peer.state in LOGGED_IN:
            self._no_stranger(peer)
        else:
            self._strangers[peer] = now + limits.CHALLENGE_LIFE.value

    def later(self, promise: Callable[[int], None]) -> None:
        """Call `promise(now)` once everything decided so far stands; for the operator's requests."""
        self._gathering.after(promise)

    # --- batches --------------------------------------------------------------------------------------------

    def take_batch(self) -> Batch | None:
        """What has been gathered since the last call, to be stored as one transaction."""
        return self._gathering.take()

    def committed(self, batch: Batch, now: int) -> None:
        """A batch stands on the disk: sign, acknowledge, push, and keep the other promises."""
        self._store.refresh()
        logs = batch.logs.values()
        for appended in logs:
            self._logs.committed(appended)
        for peer, rid, state, seq, ts_ms in batch.acks:
            peer.in_flight -= 1
            if peer.state is not _CLOSED:
                peer.connection.send(encode(Ack(rid, seq, ts_ms, state.head or self._logs.head(state))))
        for appended in logs:
            self._fanout.push(appended)
        for promise in batch.after:
            promise(now)

    def failed(self) -> None:
        """A batch could not be stored: end every connection. The process must end and read the disk again."""
        self.stop("disk")

    def stop(self, code: str) -> None:
        """Say goodbye to everybody."""
        for peer in list(self._peers.values()):
            self._close(peer, code)

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Close connections that are too slow to log in; look for what is past its time."""
        self._store.idle()
        self._rendezvous.tick(now)
        self._guests.tick(now)
        for peer, deadline in list(self._strangers.items()):
            if now > deadline:
                self._close(peer, "timeout")
        if now >= self._next_purge:
            self._next_purge = now + self._settings.purge_every
            self._gathering.write(Purge(now))
