"""Document 003 without the fixes F4.1 to F4.5: each class takes one fix of suite `pair` back.

Source: docs/spec/classic/pair.md, document 003. F4.6 (the user list is a hint) and F4.7 (the relay's certificate) are
shown by tests.

- Claimed (F4.1)        whoever says a name and a key is registered with them.
- KeyOfTheRelay (F4.2) the key that came with a message is its sender's.
- OnlyEphemeral (F4.3)  the signature covers the ephemeral key alone, keys follow from both ephemerals, two messages do.
- Hint (F4.4)           a chat_terminate that nobody sealed ends a session.
- ZeroKey (F4.5)        a shared secret of zeros is as good as any.
- Restores (Restore)    a copy that is put back writes on where it was.

A subject is `World`: the suite, and the registration of the relay that is asked before anybody can use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, decode, enc
from cloister.errors import PeerError
from cloister.identity.enrolment import Application, check_register
from cloister.identity.realm import DeviceRecord
from cloister.lab.originals import taken_back
from cloister.primitives.dh import KEY_SIZE, DhKey
from cloister.primitives.labelled import hash_of
from cloister.primitives.signature import VerifyKey
from cloister.protocols.interface import READ_ONLY_ITEM, Me, Session
from cloister.protocols.pair.steps import Identity, Request, Steps
from cloister.protocols.pair.suite import Pair

Register = Callable[[bytes, str, bytes, bytes, int], Application]
"""(message, realm, SHA-256 of L1, SHA-256 of L2, now in ms) -> who is taken in; PeerError."""


@dataclass(frozen=True, slots=True)
class World:
    """What an attack is aimed at."""

    suite: Pair
    register: Register


class Claimed:
    """Without F4.1: nobody asks for a proof, and nothing ties the message to this connection."""

    @staticmethod
    def register(data: bytes, realm: str, l1_hash: bytes, l2_hash: bytes, now: int) -> Application:
        """Whatever the message says."""
        said = decode(data)
        Fields(said, "register").kind("register")
        return Application.decode(enc(*said[1:-2]), realm)


class KeyOfTheRelay(Steps):
    """Without F4.2: the server hands keys out, and they are believed."""

    def key_of(self, record: DeviceRecord, claimed: Identity) -> VerifyKey:
        """The key that the message brings."""
        return VerifyKey("ed25519", claimed.key)


class OnlyEphemeral(Steps):
    """Without F4.3: the document's signed ephemeral keys, and nothing else."""

    def covered(self, request: Request) -> list[object]:
        """E_A."""
        return [request.ephemeral]

    def transcript(self, request: Request, answer: bytes) -> bytes:
        """Both ephemeral keys."""
        return hash_of("pair th", request.ephemeral, answer)

    def confirms(self) -> bool:
        """No third message is waited for."""
        return False


class Hint(Steps):
    """Without F4.4: the control message is in clear."""

    def ends_by_hint(self) -> bool:
        """It ends the session."""
        return True


class ZeroKey(Steps):
    """Without F4.5: no result is looked at."""

    def exchange(self, own: DhKey, public: bytes) -> bytes:
        """The shared secret, zeros included."""
        try:
            return own.exchange(public)
        except PeerError:
            return bytes(KEY_SIZE)


class Restores(Pair):
    """Without the rule of restores."""

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session, whatever mark it bears."""
        return super().restore(me, {key: value for key, value in items.items() if key != READ_ONLY_ITEM})


FIXES: Final[Mapping[str, type]] = {
    "F4.1": Claimed,
    "F4.2": KeyOfTheRelay,
    "F4.3": OnlyEphemeral,
    "F4.4": Hint,
    "F4.5": ZeroKey,
    "Restore": Restores,
}
_STEPS: Final = {fix: override for fix, override in FIXES.items() if issubclass(override, Steps)}


def product() -> World:
    """The suite and the registration as people use them."""
    return World(Pair(), check_register)


def original(put_back: frozenset[str] = frozenset()) -> World:
    """Document 003, but for the fixes that are put back."""
    suite = Pair if "Restore" in put_back else Restores
    register = check_register if "F4.1" in put_back else Claimed.register
    return World(suite(taken_back(Steps, _STEPS, put_back - {"F4.1", "Restore"})), register)
