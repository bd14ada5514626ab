"""Names of the source: words that are no names, and attributes that hide a module of their package."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "benchmark" / "evqa", ROOT / "train" / "unipixel", ROOT / "train" / "tiny_base")

CEILING = 0
"""Places of the packages that bind a forbidden name; it may only fall. Words and rules: benchmark/perf/names.py."""
SHADOWED: set[str] = set()
"""Modules that an attribute of their package hides; none may be added."""


@pytest.fixture(scope="module")
def names() -> ModuleType:
    """The module benchmark/perf/names.py; its folder is no package."""
    spec = importlib.util.spec_from_file_location("perf_names", ROOT / "benchmark" / "perf" / "names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_forbidden_names_only_become_fewer(names: ModuleType):
    uses = names.forbidden_names(*PACKAGES)
    worst = ", ".join(f"{name} {count}" for name, count in Counter(use.name for use in uses).most_common(8))
    files = ", ".join(f"{path.name} {count}" for path, count in Counter(use.path for use in uses).most_common(8))
    assert len(uses) <= CEILING, f"new forbidden names ({worst}; {files}): name the value, not how it came about"


def test_no_further_attribute_hides_a_module_of_its_package(names: ModuleType):
    assert {name for package in PACKAGES for name in names.shadowed_modules(package)} <= SHADOWED


def test_each_kind_of_binding_counts_once(names: ModuleType, tmp_path: Path):
    lines = [
        "found = 1",
        "_found: int = 1",
        "thing.found = 1",
        "(found, x), *found = y",
        "for found in y: pass",
        "with y as found: pass",
        "try: pass\nexcept E as found: pass",
        "x = [1 for found in y]",
        "x = lambda found: 1",
        "import y as found",
        "if found := y: pass",
        "def found(): pass",
        "async def f(*, found): pass",
        "class Found: pass",
        "class C:\n    found: int",
        "match y:\n    case found: pass",
        "match y:\n    case [*found]: pass",
        "match y:\n    case {**found}: pass",
    ]
    for number, text in enumerate(lines):
        path = tmp_path / f"module_{number}.py"
        path.write_text(text)
        expected = 2 if "*found = y" in text else 1
        assert len(names.forbidden_names(tmp_path)) == expected, text
        path.unlink()


def test_uses_and_longer_names_do_not_count_and_file_names_do(names: ModuleType, tmp_path: Path):
    methods = "class A:\n    def __eq__(self, other): pass\n    def f(self): return found\n"
    (tmp_path / "module.py").write_text(f"x = found.said(one=2)\nnum_found = 1\n{methods}")
    assert names.forbidden_names(tmp_path) == []
    (tmp_path / "between.py").write_text("def f(other): pass\n")
    assert [(use.name, use.line) for use in names.forbidden_names(tmp_path)] == [("between", 1), ("other", 1)]


def test_only_bindings_to_something_else_hide_a_module(names: ModuleType, tmp_path: Path):
    package = tmp_path / "package"
    for module in ("a", "b", "c", "d", "e", "f"):
        (package / module).mkdir(parents=True)
        (package / module / "__init__.py").write_text("")
    (package / "__init__.py").write_text(
        "from package import a\nfrom . import b\nfrom package.a import c\nfrom .a import d\ndef e(): pass\nother = 1\n"
    )
    assert names.shadowed_modules(package) == ["package.c", "package.d", "package.e"]
