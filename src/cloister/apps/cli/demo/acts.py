"""The demo of each suite: which conductor leads its members through it.

Source: docs/demo.md ("Suites"). A suite whose members simply agree has a conductor with a sentence of its own; one
that shows more overrides steps of `Conductor` in a module of its own.

Invariant: the names stand here as text, so that the command line starts without loading any of it; a test compares
them with the conductors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloister.apps.cli.demo.conductor import Conductor

NAMES: Final = ("nonces", "shares", "transport", "pair", "code", "mls")
"""The suites that have a demo."""


def conductor_of(suite: str) -> type[Conductor]:
    """Who leads through the demo of this suite."""
    from cloister.apps.cli.demo.agreeing import MlsDemo, NoncesDemo, SharesDemo
    from cloister.apps.cli.demo.code import CodeDemo
    from cloister.apps.cli.demo.pair import PairDemo
    from cloister.apps.cli.demo.transport import TransportDemo

    demos: dict[str, type[Conductor]] = {
        "nonces": NoncesDemo,
        "shares": SharesDemo,
        "transport": TransportDemo,
        "pair": PairDemo,
        "code": CodeDemo,
        "mls": MlsDemo,
    }
    return demos[suite]
