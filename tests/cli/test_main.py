"""The frame of the command line: help, failures, exit statuses."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from patchloom import __version__
from patchloom.cli.evaluate import evaluate
from patchloom.cli.main import VERBS, Verb, main
from patchloom.errors import CapacityError, MismatchError


def fails_with(error: BaseException) -> click.Command:
    @click.command()
    def verb() -> None:
        click.echo("a result")
        raise error

    return verb


@pytest.fixture
def run_verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[click.Command], tuple[int, list[str], list[str]]]:
    """Run a command as a verb of its own; exit status, lines of stdout, lines of stderr."""

    def run(command: click.Command) -> tuple[int, list[str], list[str]]:
        monkeypatch.setitem(VERBS, "verb", Verb("For this test.", lambda: command))
        result = CliRunner().invoke(main, ["verb"])
        return result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()

    return run


def test_help_lists_every_verb_with_its_summary() -> None:
    lines = CliRunner().invoke(main, ["--help"]).stdout.splitlines()
    assert lines[0] == "Usage: patchloom [OPTIONS] VERB [ARGS]..."
    listed = [line.split() for line in lines[lines.index("Verbs:") + 1 :]]
    assert listed == [[name, *verb.summary.split()] for name, verb in VERBS.items()]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_s_help_starts_with_the_summary(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    usage, _, first = result.stdout.splitlines()[:3]
    assert usage.startswith(f"Usage: patchloom {name} ")
    assert first.strip() == VERBS[name].summary


@pytest.mark.parametrize("name", VERBS)
def test_every_option_of_a_verb_is_explained(name: str) -> None:
    parameters = VERBS[name].load().params
    assert [p.name for p in parameters if isinstance(p, click.Option) and not p.help] == []


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"patchloom, version {__version__}\n"


def test_a_misspelt_verb_is_told_its_neighbour() -> None:
    result = CliRunner().invoke(main, ["inof"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: there is no verb `inof`; did you mean `info`?"
    assert (
        CliRunner()
        .invoke(main, ["zzz"])
        .stderr.splitlines()[-1]
        .startswith("Error: there is no verb `zzz`; there are info, ")
    )


def test_measures_are_called_measures() -> None:
    said = CliRunner().invoke(main, ["evaluate", "--help"]).stdout
    assert "Usage: patchloom evaluate [OPTIONS] MEASURE [ARGS]..." in said
    lines = said.splitlines()
    listed = [line.split()[0] for line in lines[lines.index("Measures:") + 1 :]]
    assert listed == list(evaluate.commands)
    misspelt = CliRunner().invoke(main, ["evaluate", "seam"])
    assert misspelt.exit_code == 2
    assert misspelt.stderr.splitlines()[-1] == "Error: there is no measure `seam`; did you mean `seams`?"


@pytest.mark.parametrize("name", VERBS)
def test_no_option_s_value_is_called_by_its_type(name: str) -> None:
    said = CliRunner().invoke(main, [name, "--help"]).stdout
    assert [word for word in (" RANGE ", "--pipeline TEXT", "--encoder TEXT") if word in said] == []


@pytest.mark.parametrize("kind", [MismatchError, CapacityError])
def test_what_patchloom_says_no_to_is_one_error(kind: type[Exception], run_verb: Callable[..., object]) -> None:
    message = "the grid is another encoder's.\nPick another pipeline."
    expected = ["Error: the grid is another encoder's.", "Pick another pipeline."]
    assert run_verb(fails_with(kind(message))) == (1, ["a result"], expected)


def test_what_the_system_says_no_to_is_one_error(run_verb: Callable[..., object], tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))
    assert run_verb(fails_with(denied)) == (1, ["a result"], [f"Error: `{tmp_path}`: Permission denied"])
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert run_verb(fails_with(full)) == (1, ["a result"], ["Error: No space left on device"])


def test_an_interrupt_is_one_line_and_130(run_verb: Callable[..., object]) -> None:
    assert run_verb(fails_with(KeyboardInterrupt())) == (130, ["a result"], ["Interrupted."])


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERBS, "verb", Verb("For this test.", lambda: fails_with(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, ["verb"], catch_exceptions=False)


def examples() -> Iterator[tuple[str, list[str]]]:
    for name, verb in VERBS.items():
        for line in (verb.load().help or "").splitlines():
            if line.startswith("patchloom "):
                yield name, shlex.split(line)[1:]


@pytest.mark.parametrize(("name", "words"), list(examples()), ids=lambda value: value if isinstance(value, str) else "")
def test_an_example_of_the_help_is_understood(name: str, words: list[str]) -> None:
    """Every word of it: nothing is run, and no file of it need be there."""
    assert words[0] == name
    assert VERBS[name].load().make_context(name, words[1:]).params
