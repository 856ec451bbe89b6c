"""The demo as it happens: a table that moves on a terminal, plain lines elsewhere.

Source: docs/demo.md. Everything shown was made safe by the members' processes or passes `safe_text` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cloister.apps.cli.demo.conductor import Happening
from cloister.client.text import safe_text

if TYPE_CHECKING:
    from rich.table import Table

    from cloister.apps.cli.output import Screen

_STYLES = {"stage": "bold", "milestone": "yellow", "message": "green", "alarm": "bold red"}


@contextmanager
def watching(screen: Screen, members: Sequence[str]) -> Iterator[Callable[[Happening], None]]:
    """A function that shows what happens while the context lasts."""
    if not screen.is_terminal or screen.quiet:
        yield lambda happening: screen.say(f"{happening.who:<8} {safe_text(happening.what)}", "dim")
        return
    from rich.console import Console
    from rich.live import Live

    board = Board(["relay", *members])
    console = Console(stderr=True, no_color=not screen.color)
    with Live(board.table(), console=console, refresh_per_second=12) as live:

        def show(happening: Happening) -> None:
            board.note(happening)
            live.update(board.table())

        yield show


class Board:
    """One row for each process: who, its process id, what it has reached, what it did last."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rows: dict[str, dict[str, str]] = {name: {"pid": "", "stage": "", "last": ""} for name in names}

    def note(self, happening: Happening) -> None:
        """Take over what happened."""
        row = self._rows[happening.who]
        row["pid"] = str(happening.pid)
        row["stage" if happening.kind == "stage" else "last"] = happening.what
        row["style"] = _STYLES.get(happening.kind, "")

    def table(self) -> Table:
        """The rows as they stand; peers' text is never read as markup."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in ("who", "process", "has reached", "last"):
            table.add_column(title, header_style="dim", no_wrap=True, overflow="ellipsis")
        for name, row in self._rows.items():
            last = Text(safe_text(row["last"]).replace("\n", " "), style=row.get("style", ""))
            table.add_row(Text(name, style="bold"), row["pid"], Text(row["stage"]), last)
        return table
