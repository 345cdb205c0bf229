"""What CONTRIBUTING.md says of sizes holds for all code that runs."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_FUNCTION_LINES = 60
MOST_MODULE_LINES = 500


def modules():
    for folder in ("src", "workers", "tasks", "config"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def functions(module):
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_function_fits_a_screen():
    """Its signature and docstring count: who reads it reads them too."""
    sizes = {
        name: node.end_lineno - node.lineno + 1
        for module in modules()
        for name, node in functions(module)
    }
    assert len(sizes) > 1_000
    assert {name: lines for name, lines in sizes.items() if lines > MOST_FUNCTION_LINES} == {}


def test_module_does_not_grow_into_several():
    """One that is longer has more than one job."""
    sizes = {
        str(module.relative_to(ROOT)): len(module.read_text(encoding="utf-8").splitlines())
        for module in modules()
    }
    assert {name: lines for name, lines in sizes.items() if lines > MOST_MODULE_LINES} == {}
