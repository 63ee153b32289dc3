"""A command that holds others, which it calls by a noun of its own: verbs, measures."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """Lists what it holds under its noun, and tells a misspelt name its neighbour."""

    noun = "command"

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Each name with a line that says what it is for, in the order in which one meets them."""
        return [(name, command.get_short_help_str(limit=100)) for name, command in self.commands.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List what there is by the summaries."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl(self.summaries(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find what is named; usage errors say which names there are."""
        names = [name for name, _ in self.summaries(ctx)]
        if args[0] not in names:
            near = difflib.get_close_matches(args[0], names, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}"
            ctx.fail(f"there is no {self.noun} `{args[0]}`; {hint}")
        return super().resolve_command(ctx, args)
