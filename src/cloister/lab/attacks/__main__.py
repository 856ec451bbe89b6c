"""Runs the attacks and prints what happened: `make attacks`, or `python -m cloister.lab.attacks`.

Each attack is tried four times: on the document's original, on the suite, on the original with the one fix put back,
and on the suite with this one taken back. The exit status is 1 unless every attack succeeds on the first and fails on
the next two. `--json` writes what happened as rows, `--page` as the table of a page, between its two marks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloister.lab.attacks import Row, attacks, judge

BEGIN: Final = "<!-- attacks: written by make attacks -->"
END: Final = "<!-- end of attacks -->"
_TITLES: Final = ("fix", "attack", "original", "original with this fix", "suite", "refused by", "suite without it")


def _line(row: Row) -> str:
    words = (row.original, row.fixed, row.alone, row.without)
    cells = zip(("original", "suite", "with it alone", "without it"), words, strict=True)
    by = row.by or ("nothing to learn" if row.holds else "")
    return f"{row.fix:8} {row.attack:38} {'  '.join(f'{name} {word}' for name, word in cells)}  {by}"


def table_row(row: Row) -> str:
    """The row as a line of the page's table."""
    by = f"`{row.by}`" if row.by else "nothing is learned"
    cells = (row.fix, f"{row.suite}: {row.attack}", row.original, row.alone, row.fixed, by, row.without)
    return f"| {' | '.join(cells)} |\n"


def write_page(page: Path, rows: Sequence[Row]) -> None:
    """Set the table between the marks of a page; ValueError where it has none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no table of attacks")
    head = f"| {' | '.join(_TITLES)} |\n| {' | '.join('---' for _ in _TITLES)} |\n"
    page.write_text(f"{before}{BEGIN}\n{head}{''.join(map(table_row, rows))}{END}{after}")


def main(arguments: Sequence[str]) -> int:
    """Run them; the exit status."""
    parser = argparse.ArgumentParser(prog="make attacks", description="fix x attack, tried for real")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="only the attacks on these suites")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a row for each attack")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table of this page")
    options = parser.parse_args(arguments)
    rows = []
    for attack in attacks(options.suites):
        rows.append(judge(attack))
        sys.stdout.write(f"{_line(rows[-1])}\n")
        sys.stdout.flush()
    wrong = [row for row in rows if not row.holds]
    sys.stdout.write(f"{len(rows)} attacks, {len(wrong)} not as they must be\n")
    if options.json is not None:
        options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    if options.page is not None:
        write_page(options.page, rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
