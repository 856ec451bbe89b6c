"""The documents: links lead somewhere, commands exist, the SDK's example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from cloister.apps.cli.main import cloister
from cloister.client import api
from support.fake_backend import FakeBackend, message, room

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target + anchor)
    assert broken == []


def commands() -> list[str]:
    """Every command line in the documents that people read, its options and remarks cut off."""
    found = []
    for page in (ROOT / "README.md", *(ROOT / "docs" / name for name in ("cli.md", "run-a-relay.md", "demo.md"))):
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                for part in line.split("#")[0].split("&&"):
                    if part.strip().startswith("cloister ") and "[" not in part:
                        found.append(part.strip())
    return sorted(set(found))


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_documents_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cloister
    ctx = click.Context(cloister)
    while isinstance(command, click.Group):
        name = words.pop(0)
        child = command.get_command(ctx, name)
        assert child is not None, name
        command, ctx = child, click.Context(child, parent=ctx)
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 8


def test_the_sdks_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeBackend()
    fake.rooms = [room(title="garden")]
    fake.plan = [api.MessageReceived(cursor=1, message=message("hello \x1bback"))]
    monkeypatch.setattr("cloister.client.opening.open_backend", fake.open)
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "sdk.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(example, "docs/sdk.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "bob hello ␛back\n"
    assert fake.commands[-1] == api.Send(room=fake.rooms[0].id, text="hello", wait=True)
