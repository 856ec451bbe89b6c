"""The generated parts of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import pages

from cloister.apps.cli.exits import MEANINGS
from cloister.errors import REGISTRY
from cloister.wire import limits


def site(root: Path, *names: str) -> Path:
    """Pages with every generator but those of `names`, which stand in page.md."""
    (root / "docs").mkdir()
    rest = [name for name in pages.GENERATORS if name not in names]
    for file, part in (("rest.md", rest), ("page.md", names)):
        marks = "".join(f"<!-- generated: {name} -->\nold\n<!-- end -->\n\nby hand\n" for name in part)
        (root / "docs" / file).write_text(f"# Title\n\n{marks}")
    return root / "docs" / "page.md"


def test_a_mark_that_nothing_generates_is_refused() -> None:
    with pytest.raises(pages.PageError, match="nothing generates other"):
        pages.rewritten("<!-- generated: other -->\n<!-- end -->\n", "page")


@pytest.mark.parametrize(
    "text",
    ["<!-- generated: errors -->\n", "<!-- generated: errors -->\nx\n<!-- generated: limits -->\n<!-- end -->\n"],
)
def test_a_mark_without_an_end_is_refused(text: str) -> None:
    with pytest.raises(pages.PageError, match="errors has no end"):
        pages.rewritten(text, "page")


def test_a_generator_that_no_page_uses_is_refused(tmp_path: Path) -> None:
    site(tmp_path, "errors").unlink()
    with pytest.raises(pages.PageError, match="errors"):
        pages.main(["--check"], tmp_path)


def test_a_stale_page_is_found_written_and_then_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = site(tmp_path, "errors", "limits")
    assert pages.main(["--check"], tmp_path) == 1
    assert "docs/page.md is stale; run: make docs" in capsys.readouterr().err
    assert pages.main([], tmp_path) == 0
    assert pages.main(["--check"], tmp_path) == 0
    text = page.read_text()
    assert "\nold\n" not in text
    assert text.count("by hand") == 2
    assert "`bad_sig`" in text


def test_every_row_stands_in_its_table() -> None:
    assert all(f"| `{code}` |" in pages.errors() for code in REGISTRY)
    assert all(f"| {int(code)} |" in pages.exit_codes() for code in MEANINGS)
    assert all(f"| {row.name} |" in pages.limits_table() for row in limits.TABLE)
    assert "| `hello` | device: str (up to 128) or null, nonce: bytes (32), versions: list (up to 16) of int |" in (
        pages.frames_table()
    )
    assert "| Send | send | room: str, text: str, wait: bool, timeout: int |" in pages.client_api()


def test_values_are_in_units_that_people_read() -> None:
    table = pages.limits_table()
    assert "| frame | 256 KiB |" in table
    assert "| run | 1 d |" in table


def test_the_command_reference_has_every_command_but_hidden_ones() -> None:
    text = pages.cli()
    for command in ("cloister room create", "cloister relay invite create", "cloister authority crl", "cloister demo"):
        assert f"### {command}\n" in text
    assert "demo-member" not in text
