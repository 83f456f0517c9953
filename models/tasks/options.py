"""Makes a command line out of a dataclass of options: its fields are the flags.

The parser is argparse, since every command line of before has to be read as before: `--train A B C`, `--no-bf16`, the
last of two flags wins, and a value may begin with dashes (`--teacher-arguments "--epochs 2"`). Of the libraries that
read dataclasses, tyro takes no such value and tells an error in one line only by a private hook, cyclopts refuses a
flag that comes twice, jsonargparse and pydantic-settings take lists as JSON, and simple-parsing makes `--nobf16`.
"""

import argparse
import inspect
import math
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from models.tasks.errors import UsageError


@dataclass(frozen=True, slots=True)
class Flag:
    """Says of a field what its type and default do not; `Annotated` ties it to the type."""

    help: str
    name: str | None = None  # where it is not the field's
    metavar: str | tuple[str, str] | None = None
    choices: Collection[str] | None = None  # where they are not the type's
    group: str | None = None  # under which `--help` lists it
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    positional: bool = False
    repeats: bool = False  # of a tuple: the flag may come again, and its values add up


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Describes a command: the docstring is its help, and each field with a `Flag` is a flag.

    Raises, when made: UsageError.
    """

    def __post_init__(self) -> None:
        for field, _, flag in flags_of(type(self)):
            values = getattr(self, field.name)
            for value in values if isinstance(values, tuple) else (values,):
                _check_value(_name(field, flag), flag, value)
        self.check()

    def check(self) -> None:
        """Raise UsageError if options do not go together."""


OptionsT = TypeVar("OptionsT", bound=Options)


def read_options(
    options: type[OptionsT], prog: str, argv: Sequence[str] | None = None, *, epilog: str | None = None
) -> OptionsT:
    """Read a command line, by default the process's own; `--help` prints and exits. Raises: UsageError."""
    parser = _parser(options, prog, epilog=epilog)
    return options(**_values(options, parser.parse_args(argv)))


def change_options(options: OptionsT, prog: str, argv: Sequence[str]) -> OptionsT:
    """Change what a command line names and leave the rest. Raises: UsageError."""
    parser = _parser(type(options), prog, all_optional=True)
    return replace(options, **_values(type(options), parser.parse_args(argv)))


def arguments_of(options: Options) -> list[str]:
    """Return the shortest command line that `read_options` turns into these options."""
    argv: list[str] = []
    for field, kind, flag in flags_of(type(options)):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        name = () if flag.positional else (_name(field, flag),)
        if kind is bool:
            argv.append(_name(field, flag) if value else f"--no-{_name(field, flag).removeprefix('--')}")
        else:
            argv += [*name, *map(str, value if isinstance(value, tuple) else (value,))]
    return argv


def refuse_idle(options: Options, names: Collection[str], reason: str) -> None:
    """Refuse the flags of these fields where they were given: nothing reads them. `reason`: behind "do nothing".

    A flag that repeats its default is not noticed. Raises: UsageError.
    """
    given = [
        _name(field, flag)
        for field, _, flag in flags_of(type(options))
        if field.name in names and getattr(options, field.name) != field.default
    ]
    if given:
        verb, them = ("does", "it") if len(given) == 1 else ("do", "them")
        raise UsageError(f"{', '.join(given)} {verb} nothing {reason}; remove {them}")


def flags_of(options: type[Options]) -> list[tuple["Field[Any]", Any, Flag]]:
    """Return the fields that are flags, each with its type (without None) and its flag; those of groups come last.

    Any: whatever a field holds.
    """
    hints = get_type_hints(options, include_extras=True)
    flags = []
    for field in fields(options):
        if get_origin(hints[field.name]) is Annotated:
            kind, flag = get_args(hints[field.name])
            if isinstance(kind, types.UnionType):
                [kind] = [part for part in get_args(kind) if part is not types.NoneType]
            flags.append((field, kind, flag))
    return sorted(flags, key=lambda entry: entry[2].group is not None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what every other wrong input raises, where argparse would print its usage and exit."""
        raise UsageError(message)


def _parser(options: type[Options], prog: str, *, epilog: str | None = None, all_optional: bool = False) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=inspect.getdoc(options),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups: dict[str | None, argparse._ActionsContainer] = {None: parser}
    for field, kind, flag in flags_of(options):
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        keywords = _keywords(field, kind, flag) | {"help": _help(field, flag)}
        if flag.positional:
            groups[flag.group].add_argument(field.name, default=argparse.SUPPRESS, **keywords)
        else:
            required = field.default is MISSING and not all_optional
            name = _name(field, flag)
            keywords |= {"dest": field.name, "required": required}
            groups[flag.group].add_argument(name, default=argparse.SUPPRESS, **keywords)
    return parser


def _keywords(field: "Field[Any]", kind: Any, flag: Flag) -> dict[str, Any]:  # Any: types, what add_argument takes
    """Return what `add_argument` has to know of a type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction if field.default else "store_true"}
    keywords: dict[str, Any] = {"metavar": flag.metavar}
    if get_origin(kind) is tuple:
        kind, *further_kinds = get_args(kind)
        keywords["nargs"] = ("*" if flag.positional else "+") if further_kinds == [...] else 1 + len(further_kinds)
        if flag.repeats:
            keywords["action"] = "extend"
    if choices := flag.choices or (get_args(kind) if get_origin(kind) is Literal else None):
        return keywords | {"choices": choices}
    return keywords | {"type": READERS[kind]}


def _help(field: "Field[Any]", flag: Flag) -> str:
    default = field.default
    text = flag.help.replace("%", "%%")
    if default in (MISSING, None, (), "", False):
        return text
    return f"{text} (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"


def _values(options: type[Options], namespace: argparse.Namespace) -> dict[str, Any]:  # Any: what the fields hold
    """Return what a command line names; what it leaves out is not in the namespace."""
    flag_names = {field.name for field, _, _ in flags_of(options)}
    values = {name: value for name, value in vars(namespace).items() if name in flag_names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _name(field: "Field[Any]", flag: Flag) -> str:
    return flag.name or (str(flag.metavar) if flag.positional else f"--{field.name.replace('_', '-')}")


def _check_value(name: str, flag: Flag, value: Any) -> None:  # Any: numbers, where the flag has bounds
    """Raises: UsageError if a value is not among the choices, is out of range or is not a number (NaN)."""
    if value is None:
        return
    if flag.choices and value not in flag.choices:
        raise UsageError(f"{name} must be one of {', '.join(flag.choices)}, not {value}")
    lower = (flag.above, "above", gt), (flag.at_least, "at least", ge)
    bounds = (*lower, (flag.at_most, "at most", le), (flag.below, "below", lt))
    checks = [(f"{words} {bound:g}", compare(value, bound)) for bound, words, compare in bounds if bound is not None]
    if not all(is_met for _, is_met in checks):
        raise UsageError(f"{name} must be {' and '.join(words for words, _ in checks)}, not {value}")
    if isinstance(value, float) and math.isnan(value):
        raise UsageError(f"{name} must be a number, not {value}")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _path(text: str) -> Path:
    if not text.strip():  # of a shell's variable that is not set; Path would take it for the current directory
        raise argparse.ArgumentTypeError("the path is empty; name one, or leave the flag out")
    return Path(text)


READERS: Mapping[type, Callable[[str], object]] = {str: str, int: _whole_number, float: _number, Path: _path}
