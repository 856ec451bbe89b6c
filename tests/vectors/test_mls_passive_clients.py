"""The working group's passive clients: joined by a Welcome, they follow a group that others move."""

from __future__ import annotations

from typing import Any

import pytest

from cloister import mls
from cloister.primitives.signature import SigningKey
from support.need import json_vectors

unhex = bytes.fromhex
ANY = mls.Policy(
    validate=lambda credential, key, now: True,
    successor=lambda old, new: True,
    accept=lambda sender, proposals: True,
    max_lifetime=2**64,
)


def follow(each: dict[str, Any]) -> None:
    suite = mls.suite_of(each["cipher_suite"])
    package = mls.decode_message(unhex(each["key_package"]))
    assert isinstance(package, mls.KeyPackage)
    own = mls.KeyPackageSecrets(
        package=package,
        init_key=suite.hpke_private(unhex(each["init_priv"])),
        leaf_key=suite.hpke_private(unhex(each["encryption_priv"])),
    )
    assert own.init_key.public == package.init_key
    assert own.leaf_key.public == package.leaf_node.encryption_key
    key = SigningKey(suite.scheme, unhex(each["signature_priv"]))
    assert key.public.raw == package.leaf_node.signature_key
    identity = mls.Identity(
        key=key,
        template=mls.LeafTemplate(credential=package.leaf_node.credential, capabilities=package.leaf_node.capabilities),
    )
    lifetime = package.leaf_node.lifetime
    assert lifetime is not None
    now = (lifetime.not_before + 3600) * 1000
    psks = {unhex(row["psk_id"]): unhex(row["psk"]) for row in each["external_psks"]}

    def lookup(psk: mls.PreSharedKeyId) -> bytes | None:
        return psks.get(psk.key_id)

    tree = each["ratchet_tree"]
    options = mls.JoinOptions(tree=unhex(tree) if tree else None)
    group = mls.Group.join(own, identity, unhex(each["welcome"]), ANY, now, lookup, options)
    assert group.epoch_authenticator == unhex(each["initial_epoch_authenticator"])
    for epoch in each["epochs"]:
        for proposal in epoch["proposals"]:
            assert isinstance(group.process(unhex(proposal), now, lookup), mls.ReceivedProposal)
        staged = group.process(unhex(epoch["commit"]), now, lookup)
        assert isinstance(staged, mls.StagedCommit)
        group.merge(staged, now)
        assert group.epoch_authenticator == unhex(epoch["epoch_authenticator"])


@pytest.mark.parametrize("family", ["passive-client-welcome", "passive-client-handling-commit"])
@pytest.mark.parametrize("suite", range(1, 8))
def test_passive_clients(family: str, suite: int) -> None:
    followed = 0
    for each in json_vectors(f"mls/{family}.json.xz"):
        if each["cipher_suite"] == suite:
            follow(each)
            followed += 1
    assert followed
