"""The transcripts that need a relay and people, carried out line by line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.cli_realm import CLOISTER, CliRealm, cli_realm, wait_for
from support.transcripts import Step, carry_out_all

pytestmark = pytest.mark.system


def agree(realm: CliRealm, users: list[str], room: str) -> None:
    """Have these people online until the room's key is agreed and what was queued has gone out."""
    processes = [
        subprocess.Popen(
            [*CLOISTER, "chat", room],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=realm.environment(user),
        )
        for user in users
    ]
    ready = ('"state": "ready"', '"epoch": 1')
    wait_for(
        lambda: all(
            all(part in realm.run(user, "room", "show", room, "--json").stdout for part in ready) for user in users
        )
    )
    for process in processes:
        process.communicate(timeout=30)


@pytest.mark.parametrize("name", ["first-room.txt", "first-classic-room.txt"])
def test_two_people_make_a_room_and_talk(name: str, tmp_path: Path) -> None:
    with cli_realm(tmp_path, "alice", "bob") as realm:

        def special(step: Step) -> bool:
            verb, _, room = step.command.partition(" ")
            if verb == "agree":
                agree(realm, step.who.split("+"), room)
            return verb == "agree"

        carry_out_all(name, tmp_path, realm.environment, special)
