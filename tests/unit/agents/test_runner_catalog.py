"""The catalog: built-in runners, installed entry points, and the setting, loaded lazily."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest
from assignments import PlainAssignment

from baton.agents.catalog import load_runners
from baton.agents.function import FunctionRunner
from baton.agents.offline import OfflineRunner
from baton.errors import RunnerError, RunnerNotFoundError, SettingsError

WORK = PlainAssignment("go", "text")

MODULE = """
    from baton.agents.runner import RunnerResult

    loads = []

    def shout(assignment):
        return assignment.context.upper()

    class Whisper:
        name = "whisper"

        def __init__(self):
            loads.append(self)

        def run(self, assignment):
            return RunnerResult(assignment.context.lower())

    class Demanding:
        name = "demanding"

        def __init__(self, key):
            self.key = key

        def run(self, assignment):
            return RunnerResult(self.key)

    class Tools:
        quiet = Whisper()

    number = 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of runners on the path, under a name of its own."""
    name = "catalog_runners"
    (tmp_path / f"{name}.py").write_text(dedent(MODULE))
    (tmp_path / "catalog_broken.py").write_text("raise ZeroDivisionError('at import')\n")
    (tmp_path / "catalog_leaving.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for loaded in (name, "catalog_broken", "catalog_leaving"):
        sys.modules.pop(loaded, None)


def install(folder, package, lines):
    """Lay out an installed package that declares entry points, as pip would."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[baton.runners]\n" + "\n".join(lines) + "\n")


def test_catalog_has_the_offline_runner():
    """With nothing configured there is the offline runner, one object for all."""
    catalog = load_runners({})
    assert "offline" in catalog.names()
    assert isinstance(catalog.get("offline"), OfflineRunner)
    assert catalog.get("offline") is catalog.get("offline")


def test_catalog_refuses_an_unknown_name_and_lists_the_known():
    """A name from outside is looked up, never imported."""
    with pytest.raises(RunnerNotFoundError, match=r"No runner is called 'os:system'.*offline"):
        load_runners({"mine": "a:b"}).get("os:system")


def test_catalog_loads_functions_classes_and_instances_of_the_setting(module):
    """Each kind of target becomes a runner under the setting's name."""
    catalog = load_runners(
        {
            "shout": f"{module}:shout",
            "whisper": f"{module}:Whisper",
            "quiet": f"{module}:Tools.quiet",
        }
    )
    assert isinstance(catalog.get("shout"), FunctionRunner)
    assert catalog.get("shout").run(WORK).content == "TEXT"
    assert catalog.get("whisper").run(WORK).content == "text"
    assert catalog.get("quiet").run(WORK).content == "text"


def test_catalog_loads_entry_points(module, tmp_path):
    """Runners of installed packages are found by the name their package gave them."""
    install(tmp_path, "shouting", [f"shout = {module}:shout", f"hush = {module}:Whisper"])
    catalog = load_runners({})
    assert {"shout", "hush", "offline"} <= set(catalog.names())
    assert catalog.get("shout").run(WORK).content == "TEXT"
    assert catalog.get("hush").run(WORK).content == "text"


def test_catalog_lets_the_setting_win_over_entry_point_and_built_in(module, tmp_path):
    """The same name in setting, package and Baton is what the setting says."""
    install(tmp_path, "rival", [f"offline = {module}:Whisper", f"shout = {module}:Whisper"])
    catalog = load_runners({"shout": f"{module}:shout"})
    assert catalog.get("shout").run(WORK).content == "TEXT"
    assert catalog.get("offline").name == "whisper"


def test_catalog_loads_each_runner_once_and_only_when_asked(module):
    """Making the catalog imports nothing; asking twice gives the same runner."""
    catalog = load_runners({"whisper": f"{module}:Whisper"})
    assert module not in sys.modules
    assert catalog.get("whisper") is catalog.get("whisper")
    assert len(sys.modules[module].loads) == 2  # its own `Tools.quiet`, and this one


def test_catalog_keeps_a_broken_runner_from_the_others(module, tmp_path):
    """One that fails to import says why when asked for; the rest work."""
    install(tmp_path, "broken", ["broken = catalog_broken:run", f"good = {module}:shout"])
    catalog = load_runners({})
    with pytest.raises(RunnerError, match=r"catalog_broken:run.*ZeroDivisionError: at import"):
        catalog.get("broken")
    assert catalog.get("good").run(WORK).content == "TEXT"


def test_catalog_refuses_packages_that_disagree_about_a_name(module, tmp_path):
    """Two packages with one name are named both; a setting decides between them."""
    install(tmp_path, "first", [f"voice = {module}:shout"])
    install(tmp_path, "second", [f"voice = {module}:Whisper"])
    with pytest.raises(
        RunnerError, match=r"Whisper and as .*:shout; choose one in BATON_RUNNER_FUNCTIONS"
    ):
        load_runners({}).get("voice")
    chosen = load_runners({"voice": f"{module}:shout"})
    assert chosen.get("voice").run(WORK).content == "TEXT"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module:run", "ModuleNotFoundError"),
        ("catalog_runners:absent", "AttributeError"),
        ("catalog_runners:Demanding", "TypeError"),
        ("catalog_runners:number", "expected a function or a Runner, got int"),
        ("catalog_leaving:run", "SystemExit: 3"),
    ],
)
def test_catalog_says_why_a_target_cannot_be_loaded(module, target, reason):
    """A well-formed target that leads nowhere raises RunnerError with the cause, when asked for."""
    catalog = load_runners({"mine": target})
    with pytest.raises(RunnerError, match=f"Runner mine failed.*{reason}"):
        catalog.get("mine")


@pytest.mark.parametrize(
    "target", ["", "module", "module:", ":run", "a/b:run", "m:f()", "m:f g", 7]
)
def test_catalog_refuses_a_malformed_target_at_once(target):
    """A target that is not `module:function` fails where the setting is read."""
    with pytest.raises(
        SettingsError, match="BATON_RUNNER_FUNCTIONS: expected module:function for mine"
    ):
        load_runners({"mine": target})


def test_catalog_lists_built_in_runners_and_opens_them_when_asked(module):
    """One that cannot be opened is listed all the same, says why, and may be opened later."""
    opened = []

    def open_once():
        opened.append(1)
        if len(opened) == 1:
            raise SettingsError("BATON_KEY", "a key", "<unset>")
        return OfflineRunner()

    catalog = load_runners({}, built_in={"model": open_once})
    assert "model" in catalog.names()
    assert opened == []
    with pytest.raises(SettingsError, match="BATON_KEY"):
        catalog.get("model")
    assert catalog.get("model") is catalog.get("model")
    assert len(opened) == 2


def test_catalog_lets_the_setting_win_over_a_built_in_that_needs_services(module):
    """As over any other."""
    catalog = load_runners({"model": f"{module}:shout"}, built_in={"model": OfflineRunner})
    assert isinstance(catalog.get("model"), FunctionRunner)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "новый\n"])
def test_catalog_refuses_a_malformed_name(name):
    """A name that no task could carry fails where the setting is read."""
    with pytest.raises(SettingsError, match="BATON_RUNNER_FUNCTIONS: expected names"):
        load_runners({name: "module:function"})
