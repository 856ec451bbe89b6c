"""The tool that takes checks out: it finds all four forms, takes out exactly one, and reports what it must."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from tools import mutants
from tools.mutants import Mutant, Verdict, covering, discover, places, report, select

SOURCE = '''
@check("AAA-01")
def check_one(x):
    """Text."""
    if x:
        raise PeerError("bad_sig")
    verify(x)

def two(x):
    if x:
        raise PeerError("bad_tag", check="AAA-02")
    if not x:
        refuse("AAA-V03", "because")
    verify(x)  # AAA-04
    if x == 1:  # AAA-05
        raise PeerError("replay")
    # AAA-06 is only named in a comment
    return x
'''


def taken_out(name: str) -> str:
    found = [place for check, place in places(ast.parse(SOURCE), SOURCE, "m") if check == name]
    return ast.unparse(mutants._TakeOut(found).visit(ast.parse(SOURCE)))


def test_every_form_of_a_check_is_found() -> None:
    names = [name for name, _ in places(ast.parse(SOURCE), SOURCE, "m")]
    assert sorted(names) == ["AAA-01", "AAA-02", "AAA-04", "AAA-05", "AAA-V03"]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("AAA-01", ["raise PeerError('bad_sig')", "    verify(x)\n\n"]),
        ("AAA-02", ["raise PeerError('bad_tag', check='AAA-02')"]),
        ("AAA-V03", ["refuse('AAA-V03', 'because')"]),
        ("AAA-04", ["    verify(x)\n    if x == 1"]),
        ("AAA-05", ["if x == 1", "raise PeerError('replay')"]),
    ],
)
def test_a_mutant_lacks_its_own_check_and_no_other(name: str, gone: list[str]) -> None:
    whole, altered = ast.unparse(ast.parse(SOURCE)), taken_out(name)
    for text in gone:
        assert text in whole
        assert text not in altered
    lost = sum(whole.count(word) - altered.count(word) for word in ("raise ", "refuse(", "verify("))
    assert lost == (2 if name == "AAA-01" else 1)


def test_the_product_has_checks_and_each_is_in_a_module_that_exists() -> None:
    found = discover()
    assert {"REC-06", "LOGIN-01"} <= set(found)
    for mutant in found.values():
        for module in mutant.modules:
            assert (mutants.SRC / module.replace(".", "/")).with_suffix(".py").is_file()


def test_a_mutant_is_put_in_place_for_one_process() -> None:
    program = (
        "from tools import mutants; mutants.install('REC-02')\n"
        "from cloister.protocols import record\n"
        "class Any: sender = 9; members = 2\n"
        "print(record.check_sender(Any, Any))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=mutants.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_a_mutant_that_comes_too_late_is_refused() -> None:
    import cloister.protocols.record  # noqa: F401 - so that it is there

    with pytest.raises(RuntimeError, match="too late"):
        mutants.install("REC-02")


def test_what_every_test_shares_imports_nothing_that_may_have_to_lack_a_check() -> None:
    """Else the mutants of modules that the conftest brings in cannot be made."""
    said = "import sys; import conftest; print([name for name in sys.modules if name.startswith('cloister')])"
    done = subprocess.run([sys.executable, "-c", said], cwd=mutants.ROOT / "tests", capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_tests_are_those_that_name_the_id_and_else_the_mirror() -> None:
    root = mutants.TESTS
    texts = {root / "unit/wire/test_log.py": "", root / "unit/wire/test_login.py": "", root / "x/test_y.py": "LOGIN-01"}
    named = covering(Mutant("LOGIN-01", discover()["LOGIN-01"].places), texts)
    assert named == ["tests/x/test_y.py"]
    mirrored = covering(Mutant("LOGIN-02", discover()["LOGIN-02"].places), texts)
    assert mirrored == ["tests/unit/wire/test_login.py"]


def test_ids_are_chosen_by_their_beginnings() -> None:
    assert [mutant.name for mutant in select(discover(), ["REC-0"])][:2] == ["REC-01", "REC-02"]


@pytest.mark.parametrize(
    ("fate", "sentences", "status"),
    [
        ("killed", {}, 0),
        ("survived", {}, 1),
        ("untested", {}, 1),
        ("survived", {"A-01": "equivalent, because"}, 0),
        ("killed", {"A-01": "equivalent, because"}, 1),
        ("killed", {"B-01": "of a check that is gone"}, 1),
    ],
)
def test_only_an_explained_survivor_is_allowed(
    fate: str, sentences: dict[str, str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report([Verdict("A-01", fate, "by", 1.0)], sentences, whole=True) == status
    assert "A-01" in capsys.readouterr().out
