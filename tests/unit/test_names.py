"""docs/spec/classic/names.md: each name of the five documents is there, and each place that it gives exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

import click
import pytest

from cloister.apps.cli.main import cloister
from cloister.wire import frames
from support.need import REPOSITORY, lacking

PAGE = REPOSITORY / "docs" / "spec" / "classic" / "names.md"
SEEDS = Path(os.environ.get("CLOISTER_SEEDS", REPOSITORY.parent / "shared" / "seeds"))
KINDS = {"file", "folder", "command", "message", "prompt", "milestone", "check", "key"}
NAMES = {
    "000": "setup.py server.py client.py crypto_utils.py certs/ root_ca_cert.json root_ca_private.pem a_cert.json "
    "a_private.pem b_cert.json b_private.pem c_cert.json c_private.pem s_cert.json s_private.pem shared_key.json",
    "001": "client.py server.py utils.py ui.py certs.pkl KEY_SHARE CHAT",
    "002": "setup/setup.py netsim/network.py netsim/server.py main.py",
    "003": "server.py client.py requirements.txt hello register get_pubkey chat_request chat_response "
    "chat_terminate relay user_list",
    "004": "crypto_utils.py relay_server.py client.py README.md",
}
"""Files and message types of each document, as it writes them."""
SENTENCES = {
    "000": ("Authentication Phase", "Key Exchange Phase", "Secure Communication", "K_abc = H(Na || Nb || Nc)"),
    "001": ("Final session key Kabc = ...",),
    "002": ("Main loop started...", "Begin chatting!", "python setup/setup.py -n 3", "python main.py -s A -i"),
    "003": ("Enter your username", "broadcast chat"),
    "004": (
        "Do you want to (C)reate a new session or (J)oin an existing one? [C/J]",
        "Enter session ID",
        "[You]",
        "[Them]",
        "Created session",
        "Share this session ID",
        "Waiting for another person to join",
        "Performing Diffie-Hellman key exchange",
        "Key exchange complete! Secure channel established.",
        "Secure chat session started!",
        "Press Ctrl+C to exit",
        "Relay server listening",
        "Waiting for clients to connect",
    ),
}
"""Prompts, commands and milestones, as the documents write them."""


def rows() -> list[tuple[str, list[str]]]:
    """(document, cells) of every row."""
    found, document = [], ""
    for line in PAGE.read_text().splitlines():
        if heading := re.match(r"## Document (\d{3})", line):
            document = heading[1]
        elif document and line.startswith("| ") and not line.startswith("| name |"):
            found.append((document, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
    return found


def places() -> list[str]:
    return sorted({place for _, cells in rows() for place in re.findall(r"`([^`]+)`", cells[4])})


@pytest.mark.parametrize("document", sorted(NAMES))
def test_each_name_of_a_document_stands_on_the_page(document: str) -> None:
    here = [cells[0].replace("`", "").replace("\\|", "|") for place, cells in rows() if place == document]
    wanted = [*NAMES[document].split(), *SENTENCES[document]]
    assert [name for name in wanted if name not in here] == []


@pytest.mark.parametrize("document", sorted(NAMES))
def test_each_name_is_the_documents(document: str) -> None:
    found = sorted(SEEDS.glob(f"{document}_*.txt"))
    if not found:
        lacking("documents", "they are not beside the project (CLOISTER_SEEDS)")
    text = found[0].read_text()
    bare = re.sub(r"[`*]", "", text).lower()
    for name in [*NAMES[document].split(), *SENTENCES[document]]:
        word = name.removesuffix("/") if name.endswith("/") else name.rpartition("/")[2]
        assert word.lower() in bare or name.lower() in bare, name


def test_each_row_says_what_kind_it_is_and_where() -> None:
    for _, cells in rows():
        assert len(cells) == 5, cells
        assert cells[1] in KINDS, cells
        assert re.search(r"`[^`]+`", cells[4]), cells


@pytest.mark.parametrize("place", places())
def test_each_place_exists(place: str) -> None:
    if place.startswith("frame "):
        tags = {getattr(each, "__struct_config__", None) and each.__struct_config__.tag for each in _structs()}
        assert place.removeprefix("frame ") in tags
    elif place.startswith("cloister."):
        assert importlib.util.find_spec(place) is not None
    elif place.startswith("cloister "):
        _command(shlex.split(place)[1:])
    else:
        assert (REPOSITORY / place).exists()


def _structs() -> list[type[frames.Frame]]:
    return [each for each in vars(frames).values() if isinstance(each, type) and issubclass(each, frames.Frame)]


def _command(words: list[str]) -> None:
    command: click.Command = cloister
    ctx = click.Context(cloister)
    while words and not words[0].startswith("-"):
        assert isinstance(command, click.Group), words
        child = command.get_command(ctx, words.pop(0))
        assert child is not None
        command, ctx = child, click.Context(child, parent=ctx)
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(words) <= known
