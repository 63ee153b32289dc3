"""One field made of another in windows: the only engine there is, and every order of evaluating it is the same.

A weave says which window of a lattice answers for which box, and makes an answer the first time that somebody
needs it. Weaves stand on weaves, so reading a box of the last field of a chain evaluates that box's cone of
dependency and nothing else; reading everything, row by row or field by field, is a choice of order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.cores import Cores, shares
from patchloom.fields.field import Field
from patchloom.fields.stores import Store
from patchloom.fields.views import Channels, Mirrored, around
from patchloom.geometry import Box, Frame, Lattice, Window


class Work(Protocol):
    """What is done to a window. Its answer must not depend on the other windows of its batch, nor on their number."""

    @property
    def batch(self) -> int:
        """Windows in a call, always: convolution libraries give other bits for another batch size."""
        ...

    def frame(self, source: Frame) -> Frame:
        """The frame of the answers' field; its extent is the source's, or a whole multiple of it."""
        ...

    def idle(self, window: Window) -> bool:
        """Whether the window's answer needs no network. Idle windows and others do not share a batch."""
        ...

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        """Answers for whole windows, (batch, channels', h', w'), of arrays (batch, channels, h, w)."""
        ...


Job: TypeAlias = tuple[Sequence[Window], NDArray[Any]]
"""A batch, padded: its windows, and what each of them sees."""


class Crew(Protocol):
    """Whoever does the work of a weave's batches: this process, or others."""

    @property
    def portion(self) -> int | None:
        """How many windows of a batch go through a network at once since memory ran out; None while it has not."""
        ...

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job's windows with `work`'s answers for them, in any order.

        Jobs are taken as hands become free, since taking one reads what its windows see. `key` is the weave's, for
        crews whose members have a copy of the work.
        """
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """The crew of one: this process, job by job."""

    portion: None = None

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job's windows with `work`'s answers for them."""
        return ((windows, work(windows, arrays)) for windows, arrays in jobs)


alone = Alone()


def weave(
    source: Field,
    lattice: Lattice,
    work: Work,
    store: Store,
    key: str,
    *,
    crew: Crew = alone,
    report: Callable[[int], None] | None = None,
) -> Weave:
    """The field whose tiles are `work`'s answers for the lattice's windows of `source`, kept in `store` under `key`.

    `report` is told how many windows were finished, after each batch. Raises GeometryError where the lattice does not
    cover the source's frame, or where the frame of the answers is no whole multiple of it.
    """
    return Weave(source, lattice, work, store, key, crew, report)


