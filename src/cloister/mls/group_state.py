"""What a group holds in memory, and which of it has changed since it was stored last.

The newest epoch with its secret tree, a few past ones for late messages, the pending proposals, the private
keys of one's own Updates and one's own commits that have not come back yet. `Group` decides, this keeps.

Invariants
- Every change of something that is stored marks the item's key; `changes` gives each marked item's present
  value, or drops it when there is none.
- Past epochs hold no init secret and no tree keys; the policy says how many are kept and how long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from cloister.codec.tls import Reader, decode
from cloister.errors import UnavailableError
from cloister.mls import store
from cloister.mls.committing import OwnUpdates
from cloister.mls.epoch import Epoch, Identity
from cloister.mls.key_schedule import EncryptionSecret
from cloister.mls.policy import Policy, SentProposal
from cloister.mls.proposal import ReInit, Update
from cloister.mls.psk import RESUMPTION, PreSharedKeyId
from cloister.mls.receiving import Live, ReceivedProposal
from cloister.mls.secret_tree import SecretTree
from cloister.mls.staged import StagedCommit
from cloister.mls.store import ACTIVE, LEFT, SUSPENDED, Changes, Items, Overview, epoch_key, tree_key
from cloister.primitives.kem import PrivateKey


class GroupState:
    """The state of one `Group`."""

    __slots__ = ("_dirty", "_echoes", "live", "own_commits", "past", "proposals", "reinit", "state", "updates")

    def __init__(self, live: Live) -> None:
        self.live = live
        self.state = ACTIVE
        self.reinit: ReInit | None = None
        self.past: dict[int, tuple[Live, int]] = {}
        self.proposals: dict[bytes, SentProposal] = {}
        self.updates: OwnUpdates = {}
        self.own_commits: dict[bytes, StagedCommit] = {}
        self._echoes: dict[bytes, bytes] = {}
        self._dirty: set[bytes] = set()

    @classmethod
    def start(cls, epoch: Epoch, secret: EncryptionSecret) -> GroupState:
        """At a first epoch."""
        state = cls(Live(epoch, SecretTree(epoch.suite, epoch.tree.size, secret)))
        state._mark_epoch(epoch.number)
        return state

    # epochs

    def live_at(self, number: int, oldest: int) -> Live | None:
        """An epoch that is still kept: the current one, or one that passed at `oldest` or later."""
        if number == self.live.epoch.number:
            return self.live
        kept = self.past.get(number)
        return kept[0] if kept is not None and kept[1] >= oldest else None

    def resumption_psk(self, psk: PreSharedKeyId) -> bytes | None:
        """The resumption key of a kept epoch of this group."""
        if psk.kind != RESUMPTION or psk.group_id != self.live.epoch.context.group_id:
            return None
        if psk.epoch == self.live.epoch.number:
            return self.live.epoch.secrets.resumption_psk
        kept = self.past.get(psk.epoch)
        return None if kept is None else kept[0].epoch.secrets.resumption_psk

    def merge(self, staged: StagedCommit, now: int, policy: Policy) -> None:
        """Move to the epoch of a commit, or out of the group."""
        if staged.key_use is not None:
            self.live.secrets.use(staged.key_use)
        self._forget_epoch_things()
        old = self.live
        if staged.next_epoch is None or staged.encryption_secret is None:
            self._leave()
            return
        self.past[old.epoch.number] = (Live(old.epoch.passed(), old.secrets), now)
        following = staged.next_epoch
        self.live = Live(following, SecretTree(following.suite, following.tree.size, staged.encryption_secret))
        self._dirty.add(epoch_key(old.epoch.number))
        self._mark_epoch(following.number)
        if staged.reinit is not None:
            self.state, self.reinit = SUSPENDED, staged.reinit
        self._prune(now, policy)

    def _prune(self, now: int, policy: Policy) -> None:
        newest = sorted(self.past, reverse=True)
        for place, number in enumerate(newest):
            if place >= policy.kept_epochs or self.past[number][1] < now - policy.kept_for:
                self._drop_epoch(self.past.pop(number)[0])

    def _leave(self) -> None:
        self.state = LEFT
        for live, _ in (*self.past.values(), (self.live, 0)):
            self._drop_epoch(live)
        self.past.clear()
        self.live = Live(self.live.epoch.passed(), SecretTree(self.live.epoch.suite, 1))
        self._dirty.add(b"g")

    def _drop_epoch(self, live: Live) -> None:
        number = live.epoch.number
        self._dirty.update((epoch_key(number), tree_key(number), b"g"))
        self._dirty.update(store.secret_key(number, item) for item in store.secret_items(live.secrets))
        self._dirty.update(store.secret_key(number, item) for item in live.secrets.changed)

    def _mark_epoch(self, number: int) -> None:
        self._dirty.update((b"g", epoch_key(number), tree_key(number)))

    # proposals and commits of the epoch

    def add_proposal(self, sent: SentProposal, message: bytes = b"") -> None:
        """Keep a proposal; `message` is set for one's own, to know it again when it comes back."""
        self.proposals[sent.reference] = sent
        self._dirty.add(b"p" + sent.reference)
        if message:
            digest = sha256(message).digest()
            self._echoes[digest] = sent.reference
            self._dirty.add(b"m" + digest)

    def drop_proposal(self, reference: bytes) -> None:
        """Forget a proposal."""
        if self.proposals.pop(reference, None) is not None:
            self._dirty.add(b"p" + reference)

    def add_update(self, key: PrivateKey, identity: Identity) -> None:
        """Keep the private key of one's own Update."""
        self.updates[key.public] = (key, identity)
        self._dirty.add(b"u" + key.public)

    def add_pending(self, staged: StagedCommit) -> None:
        """Keep one's own commit until it comes back."""
        digest = sha256(staged.message).digest()
        self.own_commits[digest] = staged
        self._dirty.add(b"c" + digest)

    def drop_pending(self, staged: StagedCommit) -> None:
        """Forget one's own commit."""
        digest = sha256(staged.message).digest()
        if self.own_commits.pop(digest, None) is not None:
            self._dirty.add(b"c" + digest)

    def own_echo(self, message: bytes) -> StagedCommit | ReceivedProposal | None:
        """What one's own message said, when it comes back."""
        if not self.own_commits and not self._echoes:
            return None
        digest = sha256(message).digest()
        staged = self.own_commits.get(digest)
        if staged is not None:
            return staged
        sent = self.proposals.get(self._echoes.get(digest, b""))
        return None if sent is None else ReceivedProposal(proposal=sent, authenticated_data=b"")

    def _forget_epoch_things(self) -> None:
        self._dirty.update(b"p" + reference for reference in self.proposals)
        self._dirty.update(b"m" + digest for digest in self._echoes)
        self._dirty.update(b"u" + public for public in self.updates)
        self._dirty.update(b"c" + digest for digest in self.own_commits)
        for each in (self.proposals, self._echoes, self.updates, self.own_commits):
            each.clear()

    # storing

    def changes(self) -> Changes:
        """All marked items with their present values."""
        put: dict[bytes, bytes] = {}
        drop = []
        for key in sorted(self._dirty):
            value = self._value(key)
            if value is None:
                drop.append(key)
            else:
                put[key] = value
        self._dirty.clear()
        for live in (self.live, *(kept for kept, _ in self.past.values())):
            number, tree = live.epoch.number, live.secrets
            for item in tree.changed:
                value = store.secret_value(tree, item)
                if value is None:
                    drop.append(store.secret_key(number, item))
                else:
                    put[store.secret_key(number, item)] = value
            tree.changed.clear()
        return Changes(put, tuple(drop))

    def _epoch_at(self, key: bytes) -> Epoch | None:
        number = int.from_bytes(key[1:], "big")
        if self.state == LEFT:
            return None
        if number == self.live.epoch.number:
            return self.live.epoch
        kept = self.past.get(number)
        return None if kept is None else kept[0].epoch

    def _value(self, key: bytes) -> bytes | None:
        letter, rest = key[:1], key[1:]
        if letter == b"g":
            return self._overview()
        if letter in b"et":
            epoch = self._epoch_at(key)
            if epoch is None:
                return None
            return epoch.encode_state() if letter == b"e" else epoch.tree.encode()
        if letter == b"p":
            return store.encode_sent(self.proposals[rest]) if rest in self.proposals else None
        if letter == b"u":
            return self.updates[rest][0].raw if rest in self.updates else None
        if letter == b"c":
            return store.encode_staged(self.own_commits[rest]) if rest in self.own_commits else None
        return self._echoes.get(rest) if letter == b"m" else None

    def _overview(self) -> bytes | None:
        if self.state == LEFT:
            return None
        past = tuple((number, passed_at) for number, (_, passed_at) in sorted(self.past.items()))
        overview = Overview(state=self.state, epoch=self.live.epoch.number, past=past, reinit=self.reinit)
        return overview.encode()

    @classmethod
    def restore(cls, items: Items, identities: Sequence[Identity]) -> GroupState:
        """From stored items; the newest epoch's leaf is of one of the identities."""
        if b"g" not in items:
            raise UnavailableError("damaged", "no group is stored here")
        overview = Overview.decode(items[b"g"])
        numbers = (overview.epoch, *(number for number, _ in overview.past))
        epochs = {number: _read_epoch(items, number, identities[0]) for number in numbers}
        current = epochs[overview.epoch]
        own = store.identity_of(current.leaf(current.own).signature_key, identities)
        current = epochs[overview.epoch] = replace(current, identity=own)
        trees = store.read_secret_trees(
            items, {number: (epoch.suite, epoch.tree.size) for number, epoch in epochs.items()}
        )
        state = cls(Live(current, trees[overview.epoch]))
        state.state, state.reinit = overview.state, overview.reinit
        for number, passed_at in overview.past:
            state.past[number] = (Live(epochs[number], trees[number]), passed_at)
        state._restore_things(items, identities)
        return state

    def _restore_things(self, items: Items, identities: Sequence[Identity]) -> None:
        epoch = self.live.epoch
        for key, value in sorted(items.items()):
            letter, rest = key[:1], key[1:]
            if letter == b"p":
                self.proposals[rest] = decode(store.read_sent, value)
            elif letter == b"m":
                self._echoes[rest] = value
            elif letter == b"u":
                private = epoch.suite.hpke_private(value)
                self.updates[rest] = (private, store.identity_of(self._updated_leaf(rest), identities))
            elif letter == b"c":
                self.own_commits[rest] = store.decode_staged(value, epoch, identities)

    def _updated_leaf(self, public: bytes) -> bytes:
        """The signature key that the pending Update with this encryption key brings."""
        for each in self.proposals.values():
            if isinstance(each.proposal, Update) and each.proposal.leaf_node.encryption_key == public:
                return each.proposal.leaf_node.signature_key
        raise UnavailableError("damaged", "an Update's key is stored without the Update")


def _read_epoch(items: Items, number: int, identity: Identity) -> Epoch:
    state, tree = items.get(epoch_key(number)), items.get(tree_key(number))
    if state is None or tree is None:
        raise UnavailableError("damaged", f"epoch {number} is not stored whole")
    return Epoch.read_state(Reader(state), tree, identity)
