"""The house stays one that a newcomer finds the way in: small folders, one name for one thing, documents that are true."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import click
import sqlalchemy as sa
import yaml

import midas_pipelines
from benchmarks import __main__ as benchmarks
from benchmarks.scale.picture import picture
from midas_pipelines.cli import COMMANDS, cli
from midas_pipelines.store.operations.retention import KEPT
from midas_pipelines.store.privacy.register import TABLES, register_page
from midas_pipelines.store.schema.tables import store
from midas_pipelines.storefront.schema import shop

PACKAGE = Path(midas_pipelines.__file__).parent
ROOT = PACKAGE.parent
TESTS = Path(__file__).parent
IMPORTED_TEST = re.compile(r"^[ \t]*(?:from|import) [^\n(]*(?:\([^)]*)?\btest_\w+", re.MULTILINE)
RAISES = re.compile(r"\b(raise_alerts?|match_alerts)\b")
NAMED_COMMAND = re.compile(r"`midas ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
NAMED_FILE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|yaml))`")


@cache  # read when a test asks: each process of a test run loads this file
def modules() -> dict[Path, ast.Module]:
    """The code of the package."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def places(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> dict[str, list[str]]:
    """The modules that define each name of this kind, once for each definition: private classes and inner ones too, but
    of functions those that are public and at the top level."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules().items():
        for node in ast.walk(tree) if kind is ast.ClassDef else tree.body:
            if isinstance(node, kind) and (kind is ast.ClassDef or not node.name.startswith("_")):  # type: ignore[attr-defined]
                found[node.name].append(str(path.relative_to(PACKAGE)))  # type: ignore[attr-defined]
    return found


def test_no_class_name_is_defined_twice() -> None:
    assert {name: where for name, where in places(ast.ClassDef).items() if len(where) > 1} == {}


def test_no_function_name_is_defined_in_three_modules() -> None:
    functions = places((ast.FunctionDef, ast.AsyncFunctionDef))
    assert {name: where for name, where in functions.items() if len(set(where)) > 2} == {}


def test_few_functions_import_the_package() -> None:
    """What takes long to load is reached through `lib/engine.py`, and a command by the name of its module."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {
        (str(path.relative_to(PACKAGE)), node.lineno)
        for path, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("midas_pipelines")
    }
    assert len(found) < 10, sorted(found)


def test_no_folder_is_crowded() -> None:
    folders: dict[str, int] = defaultdict(int)
    for path in modules():
        folders[str(path.parent.relative_to(PACKAGE))] += 1
    assert {folder: count for folder, count in folders.items() if count > 16} == {}


def test_every_file_that_a_document_names_is_there() -> None:
    pages = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [(page.name, name) for page in pages for name in NAMED_FILE.findall(page.read_text())]
    assert {"architecture.md", "AGENTS.md", "CONTRIBUTING.md"} <= {page for page, _ in named}
    assert [one for one in named if not any((root / one[1]).exists() for root in (PACKAGE, ROOT))] == []


def test_the_rooms_of_the_engine_are_those_that_the_readme_names() -> None:
    (row,) = re.findall(r"\| the engine: (.*) \|", (ROOT / "README.md").read_text())
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(
        page.parent.name for page in PACKAGE.glob("sync/*/__init__.py")
    )


def test_every_command_that_a_text_names_is_there() -> None:
    commands = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py")]
    wrong = []
    for path in pages:
        text = re.sub(r'"\n\s*f?"', "", path.read_text())  # a sentence on several lines of code
        for name, below in NAMED_COMMAND.findall(text):
            group = commands.get(name)
            if group is None or (below and isinstance(group, click.Group) and below not in group.commands):
                wrong.append(f"{path.name}: midas {name} {below}")
    assert wrong == []


def test_the_line_of_a_command_in_a_list_is_a_whole_sentence() -> None:
    """click ends it at the first word with a dot, as of an abbreviation."""
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    groups = [one for one in commands if isinstance(one, click.Group)]
    for command in [*commands, *(below for group in groups for below in group.commands.values())]:
        assert command is not None
        text = " ".join((command.help or "").split("\n\n")[0].split())
        rest = text.removeprefix(command.get_short_help_str(1000).rstrip("."))
        assert re.fullmatch(r"\.?( [A-Z].*)?", rest), text


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    numbers = [int(path.name[:4]) for path in sorted(folder.glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [path.name for path in folder.glob("[0-9]*.md") if f"({path.name})" not in index] == []


def alert_kinds(path: Path, tree: ast.Module) -> set[str]:
    """The kinds of alerts that a module raises, but for one that is a parameter or put together."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    raising = [
        call for call in calls if RAISES.search(" ".join(map(ast.unparse, (call.func, *call.args[:1]))))
    ]
    given = {ast.unparse(one.value) for call in raising for one in call.keywords if one.arg == "kind"} - {
        "kind"
    }
    fixed = [text for text in given if not text.startswith("f'")]
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return {eval(text, vars(importlib.import_module(module))) for text in fixed}


def test_every_kind_of_alert_is_in_the_documentation() -> None:
    found = set().union(*(alert_kinds(path, tree) for path, tree in modules().items()))
    section = (ROOT / "docs" / "console.md").read_text().split("## Alerts")[1]
    assert set(re.findall(r"`([a-z_]+)`", section)) == found | {"dagster_gone", "gateway_gone"}


def test_the_workflow_of_github_runs_ci_on_each_python_and_on_both_databases() -> None:
    read = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github").rglob("*.y*ml")}
    job = read["ci.yaml"]["jobs"]["test"]
    least, above = re.findall(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    )[0]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(least), int(above))]
    assert job["env"]["MIDAS_TEST_DATABASES"] == "both"
    assert ({"run": ".ci/run"} in job["steps"], "postgres" in job["services"]) == (True, True)


def test_no_test_module_imports_another() -> None:
    found = [
        str(path.relative_to(TESTS))
        for path in sorted(TESTS.rglob("*.py"))
        if IMPORTED_TEST.search(path.read_text())
    ]
    assert found == []


def test_the_register_of_personal_data_names_every_column() -> None:
    """A new column: name it in `store/privacy/register.py`, with what it may hold of a person, why and how it ends."""
    declared = {table.name: {column.name for column in table.columns} for table in _tables()}
    known = {name: entry.columns for name, entry in TABLES.items()}
    assert {
        name: found for name, columns in declared.items() if (found := columns ^ known.get(name, set()))
    } == {}
    assert known.keys() == declared.keys()


def test_the_page_on_personal_data_is_what_the_register_says() -> None:
    page = (ROOT / "docs" / "personal-data.md").read_text()
    assert page == register_page(), "run `midas privacy register --markdown > docs/personal-data.md`"
    deleted = {name.upper() for name, kept in KEPT.items() if TABLES[kept.added.table.name].personal}
    assert deleted <= set(re.findall(r"MIDAS_KEEP_(\w+)_DAYS", page))


def _tables() -> list[sa.Table]:
    for path in (PACKAGE / "store" / "schema").glob("*.py"):
        importlib.import_module(f"midas_pipelines.store.schema.{path.stem}")
    return [*shop.tables.values(), *store.tables.values()]


def test_the_table_and_the_picture_of_the_benchmarks_show_what_was_measured() -> None:
    measured = json.loads(benchmarks.RESULTS.read_text())
    text = benchmarks.README.read_text()
    assert benchmarks.readme(text, measured) == text
    assert picture(measured["results"]["scale.unchanged"]) == benchmarks.PICTURE.read_text()
