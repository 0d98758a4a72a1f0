"""The plugin in somebody else's repository: three lines of theirs, both tiers, and nothing where it is not used.

What is slow is faked where the subject is how an outcome is told; the whole way is gone once per tier.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from visionbench.measuring.process.side import Source
from visionbench.plugin import hooks
from visionbench.plugin.base_structure import count_base
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]

NETS = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.conv(x).relu()

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 8, 8), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""

THREE_LINES = """
import pytest

@pytest.mark.visionbench(image_size=32)
def test_my_model(visionbench):
    visionbench("user:my_pkg.nets:small")
"""

FAKES = '''
"""Counts and times without torch: a model's name says what comes of it."""

import sys
from types import ModuleType, SimpleNamespace

from visionbench.comparison.comparison import Comparison, Launch, Round, Side
from visionbench.record.statistics import Estimate
from visionbench.record.record import Environment, Failure
from visionbench.comparison.structure import Layer, Structure, Structures
from visionbench.comparison.verdict import Verdict

TREE = None


def module(name, **contents):
    sys.modules[name] = made = ModuleType(name)
    vars(made).update(contents)


def structures(specs):
    return Structures(torch="2.15", timm="1.0", rows={str(spec): structure(spec) for spec in specs})


def structure(spec):
    layers = {"block": Layer(operators={"conv": 2}, params=7)}
    totals = {"params": 7, "buffers": 0, "bytes": 0, "macs": 9, "operators": 2}
    return Structure(row=str(spec), totals=totals, layers=layers)


def two_revisions(specs, stack, base):
    side = Side(label=base, spec=specs[0])
    row = SimpleNamespace(name=str(specs[0]), side=side)
    source = SimpleNamespace(tree=TREE, repository=None)
    return SimpleNamespace(rows=(row,), sources=(source, source), title=f"{base} against here", remarks=())


def gate(rows, stage, environment, plan, rule):
    word = rows[0].side.spec.model.rpartition(":")[2].replace("_", " ")
    print("fdr", rule.fdr, "launches", plan.launches, "budget", plan.budget)
    verdict = Verdict(
        word=word, comparison=comparison(rows[0], word), ratio=Estimate(centre=1.05, low=1.04, high=1.06, launches=10)
    )
    return SimpleNamespace(verdicts=(verdict,), cut_short=False, looked_at=10)


def comparison(row, word):
    one = Round(first="baseline", baseline=0.01, candidate=0.0105, baseline_wall=0.01, candidate_wall=0.0105)
    lost = word == "not measured"
    return Comparison(
        name=row.name, baseline=row.side, candidate=row.side, timer="cpu", seed=0,
        environment=Environment(device_type="cpu"), launches=(Launch(rounds=(one,)),) * 10,
        failure=Failure(kind="timeout", stage="build", message="it hung") if lost else None,
    )


