"""Which layer may import which, read off the source; and that help is given without JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mbpo

ROOT = Path(mbpo.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
CODE = (
    "import sys; {}; found = sorted(m for m in ('jax', 'jaxlib', 'numpy', 'equinox') if m in sys.modules);"
    "sys.exit(f'imported {{found}}' if found else 0)"
)


def imports(path: Path) -> set[str]:
    """Every module a file imports, by full name, wherever in the file; `from a import b` gives a and a.b."""
    package = ("mbpo", *path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            found |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    return found


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def offending(
    folder: str, allowed: tuple[str, ...], forbidden: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    """Imports of files under `folder` that are of this package and not allowed, or forbidden anywhere."""
    return [
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        if path.is_relative_to(ROOT / folder)
        for name in sorted(imports(path))
        if (within(name, "mbpo") and name != "mbpo" and not any(within(name, each) for each in allowed))
        or any(within(name, each) for each in forbidden)
    ]


WORLDS = ("gymnasium", "torch", "optax", "matplotlib", "jinja2", "rich")


@pytest.mark.parametrize(
    ("folder", "allowed", "forbidden"),
    [
        ("core", ("mbpo.core", "mbpo.errors"), (*WORLDS, "scipy", "control")),
        ("lqr", ("mbpo.lqr", "mbpo.core", "mbpo.errors"), WORLDS),
        (
            "report",
            (
                "mbpo.report",
                "mbpo.studies",
                "mbpo.runs",
                "mbpo.lqr",
                "mbpo.core",
                "mbpo.errors",
                "mbpo.__version__",
            ),
            (),
        ),
        ("studies", ("mbpo.studies", "mbpo.runs", "mbpo.lqr", "mbpo.core", "mbpo.errors"), WORLDS),
        (
            "environments",
            ("mbpo.environments", "mbpo.lqr", "mbpo.core", "mbpo.errors"),
            ("torch", "optax", "matplotlib", "jinja2", "rich"),
        ),
        ("deep", ("mbpo.deep", "mbpo.core", "mbpo.errors"), ("gymnasium", "torch", "matplotlib", "rich")),
        (
            "runs",
            (
                "mbpo.runs",
                "mbpo.deep",
                "mbpo.environments",
                "mbpo.presets",
                "mbpo.lqr",
                "mbpo.core",
                "mbpo.errors",
                "mbpo.__version__",
            ),
            ("matplotlib", "rich", "jinja2"),
        ),
    ],
)
def test_a_layer_imports_only_what_is_below_it(folder, allowed, forbidden):
    assert any(path.is_relative_to(ROOT / folder) for path in MODULES)
    assert offending(folder, allowed, forbidden) == []


def test_the_walker_sees_imports_of_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "lqr").mkdir()
    file = tmp_path / "lqr" / "a.py"
    file.write_text(
        "import os.path as p\ndef f():\n    from mbpo import deep\n    from ..cli import x\n    from . import y\n"
    )
    assert imports(file) == {
        "os.path",
        "mbpo",
        "mbpo.deep",
        "mbpo.cli",
        "mbpo.cli.x",
        "mbpo.lqr",
        "mbpo.lqr.y",
    }


def test_nothing_unpickles():
    assert offending("", ("mbpo",), ("pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal")) == []


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_importing_the_package_imports_no_jax():
    done = python(CODE.format("import mbpo"))
    assert done.returncode == 0, done.stderr


def test_help_imports_no_jax():
    run = """
try:
    import mbpo.cli; mbpo.cli.main(['--help'])
except SystemExit as leave:
    assert leave.code == 0
"""
    done = python(CODE.replace("; {}; ", run).format())
    assert done.returncode == 0, done.stderr
    assert "usage: mbpo" in done.stdout
