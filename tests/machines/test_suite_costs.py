"""Log entries and mailbox items of every suite are as many as its page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.suites import __main__ as bench
from benchmarks.suites.traffic import FORMULAS, agree, ask, expected, members, traffic

from support.need import REPOSITORY

SIZES = {"nonces": (2, 3, 5), "shares": (2, 3), "transport": (2, 3, 8), "pair": (2,), "code": (2,), "mls": (2, 3, 8)}


@pytest.mark.parametrize(("suite", "n"), [(suite, n) for suite, sizes in SIZES.items() for n in sizes])
def test_agreeing_costs_what_the_page_counts(suite: str, n: int) -> None:
    net, nodes = members(suite, n)
    ask(suite, net, nodes)
    agree(net, nodes)
    assert traffic(net, nodes).numbers == expected(suite, n)


def test_the_page_has_the_same_formulas() -> None:
    page = (REPOSITORY / "docs" / "spec" / "classic" / "README.md").read_text()
    for suite, formulas in FORMULAS.items():
        assert f"| `{suite}` | {' | '.join(formulas)} |" in page


def test_a_formula_has_its_value() -> None:
    assert expected("nonces", 3) == (1, 9, 2, 0)
    assert expected("transport", 16) == (16, 0, 15, 0)
    assert expected("code", 2) == (1, 0, 0, 4)


def test_the_bench_prints_and_writes_a_row_for_each_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "MEMBERS", dict.fromkeys(FORMULAS, (2,)))
    assert bench.main(["--rounds", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["suite"] for row in rows] == list(FORMULAS)
    assert all(row["cpu_ms"] > 0 and row["bytes"] > 400 for row in rows)
    assert "rendezvous" in capsys.readouterr().out
