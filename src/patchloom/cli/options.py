"""Options that several verbs share, each defined once, with units as people write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from patchloom.errors import InputError, MissingError
from patchloom.geometry import Box, PixelSize

T = TypeVar("T")
Command = Callable[..., Any]


def parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """A callback that reads an option's text by its type's own `parse`; what that refuses is a usage error."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except InputError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return read


def gathered(record: type[Any], name: str, *declared: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that reach a command as one record under `name`; its fields have the names of the options' values."""
    names = [field.name for field in fields(record)]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(**values: Any) -> Any:  # click calls by name
            values[name] = record(*(values.pop(each) for each in names))
            return command(**values)

        wrapped: Command = called
        for option in reversed(declared):
            wrapped = option(wrapped)
        return wrapped

    return decorate


class Whole(click.IntRange):
    """A whole number in a range, which help calls N."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for the value in help."""
        return "N"


class Number(click.FloatRange):
    """A number in a range, which help calls NUMBER."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for the value in help."""
        return "NUMBER"


FILE = click.Path(path_type=Path)  # that it is there is checked where it is opened, with a better message

slide_pixel_size = click.option(
    "--slide-pixel-size",
    metavar="SIZE",
    callback=parsed(PixelSize.parse),
    help="How long the pixels of the slide's own file are, as in 0.25um or 40x, where it does not say or is wrong.",
)
region = click.option(
    "--region",
    metavar="X,Y,WIDTH,HEIGHT",
    callback=parsed(Box.parse),
    help="A part of the slide in level-0 pixels, as in 1024,512,2048,2048.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="Where networks run: auto, cpu, cuda, cuda:1 or mps.",
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="The precision networks run in; auto takes what a short calibration finds fastest.",
)
seed = click.option(
    "--seed",
    type=Whole(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="The same seed makes the same output.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def pixel_size(what: str, *, required: bool = False, default: str | None = None) -> Callable[[Command], Command]:
    """`--pixel-size`, which in every verb is the size to work at, whatever the slide's own is; `what` says at what."""
    read = parsed(PixelSize.parse)
    if default is None:  # told outright, click would take None for a value, and nothing would be required
        return click.option("--pixel-size", metavar="SIZE", callback=read, required=required, help=what)
    return click.option("--pixel-size", metavar="SIZE", callback=read, default=default, show_default=True, help=what)


grid_encoder = click.option(
    "--grid-encoder",
    metavar="NAME",
    help="With a feature file (CLAM, TRIDENT, STAMP): the encoder that made it, which the file does not say.",
)
grid_patch = click.option(
    "--grid-patch",
    metavar="PX",
    type=Whole(1),
    help="With a CLAM file that does not say it: side of a patch in level-0 pixels.",
)
grid_tolerance = click.option(
    "--grid-tolerance",
    metavar="SHARE",
    type=Number(0, 0.5),
    help="With a feature file: how far a patch may lie off the lattice, in strides; default: 0.01.",
)


def feature_file(command: Command) -> Command:
    """What a feature file given as `--grid` leaves out."""
    return grid_encoder(grid_patch(grid_tolerance(command)))


def output(what: str, kind: Literal["file", "image", "folder"] = "file") -> Callable[[Command], Command]:
    """The required `-o`; `what` says what is written there. What cannot be written is refused before hours of work."""
    checks = {"file": _check_file, "image": _check_image, "folder": _check_folder}

    def read(ctx: click.Context, param: click.Parameter, path: Path) -> Path:
        checks[kind](path)
        return path

    return click.option("-o", "--output", type=FILE, required=True, callback=read, help=what)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"`{path}` is a folder; name a file in it, to write to")
    if not path.parent.is_dir():
        raise MissingError(f"there is no folder `{path.parent}` to write `{path.name}` into")


def _check_image(path: Path) -> None:
    from patchloom.pyramids.image import kind_of

    kind_of(path)
    _check_file(path)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"`{path}` is a file; name a folder to write into")