module("visionbench.tracing.structure", structures=structures)
module("visionbench.machine.environment", find_device=lambda: "cpu", describe=lambda *_: None)
module("visionbench.command.sides", two_revisions=two_revisions)
module("visionbench.judging.duet", stage=lambda device, threads, **_: SimpleNamespace(device=device, threads=threads))
module("visionbench.judging.gate", LAUNCHES=10, Plan=SimpleNamespace, drawn=lambda _: 0, gate=gate)
module("visionbench.judging.verdict", launches_needed=lambda rule: 10)
'''


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Somebody's repository, in which pytest finds our plugin where it is named and nowhere else."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p visionbench.plugin.hooks -p no:cacheprovider\n")
    return pytester


def with_net(suite: pytest.Pytester) -> Path:
    package = suite.mkpydir("my_pkg")
    (package / "nets.py").write_text(NETS)
    suite.makepyfile(test_model=THREE_LINES)
    return package / "nets.py"


def faked(suite: pytest.Pytester, *factories: str) -> None:
    """A suite of one test per factory, none of which is ever called."""
    suite.makepyfile(fakes=FAKES, zoo="")
    tests = (f"def test_{name}(visionbench):\n    visionbench('user:zoo:{name}')\n" for name in factories)
    suite.makepyfile(test_zoo="\n".join(tests))


def run(suite: pytest.Pytester, *words: str, fakes: bool = True) -> pytest.RunResult:
    return suite.runpytest_subprocess(*(("-p", "fakes") if fakes else ()), *words)


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_lines_put_a_model_under_both_tiers(suite: pytest.Pytester) -> None:
    nets = with_net(suite)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=suite.path, check=True)
    timed = ("--visionbench-base=HEAD", "--visionbench-budget=1s", "--junitxml=report.xml", "-rs", "-W", "error")
    done = run(suite, "--visionbench-update", *timed, fakes=False)
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*is inconclusive (HEAD (*1 launch*budget of 1 s*"])
    assert "user:my_pkg.nets:small@32 train b2 fp32" in (suite.path / "visionbench-structure.json").read_text()
    found = properties(suite.path / "report.xml")
    assert found["visionbench.structure"] == "written"
    assert found["visionbench.verdict"] == "inconclusive"
    assert 0.2 < float(found["visionbench.ratio"]) < 5
    listed = subprocess.run(["git", "worktree", "list"], cwd=suite.path, capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1, "the base's work tree is gone"

    nets.write_text(NETS.replace("self.conv(x).relu()", "self.conv(x).relu().sigmoid()"))
    done = run(suite, "--junitxml=report.xml", "-W", "error", fakes=False)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "the structure is not that of visionbench-structure.json:",
            "*{1,2}: sigmoid 0 -> 1 each (2 layers)",
            "*--visionbench-update*",
        ]
    )
    done.stdout.no_fnmatch_line("*plugin_tiers.py*")
    found = properties(suite.path / "report.xml")
    assert found["visionbench.structure"] == "changed"
    assert found["visionbench.params"] == str(3 * 8 * 64 + 8 + 2 * (64 + 8))


def properties(report: Path) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in ET.parse(report).iter("property")}


# --- how an outcome is told -------------------------------------------------------------------------------------------

VERDICTS = ("ok", "improved", "regressed", "inconclusive", "not_measured")


def test_each_verdict_is_an_ordinary_outcome(suite: pytest.Pytester) -> None:
    faked(suite, *VERDICTS)
    done = run(suite, "--visionbench-update", "--visionbench-base=main", "--junitxml=report.xml", "-rs")
    done.assert_outcomes(passed=2, failed=1, skipped=1, errors=1)
    done.stdout.fnmatch_lines(
        [
            "*user:zoo:not_measured@224 inference b1 fp32 is not measured (main against here)*",
            "*both sides: * in stage 'build': it hung*",
            "*user:zoo:regressed@224 inference b1 fp32 is regressed (main against here): 5.0 % slower [[]4.0, 6.0]*",
            "*Whether its structure is the base's is unknown: the base has no tree*",
        ]
    )
    done.stdout.fnmatch_lines(["SKIPPED*user:zoo:inconclusive@224 inference b1 fp32 is inconclusive*"])
    told = {case.attrib["name"]: [part.tag for part in case if part.tag in ("failure", "error", "skipped")]
            for case in ET.parse(suite.path / "report.xml").iter("testcase")}  # fmt: skip
    assert told == {
        "test_ok": [], "test_improved": [], "test_regressed": ["failure"], "test_inconclusive": ["skipped"],
        "test_not_measured": ["error"],
    }  # fmt: skip


def test_the_summary_shows_every_verdict_also_of_what_passed(suite: pytest.Pytester) -> None:
    faked(suite, *VERDICTS)
    done = run(suite, "--visionbench-update", "--visionbench-base=main")
    done.stdout.fnmatch_lines(
        [
            "*= visionbench =*",
            "user:zoo:ok@224 inference b1 fp32: ok, 5.0 % slower [[]4.0, 6.0]; *; 10 launches",
            "user:zoo:improved@224*: improved,*",
            "user:zoo:regressed@224*: regressed,*",
            "user:zoo:inconclusive@224*: inconclusive,*",
            "user:zoo:not_measured@224*: not measured*",
        ]
    )
    run(suite).stdout.no_fnmatch_line("*= visionbench =*")


@pytest.mark.slow
def test_a_function_may_stand_for_its_name(suite: pytest.Pytester) -> None:
    suite.makepyfile(fakes=FAKES, zoo="class Nets:\n    @staticmethod\n    def ok(): ...\n\ndef ok(): ...\n")
    models = {
        "named": "zoo.ok, image_size=48",
        "method": "zoo.Nets.ok",
        "lambda": "lambda: None",
        "number": "list(range(999))",
    }
    tests = (f"def test_{name}(visionbench):\n    visionbench({model})\n" for name, model in models.items())
    suite.makepyfile(test_zoo="import zoo\n\n" + "\n".join(tests))
    done = run(suite, "--visionbench-update", "--visionbench-base=main")
    done.assert_outcomes(passed=1, failed=1, errors=2)  # what no other process can find is counted, and not timed
    done.stdout.fnmatch_lines(["user:zoo:ok@48*: ok,*"])
    done.stdout.fnmatch_lines(["the base cannot build an object of this process, so it was not timed: hand over a *"])
    done.stdout.fnmatch_lines(["visionbench takes a network, a function that *, and not an object of type list."])
    baseline = (suite.path / "visionbench-structure.json").read_text()
    assert all(f"user:test_zoo:test_{name}@224" in baseline for name in ("method", "lambda"))


def test_networks_of_equally_named_tests_do_not_share_a_row_of_the_baseline() -> None:
    config = SimpleNamespace(stash=pytest.Stash())

    def names(test: str, networks: int = 1) -> list[str]:
        request = SimpleNamespace(
            node=SimpleNamespace(nodeid=f"tests/test_a.py::{test}"),
            module=SimpleNamespace(__name__="tests.test_a"),
            config=config,
        )
        numbers = itertools.count(1)
        return [hooks._name(lambda: None, request, numbers)[0] for _ in range(networks)]  # type: ignore[arg-type]

    assert names("TestA::test_net", 2) == ["user:tests.test_a:TestA_test_net", "user:tests.test_a:TestA_test_net_2"]
    assert names("TestA::test_net") == ["user:tests.test_a:TestA_test_net"], "a test that is run again"
    assert names("TestB::test_net") == ["user:tests.test_a:TestB_test_net"]
    assert names("test_net[a-b]") == ["user:tests.test_a:test_net_a_b"]
    said = r"the networks of .*test_net\[a-b\] and .*test_net\[a_b\] both user:tests.test_a:test_net_a_b: give"
    with pytest.raises(pytest.fail.Exception, match=said):
        names("test_net[a_b]")


def test_under_strict_doubt_is_a_failure(suite: pytest.Pytester) -> None:
    faked(suite, "ok", "inconclusive")
    done = run(suite, "--visionbench-update", "--visionbench-base=main", "--visionbench-strict")
    done.assert_outcomes(passed=1, failed=1)


BASE = """
from visionbench.record.errors import BenchError

def count_base(source, specs):
    {}

module("visionbench.plugin.base_structure", count_base=count_base)
"""


@pytest.mark.parametrize(
    ("base", "lines"),
    [
        (
            "return replace_params(structures(specs))",
            ["*otherwise than the base's:", "*params 5 * 7", "*block: params 5 -> 7"],
        ),
        ("return structures(specs)", ["*Its structure is the base's: the same operators*"]),
        ("raise BenchError('the base has no such model.')", ["*is unknown: the base has no such model."]),
    ],
)
def test_a_regression_says_what_changed_since_the_base(base: str, lines: list[str], suite: pytest.Pytester) -> None:
    faked(suite, "regressed")
    changed = """
def replace_params(rows):
    for row in rows.rows.values():
        row.totals["params"] = 5
        row.layers["block"] = Layer(operators={"conv": 2}, params=5)
    return rows
"""
    suite.makepyfile(fakes=FAKES + changed + BASE.format(base))
    done = run(suite, "--visionbench-update", "--visionbench-base=main")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(lines)


@pytest.mark.slow
def test_the_base_is_counted_in_its_own_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, channels in (("base", 8), ("here", 16)):
        package = tmp_path / name / "counted_pkg"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(NETS.replace("3, 8, 8, 8", f"3, {channels}, 8, 8"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    spec = Spec(model="user:counted_pkg:absent", image_size=32)
    source = Source(tree=tmp_path / "base", repository=tmp_path / "here")
    with pytest.raises(BenchError, match="the base's structure cannot be counted"):
        count_base(source, [spec])
    rows = count_base(source, [replace(spec, model="user:counted_pkg:small")]).rows
    assert [row.totals["params"] for row in rows.values()] == [3 * 8 * 64 + 8 + 2 * (64 + 8)]


def test_the_false_alarms_that_a_gate_may_make_are_shared_out_among_the_models(suite: pytest.Pytester) -> None:
    faked(suite, *VERDICTS)
    done = run(suite, "--visionbench-update", "--visionbench-base=main", "--visionbench-budget=2m", "-s")
    done.stdout.fnmatch_lines(["*fdr 0.01 launches 10 budget 120.0*"])


def test_no_timing_without_a_base(suite: pytest.Pytester) -> None:
    faked(suite, "regressed")
    done = run(suite, "--visionbench-update", "--junitxml=report.xml")
    done.assert_outcomes(passed=1)
    assert "visionbench.verdict" not in properties(suite.path / "report.xml")


# --- the baseline -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_without_a_baseline_fails_and_says_how_to_write_one(suite: pytest.Pytester) -> None:
    faked(suite, "first", "second")
    done = run(suite)
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["there is no baseline *visionbench-structure.json: *`pytest --visionbench-update`*"])
    run(suite, "--visionbench-update", "-k", "first").assert_outcomes(passed=1)
    done = run(suite)
    done.assert_outcomes(passed=1, failed=1)
    lines = ["visionbench-structure.json has no such row:", "*user:zoo:second@224*", "*--visionbench-update*"]
    done.stdout.fnmatch_lines(lines)
    run(suite, "--visionbench-update", "-k", "second").assert_outcomes(passed=1)
    run(suite).assert_outcomes(passed=2)


@pytest.mark.slow
@pytest.mark.parametrize("older", ["structure.json", "perf/structure.json"])
def test_a_baseline_of_an_older_name_goes_on_being_used(suite: pytest.Pytester, older: str) -> None:
    faked(suite, "net")
    run(suite, "--visionbench-update").assert_outcomes(passed=1)
    new, old = suite.path / "visionbench-structure.json", suite.path / older
    old.parent.mkdir(exist_ok=True)
    new.rename(old)
    run(suite).assert_outcomes(passed=1)
    run(suite, "--visionbench-update").assert_outcomes(passed=1)
    assert not new.exists()


@pytest.mark.slow
def test_a_baseline_of_other_releases_is_an_error_and_no_regression(suite: pytest.Pytester) -> None:
    faked(suite, "net")
    run(suite, "--visionbench-update")
    path = suite.path / "visionbench-structure.json"
    path.write_text(path.read_text().replace('"torch": "2.15"', '"torch": "2.6"'))
    done = run(suite)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*counted with torch 2.6 *--visionbench-update*"])
    run(suite, "--visionbench-update").assert_outcomes(passed=1)
    run(suite).assert_outcomes(passed=1)


def test_the_ini_file_names_the_baseline_and_the_rootdir_is_where_models_come_from(suite: pytest.Pytester) -> None:
    suite.makeini(
        "[pytest]\nvisionbench_baseline = kept/nets.json\n"
        "addopts = -p visionbench.plugin.hooks --import-mode=importlib\n"
    )
    faked(suite)
    suite.mkpydir("zoo_of_mine")
    below = suite.mkdir("below")
    (below / "test_here.py").write_text(
        "import os, sys\n"
        "def test_it(visionbench):\n"
        "    before = os.getcwd(), list(sys.path)\n"
        "    visionbench('user:zoo_of_mine:net')\n"
        "    assert (os.getcwd(), sys.path) == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "fakes", "--visionbench-update"],
        cwd=below, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{fakes_alone(suite)}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (suite.path / "kept" / "nets.json").exists()


def fakes_alone(suite: pytest.Pytester) -> Path:
    """A folder with the fakes and nothing of the suite, so that its modules are not found by accident."""
    folder = suite.mkdir("elsewhere")
    (suite.path / "fakes.py").rename(folder / "fakes.py")
    return folder


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    "a word that is a number": ("task=3", "user:zoo:net", "*no task '3'*mend the marker*"),
    "a second model": ("model='user:zoo:other'", "user:zoo:net", "*no setting model*mend the marker*"),
    "a setting that there is not": ("image_sise=64", "user:zoo:net", "*image_sise*mend the marker*"),
    "a value that is none": ("precision='fp8'", "user:zoo:net", "*no precision 'fp8'*"),
    "a setting without a name": ("64", "user:zoo:net", "*settings by name*"),
    "a model that there is not": ("", "user:nowhere:net", "*cannot import 'nowhere'*"),
    "a name that is none": ("", "zoo.net:net", "*a factory of your own is user:*"),
}


def test_a_mistake_is_one_sentence(suite: pytest.Pytester) -> None:
    faked(suite)
    tests = (
        f"@pytest.mark.visionbench({marker})\ndef test_{number}(visionbench):\n    visionbench({model!r})\n"
        for number, (marker, model, _) in enumerate(MISTAKES.values())
    )
    called = "\ndef test_call(visionbench):\n    visionbench('user:zoo:net', image_sise=64)\n"
    suite.makepyfile(test_zoo="import pytest\n" + "\n".join(tests) + called)
    done = run(suite)
    done.assert_outcomes(failed=len(MISTAKES) + 1)
    done.stdout.fnmatch_lines([sentence for *_, sentence in MISTAKES.values()])
    done.stdout.fnmatch_lines(["*no setting image_sise: mend the marker, or the call*"])
    done.stdout.no_fnmatch_line("*Error*raise*")


def test_a_time_that_is_none_is_told_before_any_test(suite: pytest.Pytester) -> None:
    done = run(suite, "--visionbench-budget=3x", fakes=False)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--visionbench-budget: a time is needed*"])


@pytest.mark.parametrize("option", ["--visionbench-base=main", "--visionbench-update"])
@pytest.mark.parametrize("side", ["parent", "worker"])
def test_processes_beside_each_other_are_refused(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str, side: str
) -> None:
    suite.makepyfile(spread="def pytest_addoption(parser):\n    parser.addoption('--dist', default='no')\n")
    if side == "worker":
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    done = run(suite, "-p", "spread", *(["--dist=load"] if side == "parent" else []), option, fakes=False)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{option.partition('=')[0]}: *leave pytest-xdist's -n away*"])


# --- where it is not used ---------------------------------------------------------------------------------------------


def test_a_suite_that_does_not_use_it_pays_nothing(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        """
        import sys

        def pytest_unconfigure(config):
            names = "torch timm numpy scipy pandas rich visionbench.reports visionbench.models"
            heavy = set(names.split()) & set(sys.modules)
            ours = sorted(name for name in sys.modules if name.split(".")[0] == "visionbench")
            print("loaded:", sorted(heavy), ours)
        """
    )
    suite.makepyfile(test_theirs="def test_theirs(): pass")
    done = run(suite, fakes=False)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["loaded: [[]] [[]'visionbench', 'visionbench.plugin', 'visionbench.plugin.hooks']"])


@pytest.mark.parametrize("also", [(), ("-p", "visionbench.plugin.hooks"), ("-p", "visionbench"), ("-p", "theirs")])
def test_the_plugin_is_loaded_once_however_often_it_is_named(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, also: tuple[str, ...]
) -> None:
    installed = suite.mkdir("visionbench-9.9.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: visionbench\nVersion: 9.9\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nvisionbench = visionbench.plugin.hooks\n")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    suite.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    suite.makepyfile(theirs="pytest_plugins = ['visionbench.plugin.hooks']")
    done = run(suite, *also, "--markers", fakes=False)
    assert done.ret == 0, done.stderr.str()
    assert sum("@pytest.mark.visionbench" in line for line in done.outlines) == 1


def test_the_entry_point_is_the_plugin() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"visionbench": "visionbench.plugin.hooks"}
