"""How this device knows the people of its realm: its own name, a link it made itself, or the realm log alone.

Source: docs/spec/identity.md ("Enrolment"). A newcomer who used one of this device's links proves it by a tag that
only holders of the link can make; a wrong tag is an alarm.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from cloister.engine.account import Account
from cloister.engine.realm_log import RealmLog
from cloister.engine.rows import OwnInvite
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.engine.values import CertificateInfo, UserInfo, UserJoined
from cloister.errors import PeerError, UsageError
from cloister.identity.certificate import DEVICE_USAGES, VerifiedCertificate
from cloister.identity.enrolment import check_tag
from cloister.identity.invite import Token
from cloister.identity.realm import DeviceRecord, RealmState, UserRecord
from cloister.identity.safety_number import safety_number

_invite = msgspec.msgpack.Decoder(OwnInvite)


@dataclass(slots=True)
class Users:
    """The people of the realm, as known here."""

    account: Account
    realm: RealmLog
    _how: dict[str, str] = field(default_factory=dict)

    def load(self, store: Store) -> None:
        """Judge everybody in the replica."""
        if self.realm.size:
            for name in self.realm.state().users():
                self._how[name] = self._judge(store.get("invite", self._invite_of(name)), name)

    def joined(self, unit: Unit, names: list[str]) -> None:
        """New names have come: judge them and say so."""
        for name in names:
            how = self._judge(unit.get("invite", self._invite_of(name)), name)
            self._how[name] = how
            unit.notify(
                lambda cursor, name=name, how=how: UserJoined(  # type: ignore[misc]
                    cursor=cursor, name=name, how=how, alarm=how == "alarm"
                )
            )

    def verified(self, name: str) -> bool:
        """Whether a name is known by more than the realm log."""
        return self._how.get(name) in ("own", "link")

    def all(self, online: Collection[str] = ()) -> list[UserInfo]:
        """Everybody, by name; `online` are those whom the relay says to be there."""
        state = self.realm.state()
        me = (self.account.user, self.account.user_keys.public)
        return [
            UserInfo(
                name=name,
                devices=list(state.user(name).devices),
                safety_number=safety_number(self.account.realm, me, (name, state.user(name).identity_key.raw)),
                how=self._how.get(name, "log"),
                online=name in online,
            )
            for name in state.users()
        ]

    def certificates(self, name: str) -> list[CertificateInfo]:
        """A user's certificates out of the replica, each verified; UsageError("no_user").

        The relay's word counts for nothing here: records came from it, and each was judged when it was folded.
        """
        state = self.realm.state()
        try:
            devices = state.user(name).devices
        except PeerError as error:
            raise UsageError("no_user", name) from error
        certified = [record for device in devices if (record := _certified(state, device))]
        return [
            CertificateInfo(
                device=record.device_id,
                usage=leaf.usage.value,
                serial=f"{leaf.serial:x}",
                not_before=leaf.not_before,
                not_after=leaf.not_after,
                state=_standing(state, record.device_id),
                place=record.since,
                authority=state.authorities.root_hash.hex(),
                der=b64encode(leaf.der).decode(),
            )
            for record in certified
            for leaf in _leaves(state, record)
        ]

    def _invite_of(self, name: str) -> bytes:
        return self.realm.state().user(name).enrolled.invite_id or b""

    def _judge(self, invite: bytes | None, name: str) -> str:
        if name == self.account.user:
            return "own"
        if invite is None:
            return "log"
        return self._tagged(_invite.decode(invite), self.realm.state().user(name))

    def _tagged(self, invite: OwnInvite, user: UserRecord) -> str:
        token = Token(id=user.enrolled.invite_id or b"", secret=invite.secret)
        try:
            check_tag(token, self.account.realm, user.enrolled)
        except PeerError:
            return "alarm"
        return "link"


def _certified(state: RealmState, device: str) -> DeviceRecord | None:
    """The device's record; None for one that waits for its certificates."""
    try:
        return state.find(device)
    except PeerError:
        return None


def _standing(state: RealmState, device: str) -> str:
    """`stands`, or why the device does not count."""
    try:
        state.device(device)
    except PeerError as error:
        return error.code
    return "stands"


def _leaves(state: RealmState, record: DeviceRecord) -> list[VerifiedCertificate]:
    """The device's certificates, verified once more against the pinned authority, within their time."""
    at = min(state.time(), record.not_after)
    return [
        state.authorities.verify(der, at, record.device_id, usage)
        for der, usage in zip(record.certificates, DEVICE_USAGES, strict=False)
    ]
