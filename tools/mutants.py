"""The control of every negative test: take one check out, and a test must fail.

    make mutants                      every check of the product
    make mutants ARGS="REC-06 NON"    those whose id begins so

Source: docs/architecture.md ("Rules"). A check is whatever bears an id, in one of four forms:

    @check("REC-06")                       the function's refusals go: `raise` and bare calls become `pass`
    raise PeerError(code, check="REC-05")  the statement becomes `pass`
    refuse("MLS-V014")                     the statement becomes `pass`
    statement  # LOGIN-02                  the statement becomes `pass` (for checks below the register's layer)

Each mutant is one id with all its places. First the tests run as they are and must pass. Then each mutant runs in a
process of its own: tests/conftest.py puts the altered source in place when CLOISTER_MUTANT names it, and the tests that
name the id (or, where none does, those that mirror the module) must fail. A mutant that survives is allowed only with a
sentence in tools/mutants.toml that says why it is equivalent; a sentence for one that does not survive is refused too.

Invariants: no file of the project is changed; the table lists every id; exit status 1 on anything unexplained.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
TESTS = ROOT / "tests"
VARIABLE = "CLOISTER_MUTANT"
POOL = "CLOISTER_KEYPOOL"
ID = re.compile(r"[A-Z]{2,8}-V?\d{2,3}")
STATEMENTS = (ast.Raise, ast.Expr, ast.If, ast.Assign)
"""What may stand on a line that ends with an id."""
NOT_TESTS = ("test_house.py", "test_mutants.py")
"""Tests about this project's own tools: they name ids, but test no check."""
TIMEOUT = 300
"""Seconds for the tests of one mutant; a mutant that makes them hang counts as found."""
MEMORY = 4 << 30
"""Bytes of address space of the tests: a check may be what keeps memory bounded, and its mutant takes all there is."""
NOT_RUN = (2, 4, 5)
"""pytest's exit statuses that say that the tests were not run: interrupted, wrong usage, none found."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a check stands: the lines of its statement, and whether it is a whole function."""

    module: str
    first: int
    last: int
    function: bool = False


@dataclass(slots=True)
class Mutant:
    """One check with all its places."""

    name: str
    places: list[Place] = field(default_factory=list)

    @property
    def modules(self) -> list[str]:
        """The modules that it alters."""
        return sorted({place.module for place in self.places})


# --- finding the checks -------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    """`cloister.wire.login` for its file."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def discover() -> dict[str, Mutant]:
    """Every check of the product by id."""
    mutants: dict[str, Mutant] = {}
    for path in sorted(SRC.rglob("*.py")):
        source = path.read_text()
        if ID.search(source):
            for name, place in places(ast.parse(source), source, module_name(path)):
                mutants.setdefault(name, Mutant(name)).places.append(place)
    return mutants


def places(tree: ast.Module, source: str, module: str) -> Iterator[tuple[str, Place]]:
    """(id, place) for every check of one module."""
    commented = {
        number: found.group(1)
        for number, line in enumerate(source.splitlines(), 1)
        if (found := re.search(rf"#\s*({ID.pattern})\b", line)) and not line.lstrip().startswith("#")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for name in _decorated(node):
                yield name, Place(module, node.lineno, node.end_lineno or node.lineno, function=True)
        elif isinstance(node, (ast.Raise, ast.Expr)):
            for name in _named(node):
                yield name, Place(module, node.lineno, node.end_lineno or node.lineno)
        if isinstance(node, STATEMENTS) and (found := commented.get(node.lineno)):
            yield found, Place(module, node.lineno, node.end_lineno or node.lineno)


def _decorated(node: ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "check":
            yield from _ids(decorator.args)


def _named(node: ast.Raise | ast.Expr) -> Iterator[str]:
    call = node.exc if isinstance(node, ast.Raise) else node.value
    if not isinstance(call, ast.Call):
        return
    yield from _ids(keyword.value for keyword in call.keywords if keyword.arg == "check")
    if isinstance(call.func, ast.Name) and call.func.id == "refuse":
        yield from _ids(call.args[:1])


def _ids(values: Iterable[ast.expr]) -> Iterator[str]:
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and ID.fullmatch(value.value):
            yield value.value


# --- taking one out -----------------------------------------------------------------------------------------


class _TakeOut(ast.NodeTransformer):
    """Replaces the statements of one mutant by `pass`; in a check function, all its refusals."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._statements = {(place.first, place.last) for place in places if not place.function}
        self._functions = {(place.first, place.last) for place in places if place.function}
        self._inside = False

    def visit(self, node: ast.AST) -> ast.AST:
        where = (getattr(node, "lineno", 0), getattr(node, "end_lineno", 0))
        if isinstance(node, STATEMENTS) and where in self._statements:
            return ast.copy_location(ast.Pass(), node)
        if isinstance(node, ast.FunctionDef) and where in self._functions:
            self._inside = True
            self.generic_visit(node)
            self._inside = False
            return node
        refuses = isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        if self._inside and refuses:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)


class _Loader(SourceFileLoader):
    """Loads a module without the mutant's checks, from its source and never from a cache."""

    def __init__(self, name: str, path: str, places: Sequence[Place]) -> None:
        super().__init__(name, path)
        self._places = places

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), filename=self.path)
        altered = ast.fix_missing_locations(_TakeOut(self._places).visit(tree))
        code: CodeType = compile(altered, self.path, "exec", dont_inherit=True)
        return code


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._mutant.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(fullname, spec.origin, [at for at in self._mutant.places if at.module == fullname])
        spec.cached = None
        return spec


