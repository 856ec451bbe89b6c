"""The transcript of what needs no relay, carried out line by line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import transcripts
from support.transcripts import FOLDER, Step, carry_out, carry_out_all, pattern, steps


def environment(folder: Path) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    return {**base, "CLOISTER_HOME": str(folder / "home"), "NO_COLOR": "1"}


def test_offline_commands_say_what_the_transcript_says(tmp_path: Path) -> None:
    carry_out_all("offline.txt", tmp_path, lambda _who: environment(tmp_path), lambda _step: False)


@pytest.mark.parametrize(("output", "code"), [("cloister 0.0", 0), ("cloister <...>\nmore", 0), ("cloister <...>", 1)])
def test_a_line_that_differs_fails(output: str, code: int, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line 7"):
        carry_out(Step("op", "cloister version", output, code, 7), tmp_path, environment(tmp_path))


def test_placeholders_stand_for_what_they_say() -> None:
    assert pattern("a <hex> <n> <id>").fullmatch("a 0f 12 01234567")
    assert not pattern("<hex>").fullmatch("0G")
    assert pattern("a\n<more>\nb").fullmatch("a\n1\n2\nb")
    assert not pattern("a.b").fullmatch("axb")


def test_every_transcript_is_read_whole() -> None:
    names = {path.name for path in FOLDER.glob("*.txt")}
    assert names == {"offline.txt", "first-room.txt", "first-classic-room.txt"}
    assert all(len(steps(name)) > 8 for name in names)
    assert transcripts.steps("offline.txt")[3].code == 2
