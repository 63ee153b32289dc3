"""The command `patchloom`: its verbs, and how it says no.

Verbs are imported when they are called: `patchloom --help` loads none of them, and no torch.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import click

from patchloom import __version__
from patchloom.cli.groups import Group
from patchloom.errors import PatchloomError

INTERRUPTED = 130  # 128 + SIGINT, what shells and schedulers expect


class Verb(NamedTuple):
    """A row of the list of verbs: one line for `--help`, and what imports the command."""

    summary: str
    load: Callable[[], click.Command]


def _info() -> click.Command:
    from patchloom.cli.info import info

    return info


def _embed() -> click.Command:
    from patchloom.cli.embed import embed

    return embed


def _prepare() -> click.Command:
    from patchloom.cli.prepare import prepare

    return prepare


def _train() -> click.Command:
    from patchloom.cli.train import train

    return train


def _mosaic() -> click.Command:
    from patchloom.cli.mosaic import mosaic

    return mosaic


def _sample() -> click.Command:
    from patchloom.cli.sample import sample

    return sample


def _generate() -> click.Command:
    from patchloom.cli.generate import generate

    return generate


def _evaluate() -> click.Command:
    from patchloom.cli.evaluate import evaluate

    return evaluate


def _vary() -> click.Command:
    from patchloom.cli.vary import vary

    return vary


def _import() -> click.Command:
    from patchloom.cli.import_ import import_

    return import_


def _describe() -> click.Command:
    from patchloom.cli.describe import describe

    return describe


def _doctor() -> click.Command:
    from patchloom.cli.doctor import doctor

    return doctor


def _demo() -> click.Command:
    from patchloom.cli.demo import demo

    return demo


VERBS: dict[str, Verb] = {
    "info": Verb("Say what a slide, grid, dataset, pipeline or output is.", _info),
    "embed": Verb("Write the embedding grid of a slide, GeoTIFF or picture.", _embed),
    "mosaic": Verb("Join small pictures into one that can be embedded.", _mosaic),
    "prepare": Verb("Make a training dataset from slides.", _prepare),
    "train": Verb("Train an autoencoder, an encoder or a denoiser.", _train),
    "sample": Verb("Make patches from embeddings, as a contact sheet.", _sample),
    "generate": Verb("Make the large image that a grid, or a reference slide, describes.", _generate),
    "evaluate": Verb("Measure generated images, or a whole pipeline on held-out slides.", _evaluate),
    "vary": Verb("Make variations of labelled images, each from its own embeddings.", _vary),
    "import": Verb("Make a pipeline of a checkpoint of latent diffusion or diffusers.", _import),
    "describe": Verb("Write the grid of an image described by a text or a class.", _describe),
    "doctor": Verb("Say what works on this machine, and what is missing for the rest.", _doctor),
    "demo": Verb("Regenerate a region of a real section from its embeddings.", _demo),
}


class Verbs(Group):
    """A group over `VERBS` that turns what Patchloom says no to into one `Error:` and exit status 1."""

    noun = "verb"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which one meets them."""
        return list(VERBS)

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """The verbs with their summaries; none is imported."""
        return [(name, verb.summary) for name, verb in VERBS.items()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        return VERBS[cmd_name].load() if cmd_name in VERBS else None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a foreseen failure is a message, never a traceback."""
        try:
            return super().invoke(ctx)
        except PatchloomError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            _refused(error)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


def _refused(error: OSError) -> NoReturn:
    """What the operating system says no to, as one line; a reader of stdout that went away is click's to handle."""
    if error.errno in (None, errno.EPIPE):
        raise error
    place = f"`{error.filename}`: " if error.filename else ""
    raise click.ClickException(f"{place}{error.strerror}") from error


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.command("patchloom", cls=Verbs, context_settings=SETTINGS, subcommand_metavar="VERB [ARGS]...")
@click.version_option(__version__, prog_name="patchloom")
def main() -> None:
    """Large images from grids of self-supervised embeddings, by latent diffusion in windows.

    Results go to stdout, progress to stderr. `patchloom VERB --help` says what a verb takes.
    """
