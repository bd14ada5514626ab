"""Names in the source of the packages: words that are no names, and attributes that hide a module.

A class is a noun, a function a verb or the noun it returns, a variable the noun of its value.
`benchmark/tests/test_names.py` holds the counts, `code_metrics.py` prints them for any revision. Only the syntax tree
is read; nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PARTICIPLES = (
    *("asked", "chosen", "described", "done", "drawn", "found", "given", "heard", "held", "hired", "joined", "kept"),
    *("known", "listed", "made", "meant", "named", "placed", "said", "seen", "shown", "stated", "taken", "told"),
    *("wanted", "watched", "written"),
)
PRONOUNS = ("each", "one", "other", "others", "ours", "own", "theirs", "thing", "what", "which")
ADVERBS = ("about", "beside", "between", "here", "inside", "together", "where")
FORBIDDEN_NAMES = frozenset((*PARTICIPLES, *PRONOUNS, *ADVERBS))
"""Whole names, without leading underscores and in any case, that state no type and no role."""


@dataclass(frozen=True)
class NameUse:
    """A place where a name is bound."""

    name: str
    path: Path
    line: int


def python_files(folders: Sequence[Path]) -> list[Path]:
    """Return the Python files below some folders, in order."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def forbidden_names(*folders: Path) -> list[NameUse]:
    """Return each place below some folders that binds a name of `FORBIDDEN_NAMES`."""
    return [use for path in python_files(folders) for use in bound_names(path) if is_forbidden(use.name)]


def is_forbidden(name: str) -> bool:
    """Whether a name is one of `FORBIDDEN_NAMES`."""
    return name.lstrip("_").lower() in FORBIDDEN_NAMES


def bound_names(path: Path) -> Iterator[NameUse]:
    """Yield the names that a file binds, once for each place.

    Those are assigned variables and attributes, targets of `for`, `with`, `except`, `match`, `import ... as` and
    comprehensions, parameters, functions, classes, fields of classes, and the module itself. `other` of a method such
    as `__eq__` is Python's own name and is left out.
    """
    yield NameUse(path.stem, path, 1)
    tree = ast.parse(path.read_bytes())
    operators = {argument for node in ast.walk(tree) for argument in _operands(node)}
    for node in ast.walk(tree):
        name = _bound_name(node)
        if name is not None and node not in operators:
            yield NameUse(name, path, getattr(node, "lineno", 1))


def _operands(node: ast.AST) -> Iterator[ast.arg]:
    if isinstance(node, ast.FunctionDef) and node.name.startswith("__"):
        yield from (argument for argument in node.args.args if argument.arg == "other")


def _bound_name(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
        case ast.MatchMapping(rest=name) | ast.alias(asname=name):
            return name
        case _:
            return None


def shadowed_modules(package: Path) -> list[str]:
    """Return the modules, as `evqa.models.registry`, that an attribute of their package hides.

    `import evqa.models.registry` works, but `evqa.models.registry` then is the function or class of this name.
    """
    names = ((".".join(path.parent.relative_to(package.parent).parts), path) for path in package.rglob("__init__.py"))
    return sorted(f"{name}.{module}" for name, path in names for module in _shadowed(path, package.parent))


def _shadowed(init: Path, root: Path) -> set[str]:
    """Names that an `__init__.py` binds to something else than the module of this name beside it."""
    modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    bound: set[str] = set()
    for node in ast.parse(init.read_bytes()).body:
        bound |= _names_of_import(node, root) if isinstance(node, ast.ImportFrom) else _names_of_statement(node)
    return bound & modules


def _names_of_import(node: ast.ImportFrom, root: Path) -> set[str]:
    """What `from a.b import c` binds, unless that is the module `a/b/c.py`; relative imports bind modules here."""
    if node.level:
        return {alias.asname or alias.name for alias in node.names} if node.module else set()
    folder = root.joinpath(*(node.module or "").split("."))
    return {alias.asname or alias.name for alias in node.names if not _is_module(folder / alias.name)}


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _names_of_statement(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
