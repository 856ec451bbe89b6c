"""The rules of the house that no other tool checks (docs/architecture.md, "Rules").

Sizes, docstrings, words, what no file of the project may hold, and that every package stands behind a wall.
Each rule reads the files that git tracks or would track; a dict of exceptions carries a reason and only shrinks.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tools import mutants

from support.need import NEEDS

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "cloister"

MODULE_LINES = 500
FUNCTION_LINES = 60
MAX_NO_COVER = 10

LONG_MODULES: dict[str, tuple[int, str]] = {}
"""Module -> (lines today, why no wall is missing). The number may only fall; at the limit the row goes."""
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}
"""`module:function` -> (lines today, why). As above."""

PACKAGE_DOCSTRINGS_ONLY = {"__init__", "__main__"}


@cache
def files() -> tuple[Path, ...]:
    """What git tracks, and what it would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return tuple(path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), filename=str(path))


def modules(*folders: str) -> list[Path]:
    wanted = tuple(f"{folder}/" for folder in folders)
    return [path for path in files() if path.suffix == ".py" and name_of(path).startswith(wanted)]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def holders(pattern: str, among: list[Path] | tuple[Path, ...]) -> list[str]:
    """`file:line` of every match."""
    compiled = re.compile(pattern)
    return [
        f"{name_of(path)}:{number}"
        for path in among
        if compiled.search(text_of(path))
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if compiled.search(line)
    ]


def over(found: dict[str, int], limit: int, excused: dict[str, tuple[int, str]]) -> list[str]:
    """What exceeds the limit without an excuse, and excuses that no longer fit."""
    wrong = [f"{name}: {size} lines" for name, size in found.items() if size > excused.get(name, (limit, ""))[0]]
    for name, (allowed, reason) in excused.items():
        size = found.get(name, 0)
        if size <= limit:
            wrong.append(f"{name}: needs no exception any more")
        elif size < allowed:
            wrong.append(f"{name}: the exception shrinks to {size}")
        elif len(reason) < 20:
            wrong.append(f"{name}: an exception needs a reason")
    return wrong


# --- sizes and docstrings -----------------------------------------------------------------------------------


def test_no_module_is_over_500_lines() -> None:
    sizes = {name_of(path): text_of(path).count("\n") for path in modules("src", "tools", "benchmarks", "fuzz")}
    assert over(sizes, MODULE_LINES, LONG_MODULES) == []


def test_no_function_is_over_60_lines() -> None:
    sizes = {
        f"{name_of(path)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules("src", "tools", "benchmarks", "fuzz")
        for node in functions(path)
    }
    assert over(sizes, FUNCTION_LINES, LONG_FUNCTIONS) == []


def test_an_exception_that_is_too_generous_is_refused() -> None:
    reason = "because of this and that"
    assert over({"a": 510}, 500, {}) == ["a: 510 lines"]
    assert over({"a": 510}, 500, {"a": (510, reason)}) == []
    assert over({"a": 511}, 500, {"a": (510, reason)}) == ["a: 511 lines"]
    assert over({"a": 505}, 500, {"a": (510, reason)}) == ["a: the exception shrinks to 505"]
    assert over({"a": 500}, 500, {"a": (510, reason)}) == ["a: needs no exception any more"]
    assert over({"a": 510}, 500, {"a": (510, "")}) == ["a: an exception needs a reason"]


def test_every_module_says_what_it_is() -> None:
    """A sentence for every module of the product and its tools; 5 to 40 lines where a module holds rules."""
    silent = [name_of(path) for path in modules("src", "tools") if not ast.get_docstring(tree_of(path))]
    long = [
        name_of(path) for path in modules("src", "tools") if (ast.get_docstring(tree_of(path)) or "").count("\n") >= 45
    ]
    assert silent == []
    assert long == []


def test_every_public_function_and_class_of_the_product_says_what_it_is() -> None:
    silent = []
    for path in modules("src"):
        for node in tree_of(path).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if not node.name.startswith("_") and not ast.get_docstring(node):
                    silent.append(f"{name_of(path)}:{node.lineno} {node.name}")
    assert silent == []


# --- what no file may hold ----------------------------------------------------------------------------------


