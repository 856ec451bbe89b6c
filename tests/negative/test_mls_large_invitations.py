"""What one of many newcomers, or of many members, can cost the others in a large room of suite `mls`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.mls import KeyPackage, decode_message, encode_message
from cloister.protocols.interface import Add, PreKey
from cloister.protocols.mls.session import MlsSession
from cloister.testing.keys import seeded
from support.mls_net import MLS, MlsNet, MlsNode, mls_room


def damaged(prekey: PreKey) -> PreKey:
    """The package with another signature, declared as it is."""
    public = prekey.public[:-1] + bytes([prekey.public[-1] ^ 1])
    package = decode_message(public)
    assert isinstance(package, KeyPackage)
    return replace(prekey, public=encode_message(package), ref=package.reference())


def stages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packages each commit had that was made, or tried."""
    sizes: list[int] = []
    stage = MlsSession._stage

    def counted(self: MlsSession, want: object, packages: list[KeyPackage], *rest: object, **more: object) -> object:
        sizes.append(len(packages))
        return stage(self, want, packages, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MlsSession, "_stage", counted)
    return sizes


def members(net: MlsNet, first: int, count: int) -> list[MlsNode]:
    return [net.member(f"x{number:02}", number, packages=1) for number in range(first, first + count)]


def test_one_bad_package_of_many_is_found_in_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (a, b) = mls_room(2)
    many = members(net, 2, 32)
    net.packages[many[20].name] = [damaged(net.packages[many[20].name][0])]
    sizes = stages(monkeypatch)
    a.change(*(Add(node.name) for node in many))
    assert len(sizes) <= 3 + 2 * 5, "the whole, the whole without a path, both halves at each level, the commit"
    net.settle([a, b, *(node for node in many if node is not many[20])])
    assert len(b.live.view.roster) == 2 + 31
    assert many[20].name not in b.live.view.roster
    assert [(fault.code, fault.peer) for fault in a.faults] == [("not_allowed", many[20].name)]


def test_two_packages_with_one_key_do_not_keep_the_others_out() -> None:
    """Two devices of one will: each package is good alone, no group takes both."""
    net, (a, b) = mls_room(2)
    c, d, e = members(net, 2, 3)
    for node in (c, d):
        net.packages[node.name] = list(MLS.prekeys(node.me, 1, net.now, seeded("the same")))[:1]
    a.change(*(Add(node.name) for node in (c, d, e)))
    net.settle([a, b, e])
    assert set(b.live.view.roster) >= {a.name, b.name, e.name}
    assert len(b.live.view.roster) == 4
    assert len(a.faults) == 1
    assert a.faults[0].peer in (c.name, d.name)