class Weave:
    """A field that is made on demand; see `weave`. Rows of cores are kept under keys of their own, `KEY/ROW`."""

    def __init__(
        self,
        source: Field,
        lattice: Lattice,
        work: Work,
        store: Store,
        key: str,
        crew: Crew,
        report: Callable[[int], None] | None,
    ) -> None:
        if lattice.box != source.frame.box:
            raise GeometryError(f"the lattice covers {lattice.box}, but the field has {source.frame.box}")
        self.source = source
        self.lattice = lattice
        self.frame = work.frame(source.frame)
        self._work = work
        self._store = store
        self._key = key
        self._crew = crew
        self._report = report
        self._scale = _scale(source.frame, self.frame)
        self._seen = around(source, lattice.period)
        self._cores = Cores(lattice)
        self._weights = shares(lattice, self._scale) if lattice.overlaps else None

    def read(self, box: Box) -> NDArray[Any]:
        """The (channels, height, width) array of a box; what is missing of it is made first."""
        box.inside(self.frame.box)
        windows = self._cores.touching(self._in_source(box))
        if not all(self._store.has(self._row_key(window.index), window.index) for window in windows):
            self.make([box])
        if self._weights is None:
            return self._pasted(box, windows)
        return self._blended(box, windows, *self._weights)

    def make(self, boxes: Iterable[Box]) -> None:
        """Evaluate what reading these boxes needs and the store lacks, from the bottom of the chain upwards."""
        chain = [(self, self.missing(boxes))]
        while chain[-1][1]:
            field, windows = chain[-1]
            below = _unwrapped(field.source)
            if not isinstance(below, Weave):
                break
            chain.append((below, below.missing(window.box for window in windows)))
        for field, windows in reversed(chain):
            field._evaluate(windows)

    def missing(self, boxes: Iterable[Box]) -> list[Window]:
        """The windows, in index order, that reading these boxes needs and the store lacks."""
        inner = (self._in_source(box) for box in boxes)
        found = (int(index) for index in np.flatnonzero(self._cores.met(inner)))
        return [self.lattice.window(index) for index in found if not self._store.has(self._row_key(index), index)]

    def row(self, number: int) -> Box:
        """The box of this field that one row of cores answers for."""
        span, frame = self.lattice.rows[number], self.frame
        return Box(span.core_start * self._scale, 0, (span.core_stop - span.core_start) * self._scale, frame.width)

    def drop(self, rows: Iterable[int] | None = None) -> None:
        """Forget the tiles of these rows of cores (of all of them); reading them again would make them again."""
        for number in range(len(self.lattice.rows)) if rows is None else rows:
            self._store.drop(f"{self._key}/{number}")

    def _evaluate(self, windows: Sequence[Window]) -> None:
        for answered, answers in self._crew(self._key, self._work, self._jobs(windows)):
            self._keep(answered, answers)

    def _jobs(self, windows: Sequence[Window]) -> Iterator[Job]:
        kinds = sorted(windows, key=self._kind)
        for _, group in groupby(kinds, self._kind):
            for batch in _batches(sorted(group), self._work.batch):
                padding = self._work.batch - len(batch)
                arrays = [self._seen.read(window.box) for window in batch]
                yield [*batch, *[batch[-1]] * padding], np.stack([*arrays, *[arrays[-1]] * padding])

    def _kind(self, window: Window) -> tuple[bool, tuple[int, int]]:
        return self._work.idle(window), window.box.shape

    def _keep(self, windows: Sequence[Window], answers: NDArray[Any]) -> None:
        height, width = windows[0].box.times(self._scale).shape
        if answers.shape != (len(windows), self.frame.channels, height, width):
            raise GeometryError(
                f"the work of `{self._key}` gave an answer of shape {answers.shape}; "
                f"{(len(windows), self.frame.channels, height, width)} was declared"
            )
        tiles = dict(zip(windows, answers, strict=True))  # the padding falls away
        for window, answer in tiles.items():
            core = window.core.times(self._scale).inside(window.box.times(self._scale))
            tile = answer[:, *core].astype(self.frame.dtype, copy=False)
            self._store.put(self._row_key(window.index), window.index, tile)
        if self._report is not None:
            self._report(len(tiles))

    def _tile(self, window: Window) -> NDArray[Any]:
        key = self._row_key(window.index)
        tile = self._store.get(key, window.index)
        if tile is None:  # a cache that forgot it meanwhile, or a damaged file: it is made again, to the same bytes
            self._evaluate([self.lattice.window(window.index)])
            tile = self._store.get(key, window.index)
        if tile is None:
            raise GeometryError(f"the store keeps no tile of `{key}`, not even for one read; give it more room")
        return tile

    def _pasted(self, box: Box, windows: Sequence[Window]) -> NDArray[Any]:
        out = np.empty((self.frame.channels, box.height, box.width), self.frame.dtype)
        for window in windows:
            core = window.core.times(self._scale)
            part = core.meet(box)
            out[:, *part.inside(box)] = self._tile(window)[:, *part.inside(core)]
        return out

    def _blended(
        self, box: Box, windows: Sequence[Window], rows: list[NDArray[np.float32]], cols: list[NDArray[np.float32]]
    ) -> NDArray[Any]:
        total = np.zeros((self.frame.channels, box.height, box.width), np.float32)
        for window in windows:
            core = window.core.times(self._scale)
            part = core.meet(box)
            y, x = part.inside(core)
            row, col = divmod(window.index, len(cols))
            total[:, *part.inside(box)] += self._tile(window)[:, y, x] * (rows[row][y, None] * cols[col][x])
        if np.issubdtype(self.frame.dtype, np.integer):
            np.rint(total, out=total)
        return total.astype(self.frame.dtype, copy=False)

    def _in_source(self, box: Box) -> Box:
        """The smallest box of the source's pixels that holds a box of this field's."""
        scale = self._scale
        y, x = box.y // scale, box.x // scale
        return Box(y, x, -(-box.stop_y // scale) - y, -(-box.stop_x // scale) - x)

    def _row_key(self, index: int) -> str:
        return f"{self._key}/{index // len(self.lattice.cols)}"


def _unwrapped(field: Field) -> Field:
    while isinstance(field, Channels | Mirrored):
        field = field.source
    return field


def _batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    return (windows[start : start + size] for start in range(0, len(windows), size))


def _scale(source: Frame, out: Frame) -> int:
    scale = out.height // source.height
    if scale < 1 or (out.height, out.width) != (source.height * scale, source.width * scale):
        raise GeometryError(
            f"a field of {source.height} x {source.width} cannot be woven into one of {out.height} x {out.width}: "
            "the extent must be a whole multiple"
        )
    return scale
