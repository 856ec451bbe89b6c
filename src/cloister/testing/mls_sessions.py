"""Devices of suite `mls` on the net of `sessions`: certificates in the directory, key packages at the relay.

    net, nodes = mls_room(3)        # three devices of three users in one room
    nodes[0].say(b"hello")
    net.settle()

The relay gives each one-time key package out once and the one of last resort again and again, and keeps what stands
beside a commit for who has its epoch's token. A device answers `Need` as the engine does; `offline` is a relay that
does not answer. Certificates are real: one authority issues them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity.authority import Authority
from cloister.identity.certificate import build_requests
from cloister.identity.realm import DeviceRecord
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    Add,
    Behind,
    Commit,
    Effects,
    Envelope,
    Fault,
    Me,
    Need,
    PreKey,
    RoomPolicy,
    State,
)
from cloister.protocols.mls.session import MlsSession
from cloister.protocols.mls.suite import Mls
from cloister.testing.directory import NOW, FakeDirectory
from cloister.testing.keys import keys_of, seeded
from cloister.testing.sessions import POLICY, ROOM, Net, Node, users

MLS = Mls()
AUTHORITY = Authority.create("home", NOW, seeded("authority"))
"""Who certifies every device of these runs."""
_LEAVES: dict[tuple[str, int], tuple[bytes, ...]] = {}


def certified(record: DeviceRecord, index: int) -> DeviceRecord:
    """The record with a real certificate of the device key."""
    place = record.device_id, index
    if place not in _LEAVES:
        requests = build_requests(keys_of(index, rsa=False), record.device_id)
        _LEAVES[place] = AUTHORITY.issue(requests, record.device_id, NOW, seeded(place))
    return replace(record, certificates=_LEAVES[place])


class CertifiedDirectory(FakeDirectory):
    """As `FakeDirectory`, with certificates."""

    def enrol(self, user: str, index: int, *, rsa: bool = False, device: str | None = None) -> str:
        """One more device, certified; its name."""
        name = super().enrol(user, index, rsa=False, device=device)
        size, record = self._versions[name][-1]
        if isinstance(record, DeviceRecord):
            self._versions[name][-1] = (size, certified(record, index))
        return name

    def renew(self, device: str, certificates: tuple[bytes, ...]) -> None:
        """From now on the device has these certificates."""
        self._size += 1
        record = self._versions[device][-1][1]
        if isinstance(record, DeviceRecord):
            self._versions[device].append((self._size, replace(record, since=self._size, certificates=certificates)))


@dataclass
class MlsNet(Net):
    """The relay also keeps key packages; each is given out once, the last one again and again."""

    directory: CertifiedDirectory = field(default_factory=CertifiedDirectory)
    packages: dict[str, list[PreKey]] = field(default_factory=dict)
    group_infos: dict[bytes, bytes] = field(default_factory=dict)
    """Token hash -> what stands beside the commit that began its epoch."""

    def commit(self, node: Node, effect: Commit) -> None:
        """As any relay; and keep what stands beside the commit."""
        super().commit(node, effect)
        if effect.group_info and effect.next_token_hash and self.rooms[effect.room].tip == effect.next_token_hash:
            self.group_infos[effect.next_token_hash] = effect.group_info

    def member(self, user: str, index: int, *, packages: int = 2) -> MlsNode:
        """One more device with key packages at the relay."""
        name = self.directory.enrol(user, index)
        directory = self.directory
        me = Me(device=name, keys=keys_of(index, rsa=False), directory=lambda: directory, realm="home")
        made = MlsNode(net=self, suite=MLS, me=me, rng=seeded((self.seed, user, index)))
        self.nodes.append(made)
        made.publish(packages)
        return made

    def claim(self, device: str) -> list[object] | None:
        """A device's next key package as a driver's answer has it."""
        kept = self.packages.get(device, [])
        if not kept:
            return None
        found = kept[0] if kept[0].last_resort else kept.pop(0)
        return [device, found.public, found.ref, found.not_before, found.expires]


@dataclass
class MlsNode(Node):
    """A device that answers `Need("prekeys")` as the engine does."""

    net: MlsNet
    own: dict[bytes, PreKey] = field(default_factory=dict)
    offline: bool = False
    """Whether answers to `Need("prekeys")` do not come."""

    @property
    def mls(self) -> MlsSession:
        """The session; there must be one."""
        if not isinstance(self.session, MlsSession):
            raise LookupError(f"{self.name} has no session")
        return self.session

    def mls_entered(self) -> bool:
        """Whether the device is in the room."""
        return self.session is not None and self.live.view.state is not State.REMOVED

    def publish(self, n: int) -> None:
        """Bring key packages to the relay."""
        made = list(MLS.prekeys(self.me, n, self.net.now, self.rng))
        self.net.packages[self.name] = made
        self.own.update({each.ref: each for each in made})

    def _carry_out(self, effect: object) -> None:
        super()._carry_out(effect)
        if isinstance(effect, Need) and self.session is not None and not self.offline:
            if effect.what == "prekeys":
                self._supply(effect)
            elif effect.what == "group info":
                value = enc(effect.ids[1], self.beside(effect))
                self.apply(self.live.answer("group info", value, self.net.now, self.rng))

    def beside(self, need: Need) -> bytes:
        """What the relay answers to a token: the group info of its epoch's commit."""
        return self.net.group_infos.get(sha256(need.ids[1]), b"")

    def _supply(self, need: Need) -> None:
        own = [self.own[ref] for ref in need.ids if ref in self.own]
        for each in own:
            row = enc(each.public, each.private, each.ref, each.expires, each.last_resort)
            self.apply(self.live.answer("prekey", row, self.net.now, self.rng))
        if not own:
            rows = [found for ref in need.ids if (found := self.net.claim(ref.decode())) is not None]
            self.apply(self.live.answer("prekeys", enc(rows), self.net.now, self.rng))

    def give(self, envelope: Envelope) -> Effects:
        """An envelope, as the engine routes it."""
        if self.session is not None:
            return super().give(envelope)
        try:
            return self._join(envelope, None)
        except Behind as behind:
            if behind.need.what != "prekeys":
                return self.apply((behind.need,))
            ref = behind.need.ids[0]
        except PeerError as error:
            return self.apply((Fault(code=error.code, check=error.check),))
        try:
            return self._join(envelope, self.own.get(ref))
        except Behind as behind:
            return self._with_tree(envelope, behind.need, self.own[ref])
        except PeerError as error:
            return self.apply((Fault(code=error.code, check=error.check),))

    def _with_tree(self, envelope: Envelope, need: Need, prekey: PreKey) -> Effects:
        if need.what != "group info":
            return self.apply((need,))
        sealed = self.beside(need)
        if not sealed:
            return self.apply((Fault(code="no_session"),))
        try:
            return self._join(replace(envelope, attachments=sealed), prekey)
        except PeerError as error:
            return self.apply((Fault(code=error.code, check=error.check),))

    def _join(self, envelope: Envelope, prekey: PreKey | None) -> Effects:
        self.session, effects = MLS.join(self.me, envelope, prekey, self.net.now, self.rng)
        if prekey is not None and not prekey.last_resort:
            del self.own[prekey.ref]
        return self.apply(effects)


def mls_room(n: int, seed: object = 0, policy: RoomPolicy = POLICY) -> tuple[MlsNet, list[MlsNode]]:
    """A net with n devices of n users, all in one room that the first has made."""
    net = MlsNet(seed=seed)
    nodes = [net.member(user, index) for index, user in enumerate(users(n))]
    nodes[0].create(ROOM, policy)
    if n > 1:
        nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    return net, nodes
