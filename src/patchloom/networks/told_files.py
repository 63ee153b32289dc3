"""What reads a text, or knows classes, as a folder: `told.json`, `told.safetensors`, and the tokenizer's own files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from patchloom import records, weights
from patchloom.errors import DependencyError, FormatError, MissingError
from patchloom.networks.path_told import ClassShape, ClassTold, TextShape, TextTold, Words

FORMAT = 1
RECORD, WEIGHTS = "told.json", "told.safetensors"
TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class ToldRecord:
    """What `told.json` holds."""

    format: int
    text: TextShape | None
    classes: ClassShape | None


def save_told(told: ClassTold | TextTold, folder: Path, tokenizer: Path | None = None) -> None:
    """Write the folder, with the files of a tokenizer's folder beside a text encoder's weights; the record is last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(told.state_dict(), folder / WEIGHTS)
    for name in TOKENIZER:
        if tokenizer is not None and (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    text, classes = (told.shape, None) if isinstance(told, TextTold) else (None, told.shape)
    records.write_json(ToldRecord(FORMAT, text, classes), folder / RECORD)


def load_told(folder: Path) -> ClassTold | TextTold:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(ToldRecord, folder / RECORD)
    if record.format != FORMAT or (record.text is None) == (record.classes is None):
        raise FormatError(f"`{folder / RECORD}` is of format {record.format}, or is told neither text nor classes")
    with torch.device("meta"):
        told = ClassTold(record.classes) if record.classes is not None else TextTold(record.text or TextShape())
    weights.fill(told, weights.read_tensors(folder / WEIGHTS), f"`{folder / WEIGHTS}`")
    return told


def words_of(captions: Sequence[str], shape: TextShape, folder: Path) -> Words:
    """Captions as the tokenizer in a folder (vocab.json and merges.txt) numbers them, cut and padded to the length.

    Raises DependencyError without transformers, MissingError or FormatError for a folder that holds no tokenizer.
    """
    if not folder.is_dir():
        raise MissingError(f"there is no folder `{folder}` with the tokenizer of the model's text encoder")
    if not any((folder / name).is_file() for name in TOKENIZER[:2]):  # without, transformers makes an empty one
        raise FormatError(f"`{folder}` holds no tokenizer of CLIP's: neither {' nor '.join(TOKENIZER[:2])}")
    try:
        from transformers import CLIPTokenizer
    except ImportError as error:
        raise DependencyError(f"captions need a tokenizer: pip install 'patchloom[hub]' ({error})") from error
    length = shape.length * shape.parts
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        found = tokenizer(list(captions), truncation=True, max_length=length, padding="max_length")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FormatError(f"`{folder}` holds no tokenizer of CLIP's: {error!s:.300}") from None
    return Words(torch.tensor(found["input_ids"]), torch.tensor(found["attention_mask"]).bool())
