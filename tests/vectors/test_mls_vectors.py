"""All families of the MLS working group's vectors but the passive clients, for every suite they hold.

Only `cloister.mls` and `cloister.mls.testing` are used: what is tested is what the engine runs.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from cloister import mls
from cloister.errors import UsageError
from cloister.mls import testing as inner
from cloister.primitives.signature import SigningKey
from support.need import json_vectors

FAMILIES = (
    "tree-math",
    "crypto-basics",
    "secret-tree",
    "message-protection",
    "key-schedule",
    "psk_secret",
    "transcript-hashes",
    "welcome",
    "tree-operations",
    "tree-validation",
    "treekem",
    "messages",
    "deserialization",
)
RNG = random.Random(9420).randbytes
ANY = mls.Policy(validate=lambda credential, key, now: True, max_lifetime=2**64)
NOW = 1_700_000_000_000
unhex = bytes.fromhex


def vectors(family: str) -> Any:
    return json_vectors(f"mls/{family}.json.xz")


def test_every_family_is_tested() -> None:
    assert {f"test_{family.replace('-', '_')}" for family in FAMILIES} <= set(globals())


def test_tree_math() -> None:
    math = inner.treemath
    for each in vectors("tree-math"):
        size, width = each["n_leaves"], each["n_nodes"]
        assert math.node_width(size) == width
        assert math.root(size) == each["root"]
        for node in range(width):
            assert (math.left(node) if node & 1 else None) == each["left"][node]
            assert (math.right(node) if node & 1 else None) == each["right"][node]
            top = node == math.root(size)
            assert (None if top else math.parent(node)) == each["parent"][node]
            assert (None if top else math.sibling(node)) == each["sibling"][node]


def test_crypto_basics() -> None:
    for each in vectors("crypto-basics"):
        suite = mls.suite_of(each["cipher_suite"])
        case = each["ref_hash"]
        assert suite.ref_hash(case["label"].encode(), unhex(case["value"])) == unhex(case["out"])
        case = each["expand_with_label"]
        label, secret = case["label"].encode(), unhex(case["secret"])
        context, length = unhex(case["context"]), case["length"]
        assert suite.expand_with_label(secret, label, context, length) == unhex(case["out"])
        case = each["derive_secret"]
        assert suite.derive_secret(unhex(case["secret"]), case["label"].encode()) == unhex(case["out"])
        case = each["derive_tree_secret"]
        label, secret = case["label"].encode(), unhex(case["secret"])
        generation = case["generation"].to_bytes(4, "big")
        derived = suite.expand_with_label(secret, label, generation, case["length"])
        assert derived == unhex(case["out"])
        case = each["sign_with_label"]
        label, content = case["label"].encode(), unhex(case["content"])
        public = suite.signature_key(unhex(case["pub"]))
        suite.verify_with_label(public, label, content, unhex(case["signature"]))
        key = SigningKey(suite.scheme, unhex(case["priv"]))
        suite.verify_with_label(public, label, content, suite.sign_with_label(key, label, content))
        case = each["encrypt_with_label"]
        private, plain = suite.hpke_private(unhex(case["priv"])), unhex(case["plaintext"])
        info = suite.encrypt_context(case["label"].encode(), unhex(case["context"]))
        opened = suite.decrypt_with_label(private, info, unhex(case["kem_output"]), unhex(case["ciphertext"]))
        assert opened == plain
        sealed = suite.encrypt_with_label(suite.hpke_public(unhex(case["pub"])), info, plain, RNG)
        assert suite.decrypt_with_label(private, info, *sealed) == plain


def test_secret_tree() -> None:
    for each in vectors("secret-tree"):
        suite = mls.suite_of(each["cipher_suite"])
        case = each["sender_data"]
        secret = inner.SenderDataSecret(unhex(case["sender_data_secret"]))
        key, nonce = inner.sender_data_key(suite, secret, unhex(case["ciphertext"]))
        assert (key, nonce) == (unhex(case["key"]), unhex(case["nonce"]))
        tree = inner.SecretTree(suite, len(each["leaves"]), inner.EncryptionSecret(unhex(each["encryption_secret"])))
        for leaf, generations in enumerate(each["leaves"]):
            for row in generations:
                for kind, name in enumerate(("handshake", "application")):
                    use = tree.find(leaf, kind, row["generation"])
                    tree.use(use)
                    assert use.key == unhex(row[f"{name}_key"])
                    assert use.nonce == unhex(row[f"{name}_nonce"])


class Protection:
    """What the message protection vectors describe: a group of two, the second member speaks."""

    def __init__(self, each: dict[str, Any]) -> None:
        self.suite = mls.suite_of(each["cipher_suite"])
        self.context = inner.GroupContext(
            suite_id=each["cipher_suite"],
            group_id=unhex(each["group_id"]),
            epoch=each["epoch"],
            tree_hash=unhex(each["tree_hash"]),
            confirmed_transcript_hash=unhex(each["confirmed_transcript_hash"]),
        )
        self.key = SigningKey(self.suite.scheme, unhex(each["signature_priv"]))
        self.public = self.suite.signature_key(unhex(each["signature_pub"]))
        self.membership = inner.MembershipKey(unhex(each["membership_key"]))
        self.sender_data = inner.SenderDataSecret(unhex(each["sender_data_secret"]))
        self.encryption = inner.EncryptionSecret(unhex(each["encryption_secret"]))

    def tree(self) -> inner.SecretTree:
        return inner.SecretTree(self.suite, 2, self.encryption)

    def open_public(self, data: bytes) -> bytes:
        message = mls.decode_message(data)
        assert isinstance(message, mls.PublicMessage)
        inner.check_membership_tag(self.suite, self.membership, message, self.context)
        message.content.verify(self.suite, self.public, self.context)
        return inner.encode_content(message.content.content.content)

    def open_private(self, data: bytes) -> bytes:
        message = mls.decode_message(data)
        assert isinstance(message, mls.PrivateMessage)
        sender_data = inner.open_sender_data(self.suite, self.sender_data, message)
        content, _ = inner.open_content(self.suite, self.tree(), message, sender_data)
        content.verify(self.suite, self.public, self.context)
        return inner.encode_content(content.content.content)

    def sign(self, content: Any, wire_format: int, tag: bytes) -> inner.AuthenticatedContent:
        framed = inner.FramedContent(
            group_id=self.context.group_id,
            epoch=self.context.epoch,
            sender=mls.Sender(inner.MEMBER, 1),
            content=content,
        )
        signed = inner.AuthenticatedContent.sign(self.suite, self.key, wire_format, framed, self.context)
        return signed.with_tag(tag)

    def seal_public(self, content: Any) -> bytes:
        signed = self.sign(content, inner.PUBLIC_MESSAGE, b"tag")
        return mls.encode_message(inner.protect_public(self.suite, self.membership, signed, self.context))

    def seal_private(self, content: Any) -> bytes:
        signed = self.sign(content, inner.PRIVATE_MESSAGE, b"tag")
        return mls.encode_message(inner.protect_private(self.suite, self.sender_data, self.tree(), signed, RNG))


def test_message_protection() -> None:
    for each in vectors("message-protection"):
        group = Protection(each)
        proposal = inner.decode(inner.read_proposal, unhex(each["proposal"]))
        commit = inner.decode(inner.Commit.read, unhex(each["commit"]))
        for content, raw, name in (
            (proposal, unhex(each["proposal"]), "proposal"),
            (commit, unhex(each["commit"]), "commit"),
        ):
            assert group.open_public(unhex(each[f"{name}_pub"])) == raw
            assert group.open_private(unhex(each[f"{name}_priv"])) == raw
            assert group.open_public(group.seal_public(content)) == raw
            assert group.open_private(group.seal_private(content)) == raw
        raw = unhex(each["application"])
        assert group.open_private(unhex(each["application_priv"])) == inner.opaque(raw)
        assert group.open_private(group.seal_private(raw)) == inner.opaque(raw)
        with pytest.raises(UsageError):
            group.seal_public(raw)


def test_key_schedule() -> None:
    for each in vectors("key-schedule"):
        suite = mls.suite_of(each["cipher_suite"])
        init = inner.InitSecret(unhex(each["initial_init_secret"]))
        for number, row in enumerate(each["epochs"]):
            context = inner.GroupContext(
                suite_id=suite.suite_id,
                group_id=unhex(each["group_id"]),
                epoch=number,
                tree_hash=unhex(row["tree_hash"]),
                confirmed_transcript_hash=unhex(row["confirmed_transcript_hash"]),
            )
            assert context.encoded == unhex(row["group_context"])
            commit, psk = inner.CommitSecret(unhex(row["commit_secret"])), inner.PskSecret(unhex(row["psk_secret"]))
            joiner = inner.joiner_secret(suite, init, commit, context.encoded)
            assert joiner == unhex(row["joiner_secret"])
            assert inner.welcome_secret(suite, joiner, psk) == unhex(row["welcome_secret"])
            secrets, encryption = inner.derive_epoch(suite, joiner, psk, context.encoded)
            assert encryption == unhex(row["encryption_secret"])
            for name in (
                "init_secret",
                "sender_data_secret",
                "exporter_secret",
                "epoch_authenticator",
                "external_secret",
                "confirmation_key",
                "membership_key",
                "resumption_psk",
            ):
                assert getattr(secrets, name) == unhex(row[name]), name
            assert inner.external_key(suite, secrets.external_secret).public == unhex(row["external_pub"])
            case = row["exporter"]
            exported = inner.export(
                suite, secrets.exporter_secret, case["label"], unhex(case["context"]), case["length"]
            )
            assert exported == unhex(case["secret"])
            init = secrets.init_secret


def test_psk_secret() -> None:
    for each in vectors("psk_secret"):
        suite = mls.suite_of(each["cipher_suite"])
        keys = tuple(
            (
                mls.PreSharedKeyId(kind=1, key_id=unhex(row["psk_id"]), nonce=unhex(row["psk_nonce"])),
                unhex(row["psk"]),
            )
            for row in each["psks"]
        )
        assert inner.psk_secret(suite, keys) == unhex(each["psk_secret"])


def test_transcript_hashes() -> None:
    for each in vectors("transcript-hashes"):
        suite = mls.suite_of(each["cipher_suite"])
        content = inner.decode(inner.AuthenticatedContent.read, unhex(each["authenticated_content"]))
        confirmed = inner.confirmed_hash(suite, unhex(each["interim_transcript_hash_before"]), content)
        assert confirmed == unhex(each["confirmed_transcript_hash_after"])
        key = unhex(each["confirmation_key"])
        assert inner.confirmation_tag(suite, key, confirmed) == content.confirmation_tag
        interim = inner.interim_hash(suite, confirmed, content.confirmation_tag)
        assert interim == unhex(each["interim_transcript_hash_after"])


def test_welcome() -> None:
    for each in vectors("welcome"):
        suite = mls.suite_of(each["cipher_suite"])
        package, welcome = (mls.decode_message(unhex(each[name])) for name in ("key_package", "welcome"))
        assert isinstance(package, mls.KeyPackage)
        assert isinstance(welcome, mls.Welcome)
        private = suite.hpke_private(unhex(each["init_priv"]))
        own = mls.KeyPackageSecrets(package=package, init_key=private, leaf_key=private)
        secrets = inner.open_secrets(suite, welcome, own)
        psk = inner.PskSecret(inner.psk_secret(suite, ()))
        info = inner.open_info(suite, welcome, secrets.joiner_secret, psk)
        inner.check_info_signature(suite, suite.signature_key(unhex(each["signer_pub"])), info)
        derived, _ = inner.derive_epoch(suite, secrets.joiner_secret, psk, info.context.encoded)
        inner.check_info_tag(suite, derived, info)


def read_tree(suite: mls.CipherSuite, data: str) -> inner.RatchetTree:
    return inner.decode(lambda reader: inner.RatchetTree.read(suite, reader), unhex(data))


def test_tree_operations() -> None:
    for each in vectors("tree-operations"):
        suite = mls.suite_of(each["cipher_suite"])
        tree = read_tree(suite, each["tree_before"])
        assert inner.root_hash(tree) == unhex(each["tree_hash_before"])
        proposal = inner.decode(inner.read_proposal, unhex(each["proposal"]))
        sender = mls.Sender(inner.MEMBER, each["proposal_sender"])
        after = tree.copy()
        # these trees are bare examples: signatures and lifetimes in them are not meant to be judged
        inner.change_tree(after, inner.sort((mls.SentProposal(sender=sender, proposal=proposal),)))
        assert after.encode() == unhex(each["tree_after"])
        assert inner.root_hash(after) == unhex(each["tree_hash_after"])
        assert tree.encode() == unhex(each["tree_before"])


def test_tree_validation() -> None:
    for each in vectors("tree-validation"):
        suite = mls.suite_of(each["cipher_suite"])
        tree = read_tree(suite, each["tree"])
        for node, (resolution, digest) in enumerate(zip(each["resolutions"], each["tree_hashes"], strict=True)):
            assert tree.resolution(node) == resolution
            assert inner.node_hash(tree, node) == unhex(digest)
        inner.verify_parent_hashes(tree)
        situation = inner.Situation.of(suite, unhex(each["group_id"]), (), ANY, NOW)
        for index, leaf in tree.members():
            inner.check_leaf_signature(situation, leaf, index)


def private_keys(suite: mls.CipherSuite, tree: inner.RatchetTree, row: dict[str, Any]) -> dict[int, Any]:
    keys = {2 * row["index"]: suite.hpke_private(unhex(row["encryption_priv"]))}
    for step in row["path_secrets"]:
        keys[step["node"]] = inner.derive_node(suite, unhex(step["path_secret"]))
    for node, key in keys.items():
        content = tree.nodes[node]
        assert content is not None
        assert content.encryption_key == key.public
    return keys


@pytest.mark.parametrize("suite_id", range(1, 8))
def test_treekem(suite_id: int) -> None:
    suite = mls.suite_of(suite_id)
    chosen = [each for each in vectors("treekem") if each["cipher_suite"] == suite_id]
    assert chosen
    for each in chosen:
        tree = read_tree(suite, each["ratchet_tree"])
        group_id = unhex(each["group_id"])
        members = {row["index"]: private_keys(suite, tree, row) for row in each["leaves_private"]}
        signers = {
            row["index"]: SigningKey(suite.scheme, unhex(row["signature_priv"])) for row in each["leaves_private"]
        }

        def context(of: inner.RatchetTree, each: Any = each, suite: Any = suite) -> bytes:
            return inner.GroupContext(
                suite_id=suite.suite_id,
                group_id=unhex(each["group_id"]),
                epoch=each["epoch"],
                tree_hash=inner.root_hash(of),
                confirmed_transcript_hash=unhex(each["confirmed_transcript_hash"]),
            ).encoded

        for row in each["update_paths"]:
            sender = row["sender"]
            update = inner.decode(inner.UpdatePath.read, unhex(row["update_path"]))
            after = tree.copy()
            path = after.filtered_path(sender)
            inner.apply_path(after, sender, path, update)
            assert inner.root_hash(after) == unhex(row["tree_hash_after"])
            for index, keys in members.items():
                if index == sender:
                    continue
                fresh, secret = inner.open_path(after, index, path, update, keys, context(after), frozenset())
                assert secret == unhex(row["commit_secret"])
                lowest = next(node for node, _ in path if inner.treemath.in_subtree(node, 2 * index))
                expected = inner.derive_node(suite, unhex(row["path_secrets"][index]))
                assert fresh[lowest].public == expected.public
            made = tree.copy()
            old = tree.leaf(sender)
            assert old is not None
            template = mls.LeafTemplate(credential=old.credential, capabilities=old.capabilities)
            new = inner.make_path(made, sender, group_id, signers[sender], template, RNG)
            sealed = inner.seal_path(made, sender, new, context(made), frozenset(), RNG)
            for index, keys in members.items():
                if index != sender:
                    mine = inner.open_path(made, index, path, sealed, keys, context(made), frozenset())
                    assert mine[1] == new.commit_secret


PROPOSALS = {
    "add_proposal": mls.Add,
    "update_proposal": mls.Update,
    "remove_proposal": mls.Remove,
    "pre_shared_key_proposal": mls.PreSharedKey,
    "re_init_proposal": mls.ReInit,
    "external_init_proposal": mls.ExternalInit,
    "group_context_extensions_proposal": mls.GroupContextExtensions,
}


def test_messages() -> None:
    for each in vectors("messages"):
        for name in (
            "mls_welcome",
            "mls_group_info",
            "mls_key_package",
            "public_message_application",
            "public_message_proposal",
            "public_message_commit",
            "private_message",
        ):
            assert mls.encode_message(mls.decode_message(unhex(each[name]))) == unhex(each[name]), name
        for name, kind in {**PROPOSALS, "group_secrets": inner.GroupSecrets, "commit": inner.Commit}.items():
            value = inner.decode(kind.read, unhex(each[name]))
            assert inner.encode(value) == unhex(each[name]), name
        tree = read_tree(mls.suite_of(1), each["ratchet_tree"])
        assert tree.encode() == unhex(each["ratchet_tree"])


def test_deserialization() -> None:
    for each in vectors("deserialization"):
        header, length = unhex(each["vlbytes_header"]), each["length"]
        reader = inner.Reader(header + bytes(length))
        assert reader.length() == length
        assert reader.position == len(header)
