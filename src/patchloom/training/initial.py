"""Starting a run from weights that another run left: to go on with other data, or from a neighbouring network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from patchloom.errors import InputError, MismatchError

_FIRST = "cells.layers.0.weight"  # (width, embedding)
_LOUDER = 8
_NAMED = 8  # tensors that a message lists before it counts the rest


def start_from(module: nn.Module, found: Mapping[str, Tensor], where: str, fresh: tuple[str, ...] = ()) -> None:
    """Give a module the tensors that another one left, parameters and constants alike.

    Tensors whose names begin with one of `fresh` stay as they are in the module, and those found are left alone.
    Raises MismatchError that lists every other tensor that the two do not share, InputError for a beginning that no
    tensor has.
    """
    own = module.state_dict()
    _check_beginnings(fresh, own.keys() | found.keys())
    faults = list(_faults(_without(own, fresh), _without(found, fresh)))
    if faults:
        rest = len(faults) - _NAMED
        listed = "; ".join(faults[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
        raise MismatchError(
            f"{where} is of another network than `shape` describes: {listed}. Mend `shape`, or name in `fresh` how "
            "the names of those tensors begin that are not to come from `initial`"
        )
    module.load_state_dict(_without(found, fresh), strict=False)  # what is not there was named in `fresh`


def lengthened(found: Mapping[str, Tensor], own: Mapping[str, Tensor], appended: int) -> dict[str, Tensor]:
    """The tensors of a denoiser as one has them that is told `appended` values more at the end of each embedding.

    The values begin without weight, and `own`, a new network for such embeddings, gives the constants that standardise
    them. Their spread is then made `_LOUDER`: a few among a thousand would be heard late.
    """
    mean, deviation = (own[f"cells.{name}"][-appended:] for name in ("mean", "deviation"))
    weight = found[_FIRST]
    longer = {
        "cells.mean": torch.cat([found["cells.mean"], mean]),
        "cells.deviation": torch.cat([found["cells.deviation"], deviation / _LOUDER]),
        _FIRST: torch.cat([weight, weight.new_zeros(len(weight), appended)], dim=1),
    }
    return {**found, **longer}


def _faults(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterable[str]:
    for name in sorted(own.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in own:
            yield f"{name} has no place"
        elif own[name].shape != found[name].shape:
            yield f"{name} is {tuple(found[name].shape)}, not {tuple(own[name].shape)}"


def _without(tensors: Mapping[str, Tensor], beginnings: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(beginnings)}


def _check_beginnings(beginnings: tuple[str, ...], names: Iterable[str]) -> None:
    names = list(names)
    unused = [beginning for beginning in beginnings if not any(name.startswith(beginning) for name in names)]
    if unused:
        parts = sorted({name.partition(".")[0] for name in names})
        raise InputError(
            f"`fresh` names {', '.join(unused)}, with which no tensor begins; they begin {', '.join(parts)}"
        )
