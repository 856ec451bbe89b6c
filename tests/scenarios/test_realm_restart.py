"""A start folds the realm log again, and verifies nothing that this device verified before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloister.engine.realm_log import RealmLog
from cloister.engine.store import Put
from cloister.errors import UnavailableError
from cloister.identity import findings
from cloister.identity.certificate import Authorities
from cloister.testing.realm import SmallRealm
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every leaf whose chain is verified from now on."""
    seen: list[bytes] = []
    verify: Callable[..., Any] = Authorities.verify

    def watched(self: Authorities, leaf: bytes, *rest: Any) -> Any:
        seen.append(leaf)
        return verify(self, leaf, *rest)

    monkeypatch.setattr(Authorities, "verify", watched)
    return seen


def test_a_start_verifies_no_certificate_again(realm: SmallRealm, verified: list[bytes]) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        before = alice.engine.realm
        alice.crash()
        verified.clear()
        alice.start()
        again = alice.engine.realm
        assert verified == []
        assert (again.size, again.users()) == (before.size, before.users())
        for account in realm.accounts.values():
            old, new = before.device(account.device), again.device(account.device)
            assert (new.serials, new.not_after, new.key) == (old.serials, old.not_after, old.key)
            assert before.roster_row(account.device) == again.roster_row(account.device)

    live(story, realm)


@pytest.mark.parametrize("spoil", ["another hash", "no row"])
def test_what_was_found_elsewhere_is_not_believed(realm: SmallRealm, verified: list[bytes], spoil: str) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        alice.crash()
        store = alice.store.open()
        rows = dict(store.scan("found"))
        assert len(rows) == 4
        seq = (2).to_bytes(8, "big")
        store.apply([Put("found", seq, bytes(32) + rows[seq][32:] if spoil == "another hash" else b"")])
        verified.clear()
        replica = RealmLog.load(store, alice.account)
        assert len(verified) == 3, "the three leaves of one record"
        assert replica.size == 4
        alice.start()
        await world.until(lambda: alice.engine.link.online)
        assert dict(alice.store.open().scan("found")) == rows, "what was missing is kept again"

    live(story, realm)


def test_findings_of_other_leaves_are_damage() -> None:
    for found in (b"", b"\x90", b"\x91\x01", b"\xc1"):
        with pytest.raises(UnavailableError) as caught:
            findings.unpack(found, [b"leaf"], "cloister://home.example/u/alice/d/phone")
        assert caught.value.code == "damaged"
    assert findings.unpack(findings.pack([]), [], "x") == []
