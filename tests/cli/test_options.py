"""Every option that a verb reads is one that it declares, and the other way round."""

import ast
import inspect

import pytest

from mbpo.cli import build_parser, evaluate_gain, solve
from mbpo.cli import compare as compare_verb
from mbpo.cli import demo as demo_verb
from mbpo.cli import doctor as doctor_verb
from mbpo.cli import gradients as gradients_verb
from mbpo.cli import report as report_verb
from mbpo.cli import train as train_verb

MODULES = {
    "solve": solve,
    "evaluate-gain": evaluate_gain,
    "train": train_verb,
    "gradients": gradients_verb,
    "compare": compare_verb,
    "report": report_verb,
    "demo": demo_verb,
    "doctor": doctor_verb,
}


@pytest.mark.parametrize("verb", MODULES)
def test_options_read_are_options_declared(verb):
    tree = ast.parse(inspect.getsource(MODULES[verb]))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "args"
    }
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    declared = {action.dest for action in verbs.choices[verb]._actions} - {"help"}
    assert read == declared
