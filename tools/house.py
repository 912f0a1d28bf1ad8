"""What must be true of the house, measured: import circles, rooms, imports inside functions, long parameter lists, long files, private names
used elsewhere, dead code, doubled lines, tests to code, files named by docs/numbers.md.

python tools/house.py            prints each, with what breaks it
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
# Which rooms each may import, besides itself and the contracts at the root.
ROOMS: Mapping[str, frozenset[str]] = {
    "measures": frozenset(),
    "images": frozenset({"measures"}),
    "models": frozenset({"images", "measures"}),
    "features": frozenset({"images", "models", "measures"}),
    "training": frozenset({"images", "models", "features", "measures"}),
    "studies": frozenset({"images", "models", "features", "measures", "training"}),
    "report": frozenset(),
    "app": frozenset({"images", "models", "features", "measures", "training", "studies", "report"}),
}
LONGEST, MOST_PARAMETERS, DOUBLED = 400, 8, 10
# Public functions may take what their users need; measures, images and models name theirs in their faces.
FACES = ("visus", "visus.images", "visus.models", "visus.features", "visus.measures")


@dataclass(frozen=True)
class Import:
    """One import of one of our modules. inner: inside a function; reason: the comment on its line or the one above, or ''."""

    file: Path
    line: int
    target: str
    inner: bool
    reason: str


def python_files(*folders: str) -> list[Path]:
    """Python files below folders of the checkout, sorted; generated data left out."""
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def module_of(file: Path) -> str:
    """'src/visus/images/base.py' -> 'visus.images.base'."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def modules() -> Mapping[str, Path]:
    return {module_of(file): file for file in python_files("src/visus")}


