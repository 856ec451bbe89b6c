"""The examples of draft-ietf-mimi-content: texts decode, everything else is refused, every message id is right."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cloister.codec.cbor import decode
from cloister.content.message import decode_text, encode_text, message_id
from cloister.errors import PeerError
from support.need import vectors

TEXTS = ("original", "reply", "mention")
OTHERS = (
    "attachment",
    "conferencing",
    "delete",
    "edit",
    "expiring",
    "mention-html",
    "multipart-1",
    "multipart-2",
    "multipart-3",
    "reaction",
    "unlike",
)


def example(name: str) -> tuple[bytes, dict[str, str], bytes]:
    """The bytes of an example, the names that its message bears, and its id from the commented form."""
    folder = vectors("mimi")
    content = (folder / f"{name}.cbor").read_bytes()
    value: Any = decode(content, maps=True)
    found = re.search(r"message ID = h'([0-9a-f]+)[\s#]+([0-9a-f]+)'", (folder / f"{name}.edn").read_text())
    assert found is not None
    return content, {"sender": value[5][1], "room": value[5][2]}, bytes.fromhex(found[1] + found[2])


@pytest.mark.parametrize("name", TEXTS)
def test_text_examples_decode_and_encode_to_the_same_bytes(name: str) -> None:
    content, names, _ = example(name)
    text = decode_text(content, **names)
    assert encode_text(text) == content
    assert (text.in_reply_to is None) == (name == "original")


def test_the_original_says_what_it_says() -> None:
    content, names, _ = example("original")
    assert decode_text(content, **names).text == "Hi everyone, we just shipped release 2.0. __Good  work__!"


@pytest.mark.parametrize("name", OTHERS)
def test_examples_of_other_kinds_are_refused_as_unsupported(name: str) -> None:
    content, names, _ = example(name)
    with pytest.raises(PeerError) as caught:
        decode_text(content, **names)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("name", TEXTS + OTHERS)
def test_message_ids_are_the_drafts(name: str) -> None:
    content, names, identifier = example(name)
    assert message_id(content, salt=content[2:18], **names) == identifier


def test_values_that_are_no_message_are_refused() -> None:
    with pytest.raises(PeerError) as caught:
        decode_text((vectors("mimi") / "implied-original.cbor").read_bytes(), sender="", room="")
    assert caught.value.code == "bad_encoding"


def test_every_example_is_looked_at() -> None:
    names = {path.stem for path in vectors("mimi").glob("*.cbor")}
    assert names == {*TEXTS, *OTHERS, "implied-original"}
