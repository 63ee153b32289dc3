"""What a checkpoint belongs to: the kind, network and data of the run that wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from patchloom import records


@dataclass(frozen=True, slots=True)
class Identity:
    """A record of everything that makes a checkpoint usable. The file states every field of it.

    A file that was written before a record had some field does not state that field: it belongs to a run in which the
    field has its default. So a record may gain fields with defaults, and no checkpoint is lost.
    """

    of: Any  # a dataclass
    formerly: str | None = None  # the digest that checkpoints bore up to November 2026 in place of the record

    def metadata(self) -> dict[str, str]:
        """What a checkpoint states."""
        return {"identity": json.dumps(records.dump(self.of), sort_keys=True)}

    def differences(self, metadata: Mapping[str, str]) -> list[str]:
        """What a checkpoint's metadata states otherwise, a sentence each; none where it belongs to this run."""
        if "identity" in metadata:
            stated = json.loads(metadata["identity"])
            return list(_differences("", stated, records.dump(self.of), records.told(self.of)))
        old = metadata.get("config")
        return [] if old is not None and old == self.formerly else ["it is of another network or other data"]


def digest(*values: Any) -> str:
    """sha256 of plain JSON values."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _differences(where: str, stated: Any, asked: Any, told: Any) -> Iterator[str]:
    """`asked` holds every field, `told` those without their default's value: what may go unstated is between them."""
    if isinstance(stated, list) and isinstance(asked, list) and len(stated) == len(asked):
        for i, (one, other) in enumerate(zip(stated, asked, strict=True)):
            yield from _differences(f"{where}[{i}]", one, other, told[i] if told else None)
    elif isinstance(stated, Mapping) and isinstance(asked, Mapping):
        yield from _of_fields(where, stated, asked, told or {})
    elif stated != asked:
        yield f"`{where}` is {stated!r:.80} there, {asked!r:.80} here"


def _of_fields(
    where: str, stated: Mapping[str, Any], asked: Mapping[str, Any], told: Mapping[str, Any]
) -> Iterator[str]:
    for key in sorted({*stated, *asked}):
        place = f"{where}.{key}".lstrip(".")
        if key not in asked:
            yield f"`{place}` is {stated[key]!r:.80} there, and nothing that this version knows"
        elif key in stated:
            yield from _differences(place, stated[key], asked[key], told.get(key))
        elif key in told:
            yield f"`{place}` is {asked[key]!r:.80} here, and not stated there"
