"""Choosing a builder by name from a dictionary, and checking its options before anything slow begins."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import NoneType
from typing import Any, Literal, TypeVar, Unpack, get_args, get_origin, get_type_hints

from hilum.errors import InputError, nearest

Entry = TypeVar("Entry")
_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def choose(kind: str, builders: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    """The builder of that name, or `package.module:name` imported from the user's own code.

    Only for recipes that a user runs: names out of a bundle are looked up in the dictionary alone (see `listed`).
    """
    if ":" not in name:
        return listed(kind, builders, name)
    module, _, attribute = name.partition(":")
    try:
        builder = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{kind} {name!r} cannot be imported ({error})", do="check the module's path and name"
        ) from error
    if not callable(builder):
        raise InputError(f"{kind} {name!r} is not a function or class", do="name something that can be called")
    return builder  # type: ignore[no-any-return]


def listed(kind: str, builders: Mapping[str, Entry], name: str) -> Entry:
    """The entry of that name in the dictionary, or InputError with the nearest name."""
    if name not in builders:
        raise InputError(f"there is no {kind} {name!r}", do=nearest(name, builders))
    return builders[name]


def check_options(kind: str, name: str, builder: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Hold options against the builder's keyword-only parameters: names and plain types. Raises InputError.

    `**options: Unpack[T]` stands for the keys of the TypedDict T; a builder with any other `**` checks its own.
    """
    parameters = inspect.signature(builder).parameters.values()
    known = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    for rest in (parameter.annotation for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD):
        if get_origin(rest) is not Unpack:
            return
        for key, hint in get_type_hints(get_args(rest)[0]).items():
            known[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
    for option, value in options.items():
        if option not in known:
            raise InputError(f"{option!r} is not an option of {kind} {name!r}", do=nearest(option, known))
        expected = _given(known[option].annotation)
        wrong = (expected is float and not _is_number(value)) or (
            expected in (int, bool, str)
            and not (isinstance(value, expected) and (expected is bool) == isinstance(value, bool))
        )
        if get_origin(expected) is Literal and value not in get_args(expected):
            advice = nearest(str(value), [str(word) for word in get_args(expected)])
            raise InputError(f"option {option!r} of {kind} {name!r} is {value!r}", do=advice)
        if get_origin(expected) is list and get_origin(word := get_args(expected)[0]) is Literal:
            unknown = [one for one in value if one not in get_args(word)] if isinstance(value, list) else [value]
            if unknown:
                advice = f"give a list of {', '.join(map(str, get_args(word)))}"
                raise InputError(f"option {option!r} of {kind} {name!r} holds {unknown[0]!r}", do=advice)
        if wrong or (get_origin(expected) is dict and not isinstance(value, Mapping)):
            raise InputError(
                f"option {option!r} of {kind} {name!r} is {value!r}",
                do=f"give {_PLAIN.get(expected, 'names with values, such as {a: 1}')}",
            )
    if missing := [p.name for p in known.values() if p.default is p.empty and p.name not in options]:
        raise InputError(f"{kind} {name!r} needs the option {missing[0]!r}", do="add it to the recipe")


def _given(annotation: Any) -> Any:
    """int of `int | None`: an option that is given is never None."""
    left = [one for one in get_args(annotation) if one is not NoneType]
    return left[0] if len(left) == 1 and NoneType in get_args(annotation) else annotation


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
