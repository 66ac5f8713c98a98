"""The documentation against the program: commands parse, outputs are what is printed, nothing public is left out."""

import contextlib
import dataclasses
import io
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import mbpo
from mbpo.cli import VERBS, build_parser, execute
from mbpo.cli.parser import reject_unknown
from mbpo.errors import InputError
from mbpo.lqr import algorithms
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.optimum import solve
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.toml_file import from_table
from mbpo.studies.gradients import Measured
from synthetic_runs import synthetic_training

ROOT = Path(mbpo.__file__).parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}
README = PAGES["README.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
NOISE = 1e-12  # below this a number is round-off, such as a residual


def blocks(*languages):
    return [
        (page, body)
        for page, text in PAGES.items()
        for name, body in FENCE.findall(text)
        if name in languages
    ]


def command(line):
    """The arguments of a line that calls `mbpo`, else None."""
    words = shlex.split(line.removeprefix("$ "))
    return words[1:] if words and Path(words[0]).name == "mbpo" else None


CALLS = {"console": re.compile(r"\$ (?:\S*/)?mbpo "), "sh": re.compile(r"(?:\S*/)?mbpo ")}
COMMANDS = [
    (page, line)
    for language, call in CALLS.items()
    for page, body in blocks(language)
    for line in body.splitlines()
    if call.match(line)
]
SESSIONS = [(page, *body.removeprefix("$ ").split("\n", 1)) for page, body in blocks("console")]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_parses(page, line):
    args, unknown = build_parser().parse_known_args(command(line))
    reject_unknown(args, unknown)


def test_commands_of_every_page_are_found():
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/your-own-system.md", "docs/run-folder.md"}
    assert len(SESSIONS) >= 5


@pytest.mark.parametrize(("page", "line", "shown"), SESSIONS)
def test_every_output_is_what_the_command_prints(page, line, shown, tmp_path, monkeypatch):
    for _, body in blocks("toml"):
        (tmp_path / body.split()[1]).write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert execute(command(line)) == 0
    actual = printed.getvalue()
    assert NUMBER.sub("#", actual).split() == NUMBER.sub("#", shown).split()
    for ours, theirs in zip(NUMBER.findall(actual), NUMBER.findall(shown), strict=True):
        assert float(theirs) == pytest.approx(float(ours), rel=1e-5, abs=NOISE)


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page):
    links = [each for each in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if "://" not in each]
    assert links or page not in ("README.md", "docs/index.md")
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_setting_of_fast_is_in_its_table():
    from mbpo.cli.presets import _shown
    from mbpo.presets import FAST

    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGES["docs/fast.md"], re.MULTILINE))
    assert rows == {name: _shown(value) for name, value in FAST.items()}


def test_the_index_lists_every_page():
    for page in PAGES:
        assert page in ("README.md", "docs/index.md") or f"({Path(page).name})" in PAGES["docs/index.md"]


def test_every_key_of_a_system_is_documented():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["docs/your-own-system.md"], re.MULTILINE)
    assert sorted(rows) == sorted(LinearQuadratic.__dataclass_fields__)


def test_every_verb_and_option_is_in_the_readme():
    verbs = [each.__name__.removeprefix("add_").replace("_", "-") for each in VERBS]
    listed = re.findall(r"^\| `mbpo ([a-z-]+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(verbs)
    train = build_parser().parse_args(["train", "x", "--transitions", "1"]).parser
    for option in train.option_names():
        assert option == "--help" or option in README


def test_every_algorithm_is_documented():
    for page in ("README.md", "docs/what-mbpo-is.md"):
        rows = re.findall(r"^\| `([a-z-]+)`[^|]*\|", PAGES[page], re.MULTILINE)
        assert set(rows) >= set(algorithms.NAMED)
    assert set(algorithms.ALGORITHMS) == set(algorithms.NAMED) | set(ESTIMATORS)


def test_every_estimator_is_documented():
    family = PAGES["docs/gradients.md"].split("## The family")[1].split("## ")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", family, re.MULTILINE) == list(ESTIMATORS)


def test_the_bench_is_documented():
    page = PAGES["docs/gradients.md"]
    for field in dataclasses.fields(Measured):
        name = {"expected": "closed_form_mean", "max_z_expected": "max_z_closed_form"}.get(
            field.name, field.name
        )
        shown = {"effective_fraction": "effective_sample_fraction"}.get(name, name)
        assert shown in ("name", "summary", "data", "note", "mean", "standard_error", "cosine") or any(
            f"`{each}`" in page for each in (shown, "relative_*" if shown.startswith("relative") else shown)
        ), shown
    parser = build_parser().parse_args(["gradients", "x"]).parser
    for option in parser.option_names():
        assert option in ("--help", "--json", "--seed", "--episodes") or f"`{option}" in page, option


def test_the_constants_shown_are_those_of_the_code():
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+) \|", PAGES["docs/linear-quadratic.md"], re.MULTILINE)
    assert len(rows) >= 7
    assert dict(rows) == {name: str(getattr(algorithms, name)) for name, _ in rows}


def test_every_json_key_of_train_is_documented():
    section = PAGES["docs/run-folder.md"].split("### `train`")[1]
    for key, value in synthetic_training().to_json().items():
        assert f"`{key}`" in section
        for inner in value if isinstance(value, dict) else ():
            assert f"`{inner}`" in section


def refusal_rows():
    section = PAGES["docs/linear-quadratic.md"].split("| change | refusal |")[1].split("\n\n")[0]
    for row in section.splitlines()[2:]:
        change, sentence = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:3])
        yield change, sentence.replace("\\|", "|")


def test_every_refusal_is_the_one_shown():
    (example,) = (body for _, body in blocks("toml") if body.startswith("# mine.toml"))
    base = tomllib.loads(example)
    solve(from_table(base, "mine.toml", "mine"))
    before, rows = {}, list(refusal_rows())
    assert len(rows) >= 8
    for change, sentence in rows:
        table = dict(before) if change.startswith("the same") else dict(base)
        table |= tomllib.loads("\n".join(re.findall(r"`([^`]+)`", change)))
        before = table
        with pytest.raises(InputError) as refused:
            solve(from_table(table, "mine.toml", "mine"))
        assert str(refused.value).removeprefix("mine.toml: ") == sentence


def test_nothing_names_a_machine():
    for page, text in PAGES.items():
        assert not re.search(r"(^|[\s\"'(=])/(home|root|work|tmp|Users)\b", text), page
