"""Writes the generated parts of the documents: tables and references that would go stale by hand.

    make docs                                  write them all again
    python -m tools.pages --check              exit status 1, and the pages that are stale

A page holds its generated parts between two marks; everything else in it is written by people and left alone:

    <!-- generated: errors -->
    ...
    <!-- end -->

Invariants: the parts depend on the source alone (no time, no machine); a mark with an unknown name, or without its
end, is an error; so is a generator that no page uses.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cloister.apps.cli.exits import MEANINGS
from cloister.apps.cli.main import cloister
from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.errors import REGISTRY
from cloister.protocols.interface import CAPS_ROWS
from cloister.wire import frames, json, limits
from tools.example_code import example as code_example
from tools.example_contributions import nonces_example, shares_example
from tools.example_pair import example as pair_example
from tools.example_transport import example as transport_example

ROOT: Final = Path(__file__).resolve().parents[1]
_MARK: Final = re.compile(r"<!-- generated: ([a-z-]+) -->\n(?:((?:(?!<!-- generated).)*?)<!-- end -->)?", re.DOTALL)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines)


def first_line(thing: object) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


# --- generators ---------------------------------------------------------------------------------------------


def errors() -> str:
    """Every error code."""
    rows = [(f"`{row.code}`", row.sentence, row.hint, str(row.exit_code)) for row in REGISTRY.values()]
    return table(("code", "what happened", "what to do", "exit code"), rows)


def exit_codes() -> str:
    """Every exit code."""
    return table(("exit code", "meaning"), [(str(int(code)), text) for code, text in MEANINGS.items()])


def limits_table() -> str:
    """Every limit of the protocol."""
    rows = [(row.name, _amount(row.value, row.unit), row.answer, row.why) for row in limits.TABLE]
    return table(("limit", "value", "answer beyond it", "why"), rows)


def _amount(value: int, unit: str) -> str:
    kind, _, rest = unit.partition(" ")
    sizes = {"bytes": ((1024 * 1024, "MiB"), (1024, "KiB")), "ms": _TIMES}.get(kind, ())
    for size, name in sizes:
        if value % size == 0:
            return f"{value // size} {name} {rest}".strip()
    return f"{value:,} {unit}"


_TIMES: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def frames_table() -> str:
    """Every frame, in the order of the source."""
    found = [thing for thing in vars(frames).values() if _is_struct(thing, frames.Frame) and thing is not frames.Frame]
    rows = [(f"`{_tag(frame)}`", _fields(frame), first_line(frame)) for frame in found]
    return table(("tag", "fields in order", "what it is"), rows)


def json_names() -> str:
    """What document 003 calls the frames that a client sends."""
    documents = {frames.Hello: (), frames.GetPubkey: (), frames.UserList: (), **json.ALIASES}
    rows = [(", ".join(f"`{name}`" for name in aliases or (_tag(frame),)), f"`{_tag(frame)}`", first_line(frame))
            for frame, aliases in documents.items()]  # fmt: skip
    return table(("document 003", "frame", "what it is"), rows)


def client_api() -> str:
    """Every command, result and event of a profile."""
    found = [thing for thing in vars(values).values() if _is_struct(thing, values.Value) and thing is not values.Value]
    rows = [(thing.__name__, _tag(thing), _fields(thing), first_line(thing)) for thing in found]
    return table(("value", "type", "fields", "what it is"), rows)


def _is_struct(thing: object, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)


def _tag(struct: type[msgspec.Struct]) -> str:
    return str(struct.__struct_config__.tag or "")


def _fields(struct: type[msgspec.Struct]) -> str:
    hints = typing.get_type_hints(struct, include_extras=True)
    return ", ".join(f"{name}: {_type(hints[name])}" for name in struct.__struct_fields__) or "none"


def _type(hint: Any) -> str:
    """A type in words, with its sizes."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        size = "".join(_size(mark) for mark in inner[1:] if isinstance(mark, msgspec.Meta))
        word, of, rest = _type(inner[0]).partition(" of ")
        return f"{word}{size}{of}{rest}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(item) for item in inner)
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}"
    if hint is type(None):
        return "null"
    return str(getattr(hint, "__name__", hint))


def _size(mark: msgspec.Meta) -> str:
    least, most = mark.min_length, mark.max_length
    if most is not None:
        return f" ({most})" if least == most else f" (up to {most})"
    return ""


def cli() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_commands(cloister, "cloister", None))


def _commands(command: click.Command, path: str, parent: click.Context | None) -> list[str]:
    ctx = click.Context(command, info_name=path.split()[-1], parent=parent, max_content_width=100)
    if isinstance(command, click.Group):
        found = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
        listed = [(name, child) for name, child in found if child is not None and not child.hidden]
        own = [_section(command, path, ctx)] if parent is None else []
        return own + [line for name, child in listed for line in _commands(child, f"{path} {name}", ctx)]
    return [_section(command, path, ctx)]


def _section(command: click.Command, path: str, ctx: click.Context) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(ctx)])
    parts = [f"### {path}\n", f"```\n{usage}\n```\n", inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"]
    records = [parameter.get_help_record(ctx) for parameter in command.get_params(ctx)]
    unsaid = ("--help", "-h, --help", *(() if ctx.parent is None else ("--json",)))
    rows = [record for record in records if record is not None and record[1] and record[0] not in unsaid]
    if rows:
        parts.append(table(("option", "meaning"), [(f"`{name}`", text) for name, text in rows]))
    return "\n".join(parts)


def properties() -> str:
    """What each suite gives, in the words of its caps."""
    rows = [(row, *(suite.caps.phrases[row] for suite in SUITES.values())) for row in CAPS_ROWS]
    return table(("", *SUITES), rows)


GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "errors": errors,
    "exit-codes": exit_codes,
    "limits": limits_table,
    "frames": frames_table,
    "json-names": json_names,
    "client-api": client_api,
    "cli": cli,
    "properties": properties,
    "code-example": code_example,
    "nonces-example": nonces_example,
    "pair-example": pair_example,
    "shares-example": shares_example,
    "transport-example": transport_example,
}


# --- pages --------------------------------------------------------------------------------------------------


class PageError(Exception):
    """A page whose marks make no sense."""


def pages(root: Path) -> list[Path]:
    """Every page that may hold generated parts."""
    return [path for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if path.is_file()]


def rewritten(text: str, place: str) -> tuple[str, list[str]]:
    """The page with its generated parts made anew, and their names."""
    names: list[str] = []

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name not in GENERATORS:
            raise PageError(f"{place}: nothing generates {name}")
        if found[2] is None:
            raise PageError(f"{place}: {name} has no end")
        names.append(name)
        return f"<!-- generated: {name} -->\n{GENERATORS[name]()}<!-- end -->"

    return _MARK.sub(replace, text), names


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write or check every page; the exit status."""
    stale, used = [], set()
    for path in pages(root):
        before = path.read_text()
        after, names = rewritten(before, path.relative_to(root).as_posix())
        used.update(names)
        if after != before:
            stale.append(path)
    unused = sorted(GENERATORS.keys() - used)
    if unused:
        raise PageError(f"no page uses {', '.join(unused)}")
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path.relative_to(root)} is stale; run: make docs\n")
        else:
            path.write_text(rewritten(path.read_text(), path.name)[0])
            sys.stderr.write(f"wrote {path.relative_to(root)}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