def _walk(node: ast.AST, inner: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inner
        yield from _walk(child, inner or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


@cache
def imports(file: Path) -> tuple[Import, ...]:
    """Every import statement of a file, of whatever; one entry a name."""
    lines = file.read_text("utf-8").split("\n")
    found = []
    for node, inner in _walk(tree_of(file)):
        reason = _comment(lines, node)
        names = [alias.name for alias in node.names]
        base = (node.module or "") if isinstance(node, ast.ImportFrom) else None
        for name in names:
            found.append(Import(file, node.lineno, _target(base, name), inner, reason))
    return tuple(found)


def _target(base: str | None, name: str) -> str:
    """The module that an import reaches: 'from visus import threads' names the module visus.threads."""
    if base is None:
        return name
    whole = f"{base}.{name}"
    return whole if whole in modules() else base


def _comment(lines: Sequence[str], node: ast.Import | ast.ImportFrom) -> str:
    """The comment on the lines of the import, or on lines above it that hold nothing else (other imports between may share it)."""
    for line in lines[node.lineno - 1 : node.end_lineno or node.lineno]:
        if "#" in line and "noqa" not in line.split("#", 1)[1]:
            return line.split("#", 1)[1].strip()
    at = node.lineno - 2
    while at >= 0 and re.match(r"\s*(from|import)\s", lines[at]):
        at -= 1
    above = lines[at].strip() if at >= 0 else ""
    return above[1:].strip() if above.startswith("#") else ""


def circles() -> list[list[str]]:
    """Groups of our modules that import each other, by whatever import (strongly connected components of more than one, or of itself)."""
    graph = {
        module: {i.target for i in imports(file) if i.target in modules() and i.target != module}
        for module, file in modules().items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def room_of(module: str) -> str:
    """'visus.images.base' -> 'images'; '' for the contracts at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def wrong_rooms() -> list[str]:
    """Imports of a room by one that must not know it; a contract at the root may know none."""
    found = []
    for module, file in modules().items():
        room = room_of(module)
        if not room and module == "visus":
            continue  # the face
        allowed = ROOMS[room] | {room, ""} if room else frozenset({""})
        for one in imports(file):
            if one.target.startswith("visus") and room_of(one.target) not in allowed:
                found.append(f"{_where(one)}: {room or 'the root'} imports {one.target}")
    return sorted(set(found))


def inner_imports() -> list[Import]:
    """Imports inside functions, one entry a statement."""
    once = {(i.file, i.line): i for file in python_files("src/visus") for i in imports(file) if i.inner}
    return list(once.values())


def _where(one: Import) -> str:
    return f"{one.file.relative_to(ROOT)}:{one.line}"


def public_names() -> frozenset[str]:
    """Functions that users call: what the faces export, and the studies that the command line names."""
    names = set()
    for face in FACES:
        for node in ast.walk(tree_of(modules()[face])):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
    return frozenset(names | {m.rsplit(".", 1)[1] for m in modules() if re.fullmatch(r"visus\.studies\.\w+", m)})


def long_signatures() -> list[str]:
    """Functions with more than MOST_PARAMETERS parameters outside the public API; self and cls are not counted."""
    public, found = public_names(), []
    for file in python_files("src/visus"):
        for node in ast.walk(tree_of(file)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            a = node.args
            names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            count = len([n for n in names if n not in ("self", "cls")])
            if count > MOST_PARAMETERS and node.name not in public:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.name} has {count} parameters")
    return found


def long_files() -> list[str]:
    """Files of the source and the tests over LONGEST lines."""
    sizes = {
        f: len(f.read_text("utf-8").split("\n")) - 1 for f in python_files("src/visus", "tests", "tools", "benchmarks")
    }
    return [f"{f.relative_to(ROOT)}: {n} lines" for f, n in sizes.items() if n > LONGEST]


def borrowed_privates() -> list[str]:
    """Private names (_x) of one of our files that another file uses: imported, or read off a module."""
    found = []
    for file in python_files("src/visus", "tests", "tools", "benchmarks"):
        aliases: dict[str, str] = {}
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("visus"):
                for alias in node.names:
                    if _private(alias.name) and f"{node.module}.{alias.name}" not in modules():
                        found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.module}.{alias.name}")
                    if f"{node.module}.{alias.name}" in modules():
                        aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in ast.walk(tree_of(file)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in aliases
                and _private(node.attr)
            ):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {aliases[node.value.id]}.{node.attr}")
            is_patch = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("setattr", "patch")
            )
            for arg in node.args if is_patch else ():  # type: ignore[attr-defined]
                if (
                    isinstance(arg, ast.Constant)
                    and isinstance(arg.value, str)
                    and _private(arg.value.rsplit(".", 1)[-1])
                ):
                    owner = node.args[0]  # type: ignore[attr-defined]
                    ours = isinstance(owner, ast.Name) and owner.id in aliases
                    if ours or arg.value.startswith("visus."):
                        found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {arg.value}")
    return sorted(set(found))


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def dead_code() -> list[str]:
    """What vulture (60 %) finds unused in the source, beside tools/house_whitelist.py (hooks that frameworks call) and what is named by a path,
    as 'visus.models.from_timm:load_timm' (see visus.lazy)."""
    called = {
        name for file in python_files("src/visus") for name in re.findall(r"[\w.]+:(\w+)[\"']", file.read_text("utf-8"))
    }
    paths = ["src/visus", "tools", "benchmarks", "examples", "tests", "tools/house_whitelist.py"]
    here = [p for p in paths if (ROOT / p).exists()]
    done = subprocess.run(
        [sys.executable, "-m", "vulture", *here, "--min-confidence", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr)
    ours = [line for line in done.stdout.splitlines() if line.startswith("src/visus")]
    return [line for line in ours if not called & set(re.findall(r"'(\w+)'", line))]


def doubled_lines() -> list[str]:
    """Places of the source where DOUBLED lines stand twice (pylint; imports, docstrings, comments and signatures left out)."""
    options = ["--ignore-imports=y", "--ignore-docstrings=y", "--ignore-comments=y", "--ignore-signatures=y"]
    done = subprocess.run(
        [
            sys.executable, "-m", "pylint", "src/visus", "--disable=all", "--enable=duplicate-code",
            f"--min-similarity-lines={DOUBLED}", *options, "--score=n",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    pairs, current = [], []
    for line in done.stdout.splitlines():
        if line.startswith("=="):
            current.append(line.removeprefix("=="))
        elif current:
            pairs.append(" = ".join(current))
            current = []
    return pairs


def tests_to_code() -> float:
    """Lines of tests/studies over lines of src/visus/studies."""
    tests, code = (
        sum(len(f.read_text("utf-8").split("\n")) for f in python_files(where))
        for where in ("tests/studies", "src/visus/studies")
    )
    return tests / code


def missing_files() -> list[str]:
    """Files that docs/numbers.md names (`studies/x.py`, `measures/y.py`) and that do not exist below src/visus; or that it names none."""
    named = re.findall(
        r"`((?:images|models|features|measures|training|studies|report)/[\w/.]+)`",
        (ROOT / "docs/numbers.md").read_text("utf-8"),
    )
    if not named:
        return ["docs/numbers.md names no file"]
    return sorted({name for name in named if not (SRC / "visus" / name).exists()})


def help_seconds(runs: int = 3) -> float:
    """The least time of `visus --help`, seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "visus.app.cli", "--help"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    inner = inner_imports()
    unexplained = [_where(i) for i in inner if not i.reason]
    for title, broken in (
        ("import circles", [" - ".join(group) for group in circles()]),
        ("imports against the order of rooms", wrong_rooms()),
        (f"functions with more than {MOST_PARAMETERS} parameters", long_signatures()),
        (f"files over {LONGEST} lines", long_files()),
        ("private names used in another file", borrowed_privates()),
        ("imports inside functions without a reason", unexplained),
        ("files that docs/numbers.md names and that are not there", missing_files()),
        ("dead code (vulture)", dead_code()),
        (f"{DOUBLED} lines that stand twice (pylint)", doubled_lines()),
    ):
        print(f"{title}: {len(broken)}")
        for line in broken:
            print(f"    {line}")
    print(f"imports inside functions: {len(inner)}")
    print(f"tests to code in studies/: {tests_to_code():.2f}")
    print(f"visus --help: {help_seconds():.2f} s")


if __name__ == "__main__":
    main()
