"""Recorded lives of our clients in groups with mls-rs and ts-mls, lived again without either."""

from __future__ import annotations

import json
import lzma

import pytest
from benchmarks.mls.record import replay

from support.need import REPOSITORY

TRANSCRIPTS = sorted((REPOSITORY / "tests" / "transcripts" / "mls").glob("*.json.xz"))


def test_there_are_transcripts() -> None:
    assert TRANSCRIPTS


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_lived_again(path: object) -> None:
    transcript = json.loads(lzma.decompress(path.read_bytes()))
    for name, events in transcript["clients"].items():
        replay(name, transcript["time"], events)