def test_no_path_of_a_machine_is_in_any_file() -> None:
    roots = "|".join(("work", "root", "tmp/w"))
    assert holders(rf"(?<![\w.~-])/(?:{roots})/", files()) == []


def test_no_address_of_a_package_registry_is_in_any_file() -> None:
    hosts = "|".join((r"pypi\." + "org", "python" + "hosted", r"registry\." + "npmjs", r"proxy\." + "golang"))
    switches = "|".join(("--index" + "-url https?:", "--extra-" + "index-url https?:", "--find" + "-links https?:"))
    assert holders(f"{hosts}|{switches}", files()) == []


def test_no_private_key_is_in_any_file() -> None:
    assert holders("-----BEGIN [A-Z0-9 ]*PRIVATE " + "KEY", files()) == []
    suffixes = {".key", ".p12", ".pfx", ".jks"}
    assert [name_of(path) for path in files() if path.suffix in suffixes] == []


def test_the_product_asserts_nothing_and_unpickles_nothing() -> None:
    wrong = []
    for path in modules("src"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Assert):
                wrong.append(f"{name_of(path)}:{node.lineno} assert")
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                wrong += [f"{name_of(path)}:{node.lineno} {name}" for name in names if name in ("pickle", "marshal")]
    assert wrong == []


def test_nothing_in_the_product_is_left_for_later() -> None:
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "Not" + "ImplementedError"))
    assert holders(rf"\b(?:{marks})\b(?!-)", modules("src", "tools", "tests", "benchmarks", "fuzz")) == []


def test_no_check_is_switched_off_without_a_reason() -> None:
    """A lone `noqa` or `type: ignore` silences everything; a named one with its reason is allowed."""
    assert (
        holders(r"#\s*noqa(?!:)|#\s*type:\s*ignore(?!\[)", modules("src", "tools", "tests", "benchmarks", "fuzz")) == []
    )


def test_what_coverage_leaves_out_is_little_and_has_a_reason() -> None:
    mark = "pragma: " + "no cover"
    everywhere = holders(mark, modules("src", "tools"))
    reasoned = holders(mark + r" \S?\s*\w+ \w+", modules("src", "tools"))
    assert sorted(set(everywhere) - set(reasoned)) == []
    assert len(everywhere) <= MAX_NO_COVER


# --- words --------------------------------------------------------------------------------------------------

HOUSE_WORDS = {
    # a word the house does not use in names -> (the word it uses, where the other is at home)
    r"server": ("relay", r"relay/(server|tcp)|apps/|testing/|relay/app"),
    r"chat_?room|conversation": ("room", r"$^"),
    r"(?<!sub)group(?!_?info|_?commit|ed|_?14|_?secrets?|_?context|_?id)": (
        "room",
        r"mls/|protocols/mls|modp|relay/store",
    ),
    r"folder_?key|master_?key": ("a named key", r"$^"),
}


@pytest.mark.parametrize("word", sorted(HOUSE_WORDS))
def test_names_use_the_words_of_the_house(word: str) -> None:
    """Names of functions and classes only: prose may speak of servers and groups in general."""
    better, home = HOUSE_WORDS[word]
    wrong = [
        f"{name_of(path)}:{node.lineno} {node.name}: say {better}"
        for path in modules("src")
        if not re.search(home, name_of(path))
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and re.search(word, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower())
    ]
    assert wrong == []


# --- walls --------------------------------------------------------------------------------------------------


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string((ROOT / ".importlinter").read_text())
    return parser


def packages() -> set[str]:
    """`cloister.x` for every package and top module, from the files themselves."""
    inner = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in modules("src")}
    return {f"cloister.{name}" for name in inner - {"__init__", "__main__"}}


def test_every_package_stands_in_the_tower() -> None:
    layers = re.findall(r"[a-z_]+", contracts()["importlinter:contract:layers"]["layers"])
    assert packages() - {f"cloister.{name}" for name in layers} == set()


def test_every_package_below_the_client_is_held_to_be_pure() -> None:
    pure = set(contracts()["importlinter:contract:pure"]["source_modules"].split())
    impure = {f"cloister.{name}" for name in ("client", "relay", "testing", "lab", "apps")}
    assert packages() - impure - pure == set()


