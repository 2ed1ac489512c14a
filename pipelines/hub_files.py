"""Folders of the Hugging Face Hub: of a repository only what diffusers loads, and never a pickle."""

import glob
import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

from .files import read_json
from .repository import INDEX, PICKLES, is_local_path

_HTTPError = HfHubHTTPError.__bases__[0]  # of the HTTP library that huggingface_hub is built on; also "no connection"
_READ = {".json", ".model", ".py", ".safetensors", ".txt"}  # settings, tokenizers, the file that names our class


def fetch_folder(model: str | os.PathLike) -> Path:
    """A folder of this machine as it is, or the files of a repository "owner/name" of the Hub, in its cache.

    Without a connection what the cache has of it must do.

    Raises:
        OSError: the repository cannot be fetched.
        ValueError: weights in it are pickles alone, naming the file.
    """
    if is_local_path(model):
        return Path(model)
    repo = str(model)
    try:
        return _fetch(repo)
    except GatedRepoError as error:
        raise OSError(
            f"model {repo!r} is for those alone who have accepted its terms: do so on its page of the Hub, and log in "
            "with `hf auth login`."
        ) from error
    except HfHubHTTPError as error:
        raise unfetched(repo) from error
    except (OfflineModeIsEnabled, _HTTPError) as error:
        for name in (INDEX, "config.json"):
            cached = try_to_load_from_cache(repo, name)
            if isinstance(cached, str):
                return Path(cached).parent
        raise unfetched(repo) from error


def unfetched(model: str) -> OSError:
    """What is said of a model that is neither here nor to be had."""
    return OSError(
        f"model {model!r} is no folder here and cannot be fetched from the Hub: check the name and the connection."
    )


def _fetch(repo: str) -> Path:
    names = HfApi().list_repo_files(repo)
    components = None
    if INDEX in names:
        components = read_json(hf_hub_download(repo, INDEX), dict).keys()
    wanted = needed_files(repo, names, components)
    return Path(snapshot_download(repo, allow_patterns=[glob.escape(name) for name in wanted]))


def needed_files(repo: str, names: Collection[str], components: Collection[str] | None) -> list[str]:
    """Those of a repository's files that diffusers loads.

    Args:
        repo: the repository, for what is said of it.
        names: of its files.
        components: folders of a pipeline's parts, beside whose index no weights are read; None for one model.

    Raises:
        ValueError: weights are pickles alone, naming one of them.
    """
    wanted = []
    for folder in ("",) if components is None else ("", *sorted(components)):
        here = [name for name in map(PurePosixPath, names) if str(name.parent) == (folder or ".")]
        weights = [name for name in here if name.suffix == ".safetensors"]
        pickles = [name for name in here if name.suffix in PICKLES]
        if components is None or folder:
            if pickles and not weights:
                what = "is a pickle, which can run code when it is loaded: only safetensors is accepted"
                raise ValueError(f"{repo}/{pickles[0]} {what}.")
            plain = [name for name in weights if not _variant(name)]
        else:
            plain, weights = [], []
        kept = {*(plain or weights)}
        kept |= {name for name in here if name.suffix in _READ - {".safetensors"} or name.name.startswith("LICENSE")}
        wanted += [str(name) for name in here if name in kept]
    return wanted


def _variant(name: PurePosixPath) -> bool:
    """Whether weights are such as "model.fp16.safetensors" or "model.fp16-00001-of-00002.safetensors"."""
    return "." in name.stem
