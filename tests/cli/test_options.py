"""Units at the door: pixel sizes, regions, and what they say when they are not understood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from patchloom.cli import options
from patchloom.cli.evaluate import evaluate
from patchloom.cli.main import VERBS, main
from patchloom.geometry import Box, PixelSize


@click.command()
@options.pixel_size("At which to work.")
@options.region
@options.device
@options.dtype
@options.seed
@options.as_json
@options.output("Where it goes.")
def verb(
    *,
    pixel_size: PixelSize | None,
    region: Box | None,
    device: str,
    dtype: str,
    seed: int,
    as_json: bool,
    output: Path,
) -> None:
    click.echo(repr((pixel_size, region, device, dtype, seed, as_json, output)))


def test_defaults() -> None:
    result = CliRunner().invoke(verb, ["-o", "a.tif"])
    assert result.stdout.strip() == repr((None, None, "auto", "auto", 0, False, Path("a.tif")))


def test_values_are_parsed() -> None:
    said = "--pixel-size 20x --region 1,2,30,40 --device cuda:1 --dtype bf16 --seed 7 --json -o a.tif"
    result = CliRunner().invoke(verb, said.split())
    expected = (PixelSize(0.5e-6), Box(2, 1, 40, 30), "cuda:1", "bf16", 7, True, Path("a.tif"))
    assert result.stdout.strip() == repr(expected)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "--pixel-size 20",
            "Error: Invalid value for '--pixel-size': pixel size `20` was not understood; write a length with its "
            "unit, such as 0.5um or 0.6m, or an objective power such as 20x",
        ),
        (
            "--region 1,2,3",
            "Error: Invalid value for '--region': region `1,2,3` is not X,Y,WIDTH,HEIGHT in whole pixels, "
            "as in 1024,512,2048,2048",
        ),
        ("--dtype fp64", "Error: Invalid value for '--dtype': 'fp64' is not one of 'auto', 'fp32', 'bf16', 'fp16'."),
        ("--seed -1", f"Error: Invalid value for '--seed': -1 is not in the range 0<=x<={2**63 - 1}."),
    ],
)
def test_what_is_not_understood_names_its_option(said: str, message: str) -> None:
    result = CliRunner().invoke(verb, [*said.split(), "-o", "a.tif"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == message


def test_an_output_is_required() -> None:
    result = CliRunner().invoke(verb, [])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: Missing option '-o' / '--output'."


def test_a_pixel_size_means_one_thing_in_every_verb() -> None:
    """`--pixel-size` is what is worked at, `--slide-pixel-size` what a file is taken to have: no verb mixes them."""
    commands = {name: verb.load() for name, verb in VERBS.items()} | dict(evaluate.commands)
    named = {
        name: {param.name: param.opts for param in command.params if "pixel_size" in str(param.name)}
        for name, command in commands.items()
    }
    both = {"pixel_size": ["--pixel-size"], "slide_pixel_size": ["--slide-pixel-size"]}
    for name, found in named.items():
        assert found.items() <= both.items(), name
    assert {"embed", "prepare", "generate", "similarity"} <= {
        name for name, found in named.items() if "slide_pixel_size" in found
    }
    assert {"embed", "prepare", "import", "distances"} <= {
        name for name, found in named.items() if "pixel_size" in found
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("embed", ("a.png",)),
        ("generate", ("he-foundation", "--grid", "a.grid")),
        ("sample", ("he-foundation", "--grid", "a.grid")),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(name: str, said: tuple[str, ...], tmp_path: Path) -> None:
    def refused(out: Path) -> str:
        result = CliRunner().invoke(main, [name, *said, "-o", str(out)])
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    assert "there is no folder" in refused(tmp_path / "none" / "a.png")
    folder = tmp_path / "a.png"
    folder.mkdir()
    assert "is a folder; name a file in it" in refused(folder)
    if name != "embed":
        assert "cannot tell what `a.jpg` should be" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prepare", ("a.png",)),
        ("import", ("a.ckpt", "--pixel-size", "1um")),
        ("vary", ("a.csv", "-n", "1", "--pipeline", "he-foundation")),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_refused(name: str, said: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    result = CliRunner().invoke(main, [name, *said, "-o", str(tmp_path / "a")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is a file; name a folder to write into" in result.stderr


@dataclass(frozen=True)
class Pair:
    first: int
    second: str | None


def test_gathered_options_arrive_as_one_record() -> None:
    heard: list[tuple[Pair, bool]] = []

    @click.command()
    @options.gathered(Pair, "pair", click.option("--first", type=int, default=3), click.option("--second"))
    @click.option("--third", is_flag=True)
    def verb(pair: Pair, third: bool) -> None:
        """Listen."""
        heard.append((pair, third))

    result = CliRunner().invoke(verb, ["--second", "two", "--third"])
    assert result.exit_code == 0, result.output
    assert heard == [(Pair(3, "two"), True)]
    text = CliRunner().invoke(verb, ["--help"]).output
    assert text.index("--first") < text.index("--second") < text.index("--third")
