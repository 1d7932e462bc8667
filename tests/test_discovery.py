"""What a newcomer finds by dir(), help() and the docstrings."""

import ast
import doctest
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gdlayer
from gdlayer import related

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (gdlayer, related)
    for name in module.__all__
    if name != "__version__"
}
everything_public = pytest.mark.parametrize("thing", PUBLIC.values(), ids=PUBLIC.keys())


def test_dir_lists_the_public_names_without_importing_them():
    code = "import sys, gdlayer; assert set(gdlayer.__all__) <= set(dir(gdlayer)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plumbing_knows_nothing_of_what_stands_on_it():
    folder = Path(gdlayer.__file__).parent / "_plumbing"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gdlayer"):
                assert str(node.module).startswith("gdlayer._plumbing."), path.name


def test_private_names_of_torch_are_those_without_a_public_way():
    sources = [path.read_text("utf-8") for path in Path(gdlayer.__file__).parent.rglob("*.py")]
    private = re.compile(r"\btorch(?:\.\w+)*?\._(?!_)\w+|from torch[\w.]* import .*\b_[A-Za-z]\w*")
    assert {name for source in sources for name in private.findall(source)} == {"torch._C", "torch._subclasses"}


def test_help_lists_the_public_names():
    text = pydoc.render_doc(gdlayer, renderer=pydoc.plaintext)  # type: ignore[reportAttributeAccessIssue]
    for name in {*gdlayer.__all__} - {"__version__"}:
        assert name in text, name


@everything_public
def test_docstrings_open_with_an_example_and_speak_before_they_calculate(thing):
    summary, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    assert "math" not in summary
    example = rest.index(">>> ")
    assert all(example < rest.find(later) for later in (".. math::", "Parameters\n---") if later in rest)


@everything_public
def test_examples_run(thing):
    module = sys.modules[thing.__module__]
    tests = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, module=module, globs={})
    assert tests
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
