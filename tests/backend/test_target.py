"""What the name of an application may look like."""

from __future__ import annotations

import pytest

from edge_backend.target import Call, Target, TargetError, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("shop", Target("shop")),
        ("shop.web", Target("shop.web")),
        ("shop:app", Target("shop", ("app",))),
        ("shop.web:site.app", Target("shop.web", ("site", "app"))),
        ("shop:create_app()", Target("shop", ("create_app",), Call())),
        ("shop:web.make('x', n=1)", Target("shop", ("web", "make"), Call(("x",), {"n": 1}))),
        ("shop:make([1, -2], d={'a': None})", Target("shop", ("make",), Call(([1, -2],), {"d": {"a": None}}))),
        ("shop:make('a:b()')", Target("shop", ("make",), Call(("a:b()",)))),
    ],
)
def test_name_is_read(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an import path; use MODULE:ATTR, such as app:app"),
        (":app", "not an import path; use MODULE:ATTR, such as app:app"),
        ("shop:", "not an import path; use MODULE:ATTR, such as app:app"),
        ("my-shop:app", "not an import path; use MODULE:ATTR, such as app:app"),
        ("shop:a b", "not an import path; use MODULE:ATTR, such as app:app"),
        ("shop.py", "a file, not a module; use shop:app"),
        ("./src/shop.py:make", "a file, not a module; use src.shop:make"),
        ("shop:make(", "not an import path; use MODULE:ATTR, such as app:app"),
        ("shop:make(1))", "not a call as Python writes it; use MODULE:create_app()"),
        ("shop:make(\0)", "not a call as Python writes it; use MODULE:create_app()"),
        ("shop:()", "not a call of an attribute; use MODULE:create_app()"),
        ("shop:make()()", "not a call of an attribute; use MODULE:create_app()"),
        ("shop:make()+other()", "not a call of an attribute; use MODULE:create_app()"),
        ("shop:make()[0]()", "not a call of an attribute; use MODULE:create_app()"),
        ("shop:make(other())", "other(): arguments are literals, such as 'text', 1, True or None"),
        ("shop:make(name)", "name: arguments are literals, such as 'text', 1, True or None"),
        ("shop:make(*[1])", "*[1]: arguments are literals, such as 'text', 1, True or None"),
        ("shop:make(a={[]: 1})", "{[]: 1}: arguments are literals, such as 'text', 1, True or None"),
        ("shop:make(**{'a': 1})", "**: arguments are literals; write each as name=value"),
    ],
)
def test_name_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError) as refusal:
        parse_target(text)
    assert str(refusal.value) == message
