"""Help, start-up, files and the drawing of trees: what of the command needs no server."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from baton.cli.escaping import escape, escape_line
from baton.cli.files import read_context, write_whole
from baton.cli.main import app
from baton.cli.output import duration, show_json, size
from baton.cli.tree import NodeTree
from baton.errors import InvalidInputError
from baton.handoff.outcome import NodeRecord

GROUPS = {
    "context": [
        *("put", "append", "get", "read", "list", "show", "history", "collect", "freeze", "delete"),
        *("diff", "rollback", "fork", "merge", "conflicts", "resolve"),
        *("tag", "untag", "tags", "checkpoint", "checkpoints", "resume", "export", "import"),
    ],
    "audit": ["show", "verify", "export", "seal"],
    "keys": ["create", "list", "rotate"],
    "archive": ["run", "search", "restore", "list", "purge", "verify", "backup", "reindex"],
    "lifecycle": ["status", "sweep", "hold", "release", "durations"],
    "handoff": ["submit", "show", "watch", "list", "result", "retry", "cancel", "validate"],
}
COMMANDS = [
    *(["run"], ["up"], ["agents"], ["status"]),
    *([group] for group in GROUPS),
    *([group, name] for group, names in GROUPS.items() for name in names),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_the_exit_codes(command):
    """Every command's help ends with an example of itself and its exit codes."""
    shown = CliRunner().invoke(app, [*command, "--help"], prog_name="baton")
    assert shown.exit_code == 0
    assert f"baton {' '.join(command)}" in shown.output.partition("Example")[2]
    assert "2    wrong usage or input" in shown.output
    assert ("--json" in shown.output) == (command[-1] not in GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands_and_nothing_else(group):
    """Commands that several modules bring stand in one list, none of them twice."""
    shown = CliRunner().invoke(app, [group, "--help"], prog_name="baton").output
    listed = shown.partition("Commands:")[2].partition("Example")[0]
    names = [line.split()[0] for line in listed.splitlines() if line.strip()]
    assert names == GROUPS[group]


def test_help_and_context_commands_import_no_celery():
    """Help loads neither Redis nor Celery; `context` loads no Celery."""
    code = """
import sys
from typer.testing import CliRunner
from baton.cli.main import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
assert not {"celery", "redis", "pydantic_settings", "rich.live"} & set(sys.modules)
assert CliRunner().invoke(app, ["context", "--help"]).exit_code == 0
assert not {"celery", "rich.live"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_is_told():
    """`baton --version` prints the installed version."""
    assert CliRunner().invoke(app, ["--version"]).output.startswith("baton 0.")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb\rc", "a\nb\\x0dc"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\udcff", "\\udcff"),
        ("Привет \U0001f642", "Привет \U0001f642"),
    ],
)
def test_escape_leaves_a_terminal_nothing_to_obey(text, shown):
    """Control characters, direction marks and lone surrogates become visible, text stays."""
    assert escape(text) == shown


def test_escape_line_is_one_line_of_the_length_asked_for():
    """Line ends become spaces, and what is too long is cut."""
    assert escape_line(" a\n b\tc ") == "a b c"
    assert escape_line("x" * 20, 10) == "xxxxxxx..."


def test_json_is_ascii_whatever_it_holds(capsys):
    """No encoding of standard output can spoil it, and no character of it acts on a terminal."""
    show_json({"text": "\x1b[2J Привет \U0001f642"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert json.loads(shown) == {"text": "\x1b[2J Привет \U0001f642"}


def test_one_file_is_a_context_as_it_is(tmp_path):
    """A single file gets no heading and no line end."""
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo")
    assert read_context([str(tmp_path / "a.txt")], "--context", 100) == "one\r\ntwo"


def test_several_files_stand_under_their_names(tmp_path, monkeypatch):
    """Each file follows a heading line with its name, a blank line between, in the order given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two\n")
    assert read_context(["b.md", "a.md"], "--context", 100) == "# b.md\n\ntwo\n\n# a.md\n\none\n"


def test_write_whole_keeps_the_files_mode_and_leaves_no_other(tmp_path):
    """An existing file keeps its permissions; a folder that is missing is told."""
    target = tmp_path / "out.txt"
    target.write_bytes(b"before")
    target.chmod(0o640)
    write_whole(target, b"after")
    assert target.read_bytes() == b"after"
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InvalidInputError, match="No such file"):
        write_whole(tmp_path / "none" / "out.txt", b"")


def test_sizes_and_durations_are_for_people():
    """Units grow with the amount."""
    assert [size(n) for n in (0, 1023, 1536, 10 << 20)] == ["0 B", "1023 B", "1.5 KiB", "10.0 MiB"]
    assert [duration(s) for s in (0.816, 12.34, 65.4)] == ["0.82 s", "12.3 s", "1 min 05 s"]
    assert [duration(s) for s in (7_260, 86_400, 259_200)] == [
        "2 h 01 min",
        "24 h 00 min",
        "3.0 days",
    ]


def node(node_id: str, state: str) -> NodeRecord:
    return NodeRecord(node_id=node_id, instruction=f"task {node_id}", runner="r", state=state)


def drawn(tree: NodeTree, most_nodes: int) -> list[str]:
    console = Console(file=StringIO(), width=80, markup=False)
    console.print(tree.draw(elapsed_seconds=None, most_nodes=most_nodes))
    return console.file.getvalue().splitlines()


def test_a_tree_that_does_not_fit_shows_what_matters():
    """Running and failed nodes come first, with their parents; the rest is counted."""
    tree = NodeTree("handoff_1")
    children = [node(f"0.{number}", "ok") for number in range(50)]
    tree.load([node("0", "suspended"), *children, node("1", "waiting"), node("2", "failed")])
    tree.load([*tree._nodes.values(), node("3", "suspended"), node("3.0", "leased")])
    title, *lines = drawn(tree, most_nodes=3)
    assert "51 of 55 nodes ended" in title
    assert [line.partition(" task ")[2] for line in lines[:-1]] == ["2", "3", "3.0"]
    assert "and 52 more: 1 waiting, 1 waits for its children, 50 ok" in lines[-1]
