"""The durable steps of the program, found in its code: what changes a disk or the catalog.

A step is a call of ``os.fsync``, ``os.link``, ``Path.unlink``, ``Path.rename`` or ``Path.replace`` in a function of
ours, a statement that changes the catalog, or a request that changes an object store. Before and after each is a crash
point. Nothing is listed by hand, so that a new step cannot be forgotten.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from catalog.migrate import known_migrations
from catalog.sql import QUERIES

ROOT = Path(__file__).parents[2]
PACKAGES = ("access", "catalog", "flight_server", "readers", "storage", "timestore_app", "writers")
FUNCTIONS_OF_OS = ("fsync", "link")
METHODS_OF_PATH = ("unlink", "rename", "replace")
METHODS_OF_BLOBS = ("upload_blob", "stage_block", "commit_block_list", "delete_blob")  # of Azure's client
READING_REQUESTS = ("get_", "head_", "list_")  # of S3's, which are called by name

# Not of a server's life with data, and tested for themselves: the making of a Postgres cluster, the demo, the moving of
# a catalog, commands.
ELSEWHERE = (
    "catalog.embedded.",
    "catalog.transfer",
    "timestore_app.demo.",
    "timestore_app.cli.",
    "timestore_app.checks",
)

_CHANGES = re.compile(r"^\s*(INSERT|UPDATE|DELETE)\b", re.MULTILINE)
_DEFINED = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)")


def statement_steps() -> dict[str, str]:
    """Return the statements that change the catalog: text by step."""
    functions = {name for migration in known_migrations() for name in _DEFINED.findall(migration.script)}
    changing = re.compile("|".join([_CHANGES.pattern, *(rf"\b{name}\(" for name in sorted(functions))]), re.MULTILINE)
    named = {f"catalog {name}": text for name, text in QUERIES.items() if changing.search(text)}
    return named | {f"migration {each.number:04d}": each.script for each in known_migrations()}


def call_step(module: str, function: str, called: str) -> str:
    """Name the step of a call in a function of ours."""
    return f"{module}:{function} {called}"


def call_steps() -> set[str]:
    """Find every call of a function that changes a disk."""
    return {
        step
        for package in PACKAGES
        for path in files(package).iterdir()
        for step in _steps_below(Path(str(path)))
        if not step.startswith(ELSEWHERE)
    }


def all_steps() -> set[str]:
    """Return every durable step."""
    return call_steps() | set(statement_steps())


def request_steps(scheme: str) -> set[str]:
    """Find every request that changes an object store of a scheme: ``s3`` or ``azure``."""
    found = {"s3": _request_of_s3, "azure": _request_of_azure}[scheme]
    tree = ast.parse((ROOT / "storage" / f"{scheme}.py").read_text(encoding="utf-8"))
    names = [found(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f"{scheme} {name}" for name in names if name is not None}


def store_steps(scheme: str) -> set[str]:
    """Return every durable step that only a storage elsewhere has."""
    return request_steps(scheme) | {step for step in call_steps() if step.startswith("storage.objects:")}


def _request_of_s3(call: ast.Call) -> str | None:
    match call:
        case ast.Call(func=ast.Attribute(attr="_call"), args=[ast.Constant(value=str(name)), *_]):
            return None if name.startswith(READING_REQUESTS) else name
    return None


def _request_of_azure(call: ast.Call) -> str | None:
    match call.func:
        case ast.Attribute(attr=name) if name in METHODS_OF_BLOBS:
            return name
    return None


def _steps_below(path: Path) -> Iterator[str]:
    sources = path.rglob("*.py") if path.is_dir() else [path] if path.suffix == ".py" else []
    for source in sources:
        module = ".".join(source.relative_to(ROOT).with_suffix("").parts)
        yield from _calls(ast.parse(source.read_text(encoding="utf-8")), module, [])


def _calls(node: ast.AST, module: str, scope: list[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef):
            inner = [*scope, child.name, "<locals>"]
        elif isinstance(child, ast.ClassDef):
            inner = [*scope, child.name]
        elif isinstance(child, ast.Call) and (called := _durable(child)):
            yield call_step(module, ".".join(scope[:-1]), called)
        yield from _calls(child, module, inner)


def _durable(call: ast.Call) -> str | None:
    """Name what a call does to a disk; None if nothing. ``replace`` of a text has two arguments, of a path one."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in FUNCTIONS_OF_OS:
            return f"os.{name}"
        case ast.Attribute(value=ast.Name(id="os" | "shutil")):
            return None
        case ast.Attribute(attr="replace") if len(call.args) != 1:
            return None
        case ast.Attribute(attr=name) if name in METHODS_OF_PATH:
            return f"Path.{name}"
    return None
