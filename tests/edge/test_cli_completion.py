import pytest

from edge import cli
from edge.cli_options import _complete


@pytest.mark.parametrize(
    ("shell", "part"), [("bash", "complete -o"), ("zsh", "#compdef edge"), ("fish", "complete --")]
)
def test_script_of_the_shell_is_printed(shell: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert part in capsys.readouterr().out


def test_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "csh"]) == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metavar", "word", "completions"),
    [
        ("auto|on|off", "o", [("on", "plain"), ("off", "plain")]),
        ("auto|asyncio|uvloop|MODULE:ATTR", "", [("auto", "plain"), ("asyncio", "plain"), ("uvloop", "plain")]),
        ("FILE", "a", [("a", "file")]),
        ("DIR", "a", [("a", "dir")]),
        ("N", "3", []),
    ],
)
def test_value_is_completed_by_what_it_may_be(metavar: str, word: str, completions: list[tuple[str, str]]) -> None:
    assert [(item.value, item.type) for item in _complete(metavar, word)] == completions
