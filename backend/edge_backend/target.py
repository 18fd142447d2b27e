"""The name of an application as it is typed: `MODULE`, `MODULE:ATTR`, or `MODULE:create_app('x', n=1)`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

# What an application is called where the module alone is named: uvicorn's, gunicorn's, and what frameworks generate.
DEFAULT_ATTRIBUTES = ("app", "application", "asgi", "wsgi")

_FORMS = "use MODULE:ATTR, such as app:app"


class TargetError(ValueError):
    """The text names no application; the message says why, and what to type."""


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments with which the attribute is called to get the application."""

    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an application is. Without `names`, it is the first of `DEFAULT_ATTRIBUTES` that the module has."""

    module: str
    names: tuple[str, ...] = ()
    call: Call | None = None


def parse_target(text: str) -> Target:
    """Return what the text names. Nothing is imported, and arguments are literals: nothing is run.

    Raises TargetError.
    """
    module, colon, attribute = text.partition(":")
    if module.endswith(".py") or "/" in module:
        stem = module.removesuffix(".py").strip("./").replace("/", ".")
        raise TargetError(f"a file, not a module; use {stem}:{attribute or DEFAULT_ATTRIBUTES[0]}")
    if not _is_dotted(module):
        raise TargetError(f"not an import path; {_FORMS}")
    if not colon:
        return Target(module)
    if attribute.endswith(")"):
        return Target(module, *_parse_call(attribute))
    if not _is_dotted(attribute):
        raise TargetError(f"not an import path; {_FORMS}")
    return Target(module, tuple(attribute.split(".")))


def _parse_call(text: str) -> tuple[tuple[str, ...], Call]:
    name = text.partition("(")[0]
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise TargetError("not a call as Python writes it; use MODULE:create_app()") from None
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != name or not _is_dotted(name):
        raise TargetError("not a call of an attribute; use MODULE:create_app()")
    if any(keyword.arg is None for keyword in node.keywords):
        raise TargetError("**: arguments are literals; write each as name=value")
    arguments = tuple(_literal(item) for item in node.args)
    return tuple(name.split(".")), Call(arguments, {str(item.arg): _literal(item.value) for item in node.keywords})


def _literal(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        what = ast.unparse(node)
        raise TargetError(f"{what}: arguments are literals, such as 'text', 1, True or None") from None
    return value


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
