"""A folder of weights and their config: on this machine already, or fetched from the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchloom.encoders.known import KNOWN, KnownEncoder, known_by_hub_id
from patchloom.errors import DependencyError, FormatError, InputError, MissingError

_SMALL = ["config.json", "preprocessor_config.json", "README.md"]
_SAFE = ["*.safetensors", "*.safetensors.index.json"]
_PICKLED = "pytorch_model.bin"  # read with weights_only=True, which runs no code
_MAX_JSON = 1 << 22


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model as it lies on disk."""

    name: str  # what the encoder's spec will be called
    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    licence: str
    known: KnownEncoder | None = None

    def json(self, name: str) -> dict[str, Any]:
        """Another JSON file of the folder. Raises MissingError or FormatError."""
        return _json(self.path / name)


def local_folder(path: Path) -> ModelFolder:
    """A folder that the user names. Raises MissingError or FormatError."""
    return _folder(f"local:{path.resolve().name}", path, None)


def hub_folder(repo: str, *, download: bool) -> ModelFolder:
    """A repository `OWNER/NAME`: as it lies in the hub's cache, or, with `download`, fetched first.

    Raises DependencyError without huggingface_hub; InputError for a name that is none; MissingError where the
    repository is not on this machine, is not on the hub, or is gated, with what to do.
    """
    path = snapshot(repo, [*_SMALL, *_SAFE], download)
    if not list(path.glob("*.safetensors")):
        path = snapshot(repo, [*_SMALL, _PICKLED], download)
    return _folder(f"hub:{repo}", path, known_by_hub_id(repo))


def snapshot(repo: str, patterns: list[str], download: bool) -> Path:
    """The folder of a repository's files of some patterns, fetched where `download` and HF_HUB_OFFLINE allow it.

    Raises DependencyError without huggingface_hub; InputError for a name that is none; MissingError, with what to do.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"`hub:{repo}` is not `hub:OWNER/NAME`, as in hub:facebook/dinov2-small")
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise DependencyError(f"`hub:{repo}` needs more: pip install 'patchloom[hub]' ({error})") from error
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, local_files_only=not download))
    except hub.GatedRepoError:
        raise MissingError(
            f"`{repo}` is gated: ask for access on {page}, then log in on this machine with `hf auth login`"
        ) from None
    except hub.RepositoryNotFoundError:
        raise MissingError(
            f"there is no repository `{repo}` on the hub, or it is private; {page} would be its page"
        ) from None
    except hub.LocalEntryNotFoundError as error:
        raise MissingError(_not_here(repo, page, download)) from error
    except (hub.HfHubHTTPError, OSError) as error:
        raise MissingError(f"`{repo}` could not be fetched from {page}: {error}") from error


def _not_here(repo: str, page: str, download: bool) -> str:
    if download and _is_offline():
        return (
            f"`{repo}` is not on this machine, and HF_HUB_OFFLINE is set; unset it, or fetch it elsewhere from {page}"
        )
    if download:
        return f"`{repo}` is not on this machine, and {page} could not be reached; check the network"
    known = known_by_hub_id(repo)
    ask = f"ask for access on {page}, log in with `hf auth login`, then " if known and known.gated else ""
    name = next((name for name, entry in KNOWN.items() if entry is known and known and known.network), None)
    file = f", or name a file of its weights, `{name}:FILE`" if name else ""
    python = "or from Python by `download=True`"
    return f"`{repo}` is not on this machine: {ask}fetch it with `hf download {repo}`, {python}{file}"


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _folder(name: str, path: Path, known: KnownEncoder | None) -> ModelFolder:
    if not path.is_dir():
        raise MissingError(f"there is no model folder `{path}`")
    config = _json(path / "config.json")
    weights = tuple(sorted(path.glob("*.safetensors"))) or tuple(path.glob(_PICKLED))
    if not weights:
        raise MissingError(f"`{path}` holds a config but no weights: neither *.safetensors nor {_PICKLED}")
    return ModelFolder(name, path, config, weights, known.licence if known else _licence(path), known)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise FormatError(f"`{path}` is {path.stat().st_size:,} bytes long, which no config is")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(
            f"`{path.parent}` holds no `{path.name}`, so it does not say how its model is used"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"`{path}` is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FormatError(f"`{path}` is not a JSON mapping")
    return values


def _licence(path: Path) -> str:
    """What the model card's front matter says."""
    card = path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:8192] if card.is_file() else ""
    found = re.search(r"\A---\n.*?^license:\s*([\w.+-]+)\s*$.*?^---$", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else "unknown"