def install(name: str) -> None:
    """Take the check `name` out of this process; nothing of `cloister` may be imported yet."""
    mutant = discover()[name]
    early = [module for module in mutant.modules if module in sys.modules]
    if early:
        raise RuntimeError(f"too late for {name}: {', '.join(early)} is imported")
    sys.meta_path.insert(0, _Finder(mutant))


# --- running ------------------------------------------------------------------------------------------------


def covering(mutant: Mutant, texts: dict[Path, str]) -> list[str]:
    """The test files that name the id; where none does, those that mirror its modules."""
    named = [path for path, text in texts.items() if re.search(rf"{mutant.name}\b", text)]
    if not named:
        stems = {f"test_{module.rpartition('.')[2]}" for module in mutant.modules}
        parents = {module.split(".")[1] for module in mutant.modules}
        named = [path for path in texts if path.stem in stems and path.parent.name in parents]
        named = named or [path for path in texts if path.parent.name in parents]
    return sorted(path.relative_to(ROOT).as_posix() for path in named)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: `killed`, `survived` or `untested`, by which test, in how many seconds."""

    name: str
    fate: str
    by: str
    seconds: float


def run(tests: Sequence[str], pool: str, mutant: str = "") -> tuple[int, str]:
    """pytest's exit status and output; status 1 where the tests did not end in time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not system and not slow"]
    environment = {**os.environ, VARIABLE: mutant, POOL: pool, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own tests
            [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "FAILED (the tests did not end)"
    return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant, tests: Sequence[str], pool: str) -> Verdict:
    """Run the tests against the mutant."""
    if not tests:
        return Verdict(mutant.name, "untested", "no test names it", 0)
    begun = time.monotonic()
    status, output = run(tests, pool, mutant.name)
    seconds = time.monotonic() - begun
    failed = re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", output, re.MULTILINE)
    if status == 0:
        return Verdict(mutant.name, "survived", ", ".join(tests), seconds)
    if failed or status not in NOT_RUN:
        return Verdict(mutant.name, "killed", failed[0] if failed else "the tests' process broke down", seconds)
    raise RuntimeError(f"{mutant.name}: the tests could not be run\n{output[-4000:]}")


def controls(chosen: Iterable[Sequence[str]], pool: str, workers: ThreadPoolExecutor) -> None:
    """The same tests pass with every check in place; RuntimeError names those that do not."""
    groups = sorted({tuple(tests) for tests in chosen if tests})
    for tests, (status, output) in zip(groups, workers.map(lambda group: run(group, pool), groups), strict=True):
        if status != 0:
            raise RuntimeError(f"without any mutant, {', '.join(tests)} fails\n{output[-4000:]}")


def explained() -> dict[str, str]:
    """Id -> the sentence why taking it out changes nothing."""
    rows: dict[str, str] = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text())["equivalent"]
    return rows


def select(mutants: dict[str, Mutant], wanted: Sequence[str]) -> list[Mutant]:
    """The mutants whose id begins with one of the words; all without words."""
    return [mutants[name] for name in sorted(mutants) if not wanted or name.startswith(tuple(wanted))]


def report(verdicts: Iterable[Verdict], sentences: dict[str, str], *, whole: bool) -> int:
    """Print the table row by row; 1 when a survivor has no sentence or a sentence no survivor."""
    names, killed, wrong = set(), 0, 0
    for verdict in verdicts:
        names.add(verdict.name)
        killed += verdict.fate == "killed"
        mark, note = "", verdict.by
        if verdict.fate != "killed" and verdict.name in sentences:
            mark, note = "explained", sentences[verdict.name]
        elif verdict.fate != "killed":
            mark, wrong = "UNEXPLAINED", wrong + 1
        elif verdict.name in sentences:
            mark, wrong = "KILLED, BUT EXPLAINED AWAY", wrong + 1
        _say(f"{verdict.name:12} {verdict.fate:9} {verdict.seconds:5.1f} s  {mark} {note}")
    unknown = sorted(set(sentences) - names) if whole else []
    for name in unknown:
        _say(f"{name:12} has a sentence but is no check")
    _say(f"{killed} of {len(names)} checks are held by a test; {wrong + len(unknown)} unexplained")
    return 1 if wrong or unknown else 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a tool's output


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the mutants that were asked for."""
    parser = argparse.ArgumentParser(prog="make mutants", description="take each check out; a test must fail")
    parser.add_argument("ids", nargs="*", help="ids or beginnings of ids; all without")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="show the checks and their tests, run nothing")
    options = parser.parse_args(arguments)
    texts = {path: path.read_text() for path in sorted(TESTS.rglob("test_*.py")) if path.name not in NOT_TESTS}
    chosen = [(mutant, covering(mutant, texts)) for mutant in select(discover(), options.ids)]
    if options.list:
        for mutant, tests in chosen:
            _say(f"{mutant.name:12} {', '.join(mutant.modules)}: {', '.join(tests)}")
        return 0
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory(prefix="cloister-mutants-") as pool, ThreadPoolExecutor(options.jobs) as workers:
        controls((tests for _, tests in chosen), pool, workers)
        verdicts = workers.map(lambda pair: judge(*pair, pool), chosen)
        return report(verdicts, explained(), whole=not options.ids)


if __name__ == "__main__":
    sys.exit(main())
