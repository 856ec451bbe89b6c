"""Members and groups for the MLS tests: seeded, so that a failing run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cloister.mls import (
    Add,
    Capabilities,
    CommitOptions,
    Credential,
    Group,
    Identity,
    KeyPackageSecrets,
    LeafTemplate,
    Policy,
    StagedCommit,
    lifetime_from,
    make_key_package,
    suite_of,
)
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.proposal import SELF_REMOVE
from cloister.primitives.signature import SigningKey

NOW = 1_800_000_000_000
POLICY = Policy(validate=lambda credential, key, now: True, accept=lambda sender, proposals: True)
SUITE = suite_of(1)


def capabilities(suite: CipherSuite = SUITE, **changes: tuple[int, ...]) -> Capabilities:
    """All official suites and `suite`, SelfRemove, basic and X.509 credentials."""
    base = Capabilities()
    values: dict[str, tuple[int, ...]] = {
        "cipher_suites": tuple(sorted({*base.cipher_suites, suite.suite_id})),
        "proposals": (SELF_REMOVE,),
        **changes,
    }
    return Capabilities(**values)


@dataclass
class Client:
    """One client with a seeded source of randomness."""

    name: str
    suite: CipherSuite = SUITE
    policy: Policy = POLICY
    capabilities: Capabilities | None = None
    identity: Identity = field(init=False)
    group: Group = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.name).randbytes
        key = SigningKey.generate(self.suite.scheme, self.rng)
        template = LeafTemplate(
            credential=Credential.basic(self.name.encode()),
            capabilities=self.capabilities or capabilities(self.suite),
        )
        self.identity = Identity(key=key, template=template)

    def package(self, now: int = NOW) -> KeyPackageSecrets:
        """A fresh key package."""
        return make_key_package(self.suite, self.identity.key, self.identity.template, lifetime_from(now), self.rng)

    def create(self, group_id: bytes = b"room", **arguments: object) -> Group:
        """A new group of this client."""
        self.group = Group.create(self.identity, self.suite, group_id, self.policy, NOW, self.rng, **arguments)
        return self.group

    def add(self, *others: Client, options: CommitOptions | None = None) -> StagedCommit:
        """Add others in one commit, merged here; they join by its Welcome."""
        packages = [other.package() for other in others]
        staged = self.group.commit(NOW, self.rng, [Add(each.package) for each in packages], options or CommitOptions())
        self.group.merge(staged, NOW)
        for other, own in zip(others, packages, strict=True):
            other.join(own, staged.welcome or b"")
        return staged

    def join(self, own: KeyPackageSecrets, welcome: bytes) -> Group:
        """Join by a Welcome."""
        self.group = Group.join(own, self.identity, welcome, self.policy, NOW)
        return self.group

    def take(self, message: bytes) -> StagedCommit:
        """Process a commit and merge it."""
        staged = self.group.process(message, NOW)
        assert isinstance(staged, StagedCommit)
        self.group.merge(staged, NOW)
        return staged


def group_of(*names: str, suite: CipherSuite = SUITE, policy: Policy = POLICY) -> list[Client]:
    """Clients who are all in one group, the first its creator, all with a warm tree behind them."""
    clients = [Client(name, suite, policy) for name in names]
    clients[0].create()
    if len(clients) > 1:
        clients[0].add(*clients[1:])
    return clients


def agree(clients: list[Client]) -> None:
    """All are in the same epoch with the same authenticator."""
    assert len({(each.group.epoch, each.group.epoch_authenticator) for each in clients}) == 1
