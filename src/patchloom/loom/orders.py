"""Orders of evaluating a run. Each gives the same latents; they differ in what is alive at a time, and in what is made.

weave_canvas   everything, stage by stage: the fewest padded batches; two states of the whole canvas are alive
weave_down     everything, as a reader goes down the picture: a few rows of each state are alive
weave_region   what a region depends on, its cone, stage by stage
weave_parts    the same for whatever is read, when it is read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

from numpy.typing import NDArray

from patchloom.diffusion.condition import Condition
from patchloom.fields.cores import meeting
from patchloom.fields.field import Field
from patchloom.fields.stores import MemoryStore, Store
from patchloom.fields.views import Channels
from patchloom.fields.weave import Crew, Weave, alone
from patchloom.geometry import Box, Frame
from patchloom.loom.figures import cone
from patchloom.loom.run import Progress, Run, chain

C = TypeVar("C", bound=Condition)


def weave_parts(
    run: Run[C], store: Store | None = None, progress: Progress | None = None, *, crew: Crew = alone
) -> Field:
    """The finished latents as a field that evaluates the cone of what is read of it, and nothing else."""
    fields = chain(run, MemoryStore() if store is None else store, progress, crew)
    return Channels(fields[-1], run.latents.channels)


def weave_canvas(
    run: Run[C], store: Store | None = None, progress: Progress | None = None, *, crew: Crew = alone
) -> Field:
    """Make the whole canvas stage by stage; the finished latents, float32 (channels, height, width).

    What the store already holds is not evaluated again, so an interrupted run goes on by the same call. The state
    after a meeting is dropped when the next is whole. `progress` is told how many windows were finished since it was
    last told, first of all those of an earlier attempt.
    """
    return weave_region(run, run.latents.box, store, progress, crew=crew)


def weave_region(
    run: Run[C], region: Box, store: Store | None = None, progress: Progress | None = None, *, crew: Crew = alone
) -> Field:
    """Make what a region (in latents) of the finished latents depends on, stage by stage, as `weave_canvas` does.

    The field that comes back answers for the whole canvas; reading it outside the region makes what is missing,
    from the noise up.
    """
    fields = chain(run, MemoryStore() if store is None else store, progress, crew)
    reads = [*([window.box for window in windows] for windows in cone(run.lattices, region)[1:]), [region]]
    parts = list(zip(fields, reads, strict=True))
    first = next((k + 1 for k in reversed(range(len(parts))) if not parts[k][0].missing(parts[k][1])), 0)
    for one in fields[: max(first - 1, 0)]:
        one.drop()  # whole, but killed before they were dropped
    if progress is not None:
        progress(_done_before(parts, first))
    for number, (one, boxes) in enumerate(parts[first:], start=first):
        one.make(boxes)
        if number:
            fields[number - 1].drop()
    return Channels(fields[-1], run.latents.channels)


def weave_down(
    run: Run[C],
    store: Store | None = None,
    progress: Progress | None = None,
    *,
    keep: int | None = None,
    crew: Crew = alone,
) -> Field:
    """The finished latents for a reader that goes down the picture, as pyramid writers do; made in bands on demand.

    A band advances as soon as the rows below it allow, and rows that no band below will read are dropped, so the
    memory of a run does not grow with the height. Of the finished latents, `keep` rows above the last read stay
    alive; all of them with None, which a store on disk needs for going on after an interruption.
    A reader that goes up again is answered too, and pays for making the rows again where they were dropped; one that
    jumps ahead is answered by the cone of what it reads. Where the lower edge is joined to the upper one, the rows that
    are read over it stay alive: more of them, but no more on a higher canvas.
    """
    fields = chain(run, MemoryStore() if store is None else store, progress, crew)
    heads = [*(_overhang(above) for above in fields[1:]), keep or 0]
    strips = [_Strip(one, dropped=_spared(one, head)) for one, head in zip(fields, heads, strict=True)]
    return Channels(Descending(strips, _rows_of_a_band(run, fields), keep), run.latents.channels)


@dataclass(slots=True)
class _Strip:
    """How far a field of a chain has come: rows of cores made without a gap, and rows dropped."""

    weave: Weave
    made: int = 0
    dropped: int = 0

    def drop_above(self, height: int) -> None:
        """Drop the rows of cores that end above `height`."""
        rows = self.weave.lattice.rows
        stop = self.dropped
        while stop < len(rows) and rows[stop].core_stop <= height:
            stop += 1
        self.weave.drop(range(self.dropped, stop))
        self.dropped = stop

    def needs(self, height: int) -> int:
        """The first row of the field below that is still to be read, where rows above `height` are finished with."""
        rows = self.weave.lattice.rows
        while self.made < len(rows) and (rows[self.made].core_stop <= height or self._is_made(self.made)):
            self.made += 1
        return rows[self.made].start if self.made < len(rows) else self.weave.frame.height

    def _is_made(self, row: int) -> bool:
        return not self.weave.missing([self.weave.row(row)])


@dataclass(slots=True)
class Descending:
    """The last field of a chain, made in bands of full width as a reader needs them; see `weave_down`."""

    strips: Sequence[_Strip]
    rows: int  # of cores, made together
    keep: int | None
    _made: int = field(default=0, init=False)  # rows of cores of the last field

    @property
    def frame(self) -> Frame:
        """The last field's."""
        return self.strips[-1].weave.frame

    def read(self, box: Box) -> NDArray[Any]:
        """The box, after making every band down to its lower edge."""
        box.inside(self.frame.box)
        last = self.strips[-1].weave
        rows = last.lattice.rows
        if self._made < len(rows) and box.y > rows[self._made].core_start:
            return last.read(box)
        while self._made < len(rows) and rows[self._made].core_start < box.stop_y:
            stop = min(self._made + self.rows, len(rows))
            last.make([last.row(number) for number in range(self._made, stop)])
            self._made = stop
            self._drop_passed(rows[stop - 1].core_stop)
        answer = last.read(box)
        if self.keep is not None:
            self.strips[-1].drop_above(box.y - self.keep)
        return answer

    def _drop_passed(self, height: int) -> None:
        """Drop what no row still to be made will read; rows of the last field above `height` are made."""
        for above, below in zip(self.strips[:0:-1], self.strips[-2::-1], strict=True):
            height = above.needs(height)
            below.drop_above(height)


def _overhang(above: Weave) -> int:
    """Rows at the top that windows of the field above read over the joined border."""
    period = above.lattice.period[0]
    return 0 if period is None else max(max(span.stop for span in above.lattice.rows) - period, 0)


def _spared(one: Weave, head: int) -> int:
    """Rows of cores that are never dropped: those that begin above row `head` of a field without an upper edge."""
    if one.lattice.period[0] is None:
        return 0
    return sum(span.core_start < head for span in one.lattice.rows)


def _rows_of_a_band(run: Run[C], fields: Sequence[Weave]) -> int:
    """Enough rows that the padded tail of each batch costs little on a narrow canvas."""
    cols = min(len(one.lattice.cols) for one in fields)
    return max(1, ceil(4 * run.batch / cols))


def _done_before(parts: Sequence[tuple[Weave, list[Box]]], first: int) -> int:
    """Windows finished by an earlier attempt, where meeting `first` is the first that is not whole."""
    done = sum(_needed(one, boxes) for one, boxes in parts[:first])
    return done + sum(_needed(one, boxes) - len(one.missing(boxes)) for one, boxes in parts[first : first + 1])


def _needed(one: Weave, boxes: list[Box]) -> int:
    return int(meeting(one.lattice, boxes).sum())
