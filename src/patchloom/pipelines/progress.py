"""What long work is told to say how far it is: rooms call a function, and know no bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Advance: TypeAlias = Callable[[int, int], None]
"""(done, total): how many of how many units are finished."""

Bars: TypeAlias = Callable[[str], Advance]
"""A label to the function that moves the bar beside it."""


def counted(advance: Advance, total: int) -> Callable[[int], None]:
    """For rooms that say how many more units are finished: the function that adds them up."""
    done = 0

    def more(units: int) -> None:
        nonlocal done
        done += units
        advance(done, total)

    return more
