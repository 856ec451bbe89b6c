"""Reads the walk-throughs of docs/walkthroughs.md and walks them: with fakes, or with the sessions of a suite.

A step is `who: call -> effects`. Calls: `create`, `change ...`, `receive KIND` (the next envelope, which must be of
this kind), `wake`, `seal TEXT` and `restart`. `store` stands for puts and drops; they come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.protocols.interface import (
    Add,
    Change,
    Drop,
    Effects,
    EpochChanged,
    Leave,
    Put,
    Rekey,
    Remove,
    RoomPolicy,
    Suite,
    Wake,
)
from support.need import REPOSITORY
from support.suite_net import ROOM, Net, Node

PAGE = REPOSITORY / "docs" / "walkthroughs.md"
NAMES = ("alice", "bob", "carol", "dave")


@dataclass(frozen=True)
class Step:
    """One line of a walk."""

    who: str
    call: str
    words: tuple[str, ...]
    effects: tuple[str, ...]


def walks(page: Path = PAGE) -> dict[str, list[Step]]:
    """Title -> steps, for every fenced block that is marked `walk NAME`."""
    blocks = re.findall(r"```walk (\w+)\n(.*?)```", page.read_text(), re.DOTALL)
    found: dict[str, list[Step]] = {}
    for name, text in blocks:
        found[name] = []
        for line in text.splitlines():
            found[name] += found[line[2:]] if line.startswith("= ") else [_step(line)]
    return found


def _step(line: str) -> Step:
    left, _, right = line.partition("->")
    who, _, call = left.partition(":")
    words = call.split()
    return Step(who.strip(), words[0], tuple(words[1:]), tuple(right.split()))


def seen(effects: Effects) -> tuple[str, ...]:
    """The effects as a walk writes them."""
    names: list[str] = []
    if any(isinstance(effect, (Put, Drop)) for effect in effects):
        names.append("store")
    for effect in effects:
        if isinstance(effect, EpochChanged):
            names.append(f"EpochChanged({effect.state})")
        elif not isinstance(effect, (Put, Drop, Wake)):
            names.append(type(effect).__name__)
    return tuple(names)


def change_of(words: Sequence[str], names: dict[str, str]) -> list[Change]:
    """The changes that a step asks for."""
    made: list[Change] = []
    for word in words:
        kind, _, who = word.rstrip(")").partition("(")
        match kind:
            case "Add":
                made.append(Add(names[who]))
            case "Remove":
                made.append(Remove(names[who]))
            case "Leave":
                made.append(Leave())
            case _:
                made.append(Rekey())
    return made


class Walk:
    """Devices that do what the steps say."""

    def __init__(self, suite: Suite) -> None:
        self.net = Net(seed="walk")
        self.nodes = {name: self.net.node(suite, name, index) for index, name in enumerate(NAMES)}
        self.names = {name: node.name for name, node in self.nodes.items()}

    def step(self, step: Step) -> tuple[str, ...]:
        """Carry out one step; the effects as a walk writes them."""
        node = self.nodes[step.who]
        before = len(node.effects)
        getattr(self, f"_{step.call}")(node, step.words)
        return seen(tuple(effect for effects in node.effects[before:] for effect in effects))

    def _create(self, node: Node, words: Sequence[str]) -> None:
        node.create(ROOM, RoomPolicy(title="walk", owners=("alice",)))

    def _change(self, node: Node, words: Sequence[str]) -> None:
        node.change(*change_of(words, self.names))

    def _receive(self, node: Node, words: Sequence[str]) -> None:
        envelope = next(
            envelope
            for envelope in node.pending()
            if (envelope.kind if envelope.channel.kind != "run" else "run") == words[0]
        )
        node.taken(envelope)
        node.give(envelope)

    def _wake(self, node: Node, words: Sequence[str]) -> None:
        node.wake()

    def _seal(self, node: Node, words: Sequence[str]) -> None:
        node.say(" ".join(words).encode())

    def _restart(self, node: Node, words: Sequence[str]) -> None:
        node.restart()