def test_every_package_but_primitives_and_identity_is_kept_from_cryptography() -> None:
    kept = set(contracts()["importlinter:contract:crypto"]["source_modules"].split())
    assert packages() - {"cloister.primitives", "cloister.identity"} - kept == set()


def test_contracts_name_only_what_exists() -> None:
    """Nothing is promised about a package that is not there; the layer test has parentheses for such."""
    wrong = []
    for section in contracts().sections():
        for option in ("source_modules", "forbidden_modules", "modules"):
            for name in contracts()[section].get(option, "").split():
                place = ROOT / "src" / name.replace(".", "/")
                if name.startswith("cloister.") and not place.is_dir() and not place.with_suffix(".py").is_file():
                    wrong.append(f"{section}: {name}")
    assert wrong == []


# --- tests --------------------------------------------------------------------------------------------------


def imports_of(path: Path) -> set[str]:
    """Names that a file imports: modules, and what may be a module in them."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            place = node.value.partition(":")[0]  # commands that are loaded by name, `.rooms:room` in their own package
            if re.fullmatch(r"(?:cloister)?(?:\.[a-z_]+)+", place):
                names.add(
                    place if place.startswith("cloister") else dotted(path.parent / "x").removesuffix(".x") + place
                )
    return names


def dotted(path: Path) -> str:
    """`cloister.wire.log` for its file; a path of the project for others."""
    base = ROOT / "src" if path.is_relative_to(ROOT / "src") else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_is_reached_by_some_test() -> None:
    """The unit tests mirror a module, or a test imports it, or something that a test imports does."""
    known = {dotted(path): path for path in modules("src")}
    mirrored = {
        name
        for name, path in known.items()
        if (ROOT / "tests/unit" / path.relative_to(SRC).parent / f"test_{path.stem}.py").exists()
    }
    waiting = list(mirrored | {name for path in modules("tests", "benchmarks") for name in imports_of(path)})
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached:
            reached.add(name)
            waiting += imports_of(known[name])
    unknown = {name for name, path in known.items() if path.stem not in PACKAGE_DOCSTRINGS_ONLY} - reached
    assert sorted(unknown) == []


def test_every_check_that_bears_an_id_is_named_by_a_test() -> None:
    """Whether that test would fail without the check, `make mutants` finds out."""
    named = set(mutants.ID.findall("".join(text_of(path) for path in modules("tests"))))
    assert sorted(set(mutants.discover()) - named) == []


def test_needs_are_known() -> None:
    """What the environment demands, what CI demands, and what tests say they lack."""
    demanded = re.findall(r"CLOISTER_REQUIRE-([a-z,]+)", text_of(ROOT / ".ci" / "run"))
    assert demanded, "CI demands nothing"
    named = set(",".join(demanded).split(",")) | set(filter(None, os.environ.get("CLOISTER_REQUIRE", "").split(",")))
    for path in modules("tests"):
        named |= set(re.findall(r"\blacking\(\s*\"([a-z]+)\"", text_of(path)))
    assert named - set(NEEDS) == set()


def test_pages_that_the_source_points_to_exist() -> None:
    named = {page for path in modules("src", "tools") for page in re.findall(r"docs/[a-z/_-]+\.md", text_of(path))}
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


def test_the_architecture_page_names_every_package_contract_and_dependency() -> None:
    page = text_of(ROOT / "docs" / "architecture.md")
    for name in packages():
        assert re.search(rf"^\| `{name.removeprefix('cloister.')}/?` \|", page, re.MULTILINE), (
            f"{name} is not on the page"
        )
    for section in contracts().sections():
        name = section.rpartition(":")[2]
        assert name == "importlinter" or f"`{name}`" in page, f"contract {name} is not on the page"
    listed = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["dependencies"]
    for dependency in listed:
        name = re.split(r"[<>=;\[ ]", dependency)[0]
        assert f"`{name}`" in page, f"{name} is not on the page"


def test_the_pages_that_people_need_exist() -> None:
    needed = ("README.md", "LICENSE", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "changes/README.md")
    assert [name for name in needed if not (ROOT / name).is_file()] == []
