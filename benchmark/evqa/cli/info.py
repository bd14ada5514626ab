"""Commands that say what there is: the tables, and what works in this environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from evqa.cli.console import print_line

Table = Literal["all", "models", "methods", "tasks", "datasets", "metrics", "presets", "formats", "checkpoints"]
Rows = list[tuple[str, str]]


def list_(table: Positional[Annotated[Table, arg(metavar="TABLE")]] = "all") -> int:
    """Show what there is to choose from: models, methods, data sets, metrics, presets, formats, checkpoints.

    Example: evqa list models

    Args:
        table: which one; all of them where none is named.
    """
    for name, rows in TABLES.items():
        if table in {"all", name}:
            print_line(f"{name}\n{_columns(rows())}\n")
    return 0


def doctor() -> int:
    """Check this environment: what works here, what does not, and what to do about it.

    Exits with 1 where something is broken.

    Example: evqa doctor
    """
    from evqa import doctor as checks

    findings = checks.diagnose()
    print_line(checks.report(findings))
    return 1 if any(finding.level == "broken" for finding in findings) else 0


def _models() -> Rows:
    from evqa.models import MODELS

    return [(name, row.about) for name, row in MODELS.items()]


def _methods() -> Rows:
    from evqa.methods import METHODS

    return [(name, _first_line(method.__doc__)) for name, method in METHODS.items()]


def _datasets() -> Rows:
    from evqa import datasets
    from evqa.datasets.registry import DATASETS

    def state(name: str) -> str:
        file = datasets.prepared_file(name)
        return "not installed" if file is None else f"installed in {file.parent}"

    return [(name, f"{row.description}, {state(name)}") for name, row in DATASETS.items()]


def _tasks() -> Rows:
    from evqa.tasks.registry import TASKS

    return [
        (name, f"{task.description}; method {task.method}, presets {' and '.join(task.presets)}")
        for name, task in TASKS.items()
    ]


def _metrics() -> Rows:
    from evqa.metrics.presets import PRESETS

    return [
        (f"{preset}: {name}", f"{metric.definition} ({metric.unit})")
        for preset, row in PRESETS.items()
        for name, metric in row.metrics.items()
    ]


def _presets() -> Rows:
    from evqa.metrics.presets import PRESETS

    return [(name, row.description) for name, row in PRESETS.items()]


def _formats() -> Rows:
    from evqa.official import FORMATS

    return [(name, f"{row.source}. {_first_line((row.read or row.score).__doc__)}") for name, row in FORMATS.items()]


def _checkpoints() -> Rows:
    from evqa.hub import checkpoints

    rows: Rows = []
    for name, row in checkpoints.CHECKPOINTS.items():
        try:
            folder = checkpoints.find_checkpoint(name)
            revision = "" if folder is None else (checkpoints.installed_revision(folder) or "")[:12]
            state = "not here" if folder is None else f"in {folder}" + (f" at {revision}" if revision else "")
        except ValueError as error:
            state = str(error)
        rows.append((name, f"{row.hub or 'comes with the repository'}, {row.licence}, {state}"))
    return rows


TABLES: dict[str, Callable[[], Rows]] = {
    "models": _models,
    "methods": _methods,
    "tasks": _tasks,
    "datasets": _datasets,
    "metrics": _metrics,
    "presets": _presets,
    "formats": _formats,
    "checkpoints": _checkpoints,
}


def _columns(rows: Rows) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:{width}}  {about}" for name, about in rows)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
