"""Nothing half done, hidden or unused stays in the tree."""

import ast
import re
from pathlib import Path

from tests.tidy.tree import ROOT, SRC, imported_modules, module_name, python_files, short, syntax

# Started by name or copied, not imported: `python -m ...`, the package users import, what `holdfast init` writes.
ENTRY_POINTS = {
    "holdfast",
    "holdfast.cli",
    "holdfast.cli.__main__",
    "holdfast.cli.starter.app",
    "holdfast.integrations",
    "holdfast.integrations.httpx",
    "holdfast.integrations.openai_agents",
}

MARKS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|Users|work)/")
LINK = re.compile(r"\]\(([^)#\s]+)")


def texts() -> list[Path]:
    suffixes = {".py", ".md", ".sql", ".toml", ".html", ".js", ".css"}
    roots = [ROOT / room for room in ("src", "tests", "examples", "benchmarks", "docs")]
    deep = [path for root in roots for path in root.rglob("*") if path.suffix in suffixes]
    return sorted(deep + [path for path in ROOT.iterdir() if path.suffix in suffixes])


def catches_everything(handler: ast.ExceptHandler) -> bool:
    names = {"Exception", "BaseException"}
    return handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id in names)


def does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)


def test_no_error_is_swallowed_whole() -> None:
    swallowed = [
        f"{short(path)}:{node.lineno}"
        for path in python_files("src", "examples", "benchmarks")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node) and does_nothing(node)
    ]
    assert swallowed == []


def test_nothing_is_left_to_do_in_a_comment() -> None:
    marked = [
        f"{short(path)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MARKS.search(line)
    ]
    assert marked == []


def test_no_path_of_somebodys_machine_is_written_down() -> None:
    named = [short(path) for path in texts() if MACHINE_PATH.search(path.read_text(encoding="utf-8"))]
    assert named == []


def test_every_module_is_imported_by_something() -> None:
    used = set(ENTRY_POINTS)
    for path in python_files("src", "examples", "benchmarks"):
        used |= imported_modules(path)
    # A package is used through its modules; an `__init__` that holds nothing needs no import.
    unused = [short(path) for path in python_files("src") if path.stat().st_size and module_name(path) not in used]
    assert unused == []


def test_every_sql_file_is_read_by_the_store_beside_it() -> None:
    def is_read(sql: Path) -> bool:
        stores = [*sql.parent.glob("*.py"), *sql.parent.parent.glob("*.py")]
        names = (sql.name, f'"{sql.parent.name}"')  # by its own name, or all of its folder
        return any(name in store.read_text(encoding="utf-8") for store in stores for name in names)

    assert [short(sql) for sql in SRC.rglob("*.sql") if not is_read(sql)] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{short(page)} -> {target}"
        for page in texts()
        if page.suffix == ".md"
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert broken == []
