"""A file or function that outgrows its limit is split, not excused."""

from pathlib import Path

from tests.tidy.tree import functions, python_files, short

FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 1000  # cases are long, not deep
FUNCTION_LINES_MAX = 60


def file_limit(path: Path) -> int:
    return TEST_FILE_LINES_MAX if short(path).startswith("tests/") else FILE_LINES_MAX


def test_no_file_is_too_long() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in python_files()}
    too_long = [f"{short(path)} has {count} lines" for path, count in lines.items() if count > file_limit(path)]
    assert too_long == []


def test_no_function_is_too_long() -> None:
    too_long = [
        f"{short(path)}:{function.lineno} {function.name} has {size} lines"
        for path in python_files()
        for function in functions(path)
        if (size := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert too_long == []
