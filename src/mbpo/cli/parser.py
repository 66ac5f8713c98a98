"""An argument parser whose every complaint is one sentence that names the nearest valid word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from mbpo.errors import InputError, did_you_mean

Verbs = argparse._SubParsersAction


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are `InputError`s."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` with the program and the complaint; called by argparse."""
        raise InputError(f"{self.prog}: {message.removeprefix('argument ')}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"unknown {value!r}, {did_you_mean(str(value), choices)}")

    def option_names(self) -> list[str]:
        """The long options that this parser knows."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


def add_verbs(parser: Parser) -> Verbs:
    """The place where each verb adds its own parser by `add_verb`."""
    return parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)


def add_verb(verbs: Verbs, name: str, summary: str, run: Any) -> Parser:
    """The parser of a new verb; `run` is called with the parsed arguments."""
    parser: Parser = verbs.add_parser(name, prog=f"mbpo {name}", description=summary, help=summary)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_system(parser: Parser) -> None:
    """The positional SYSTEM, shared by the verbs that work on one."""
    parser.add_argument(
        "system", metavar="SYSTEM", help="a name listed by `mbpo systems`, or the path of a TOML file"
    )


def add_json(parser: Parser) -> None:
    """The switch --json, shared by the verbs that print results."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def add_environment_options(parser: argparse._ActionsContainer) -> None:
    """What makes a Gymnasium environment the one that is meant, shared by the verbs that work on one."""
    option = parser.add_argument
    option("--env-option", metavar="KEY=VALUE", action="append", help="an argument of the task's constructor")
    option("--variant", help="a named set of such arguments, such as truncated for Ant-v5")
    option("--termination", help="how the model ends episodes: never, learned, or module:function")


def reject_unknown(args: argparse.Namespace, unknown: Sequence[str]) -> None:
    """Raise `InputError` for the first argument that the verb's parser did not know.

    Words after an option, where the verb takes a list of them, are more of that list: argparse ends it at the option.
    """
    if not unknown:
        return
    parser: Parser = args.parser
    lists = [each for each in parser._get_positional_actions() if each.nargs in ("*", "+")]
    if lists and not any(word.startswith("-") for word in unknown):
        setattr(args, lists[-1].dest, [*getattr(args, lists[-1].dest), *unknown])
        return
    word = unknown[0].split("=")[0]
    if word.startswith("-"):
        raise InputError(
            f"{parser.prog}: unknown option {word!r}, {did_you_mean(word, parser.option_names())}"
        )
    raise InputError(f"{parser.prog}: unexpected argument {word!r}")
