"""An offline check of what the Hub would say to a card: front matter, links, and words that must stand there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .. import unknown_name
from .machine_places import places_in
from .placeholders import PLACEHOLDER
from .template import split_card

PLAIN_WORDS = "re-implementation, weights trained on {data}"
"""What the card of a method says about itself: these are not the authors' weights."""

LICENSES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "openrail", "creativeml-openrail-m", "openrail++", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense",
    "other",
}  # fmt: skip
OWN_LICENSES = LICENSES | {
    "unknown", "afl-3.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m", "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m", "bsd", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
    "gemma", "gfdl", "gpl", "gpl-2.0", "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-lr", "llama2",
    "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1",
    "osl-3.0", "pddl", "postgresql", "wtfpl", "zlib",
}  # fmt: skip
"""What the Hub knows: under which of them a user publishes is for him to say, or to leave open."""
LIBRARIES = {"diffusers", "transformers"}
PIPELINE_TAGS = {
    "text-to-image", "image-to-image", "image-to-video", "text-to-video", "text-to-3d", "image-to-3d",
    "image-classification", "zero-shot-image-classification", "unconditional-image-generation", "image-segmentation",
    "object-detection", "other",
}  # fmt: skip
SDKS = {"gradio", "static", "docker"}
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}

_MODEL_KEYS = {
    "license", "license_name", "license_link", "library_name", "pipeline_tag", "language", "tags", "datasets",
    "base_model", "metrics", "inference", "widget", "model-index", "thumbnail",
}  # fmt: skip
_SPACE_KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "app_build_command",
    "app_port", "models", "datasets", "tags", "license", "short_description", "pinned", "fullWidth", "header",
    "preload_from_hub", "suggested_hardware", "thumbnail", "custom_headers", "disable_embedding",
    "startup_duration_timeout",
}  # fmt: skip
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_MACHINE_PATH = re.compile(
    r"(?<![\w./])/(?:home|root|tmp|Users|Volumes|work|workspace|mnt|media|usr|var|opt|srv|data|scratch|content|kaggle)/"
    r"\S*|(?<!\w)[A-Z]:\\\S+"
)


def check_model_card(text: str, where: str, files: Path | None = None, data: str | None = None) -> list[str]:
    """Faults of a finished model card, one sentence each; none when it is good.

    Args:
        text: the card.
        where: its name, for the sentences.
        files: folder of the repository, to find the files that the card links to; None skips that.
        data: what the weights of a method of ours learned from, such as "PocketWorld": the card must carry
            `PLAIN_WORDS`. None for a model of no paper.
    """
    try:
        front, body = split_card(text, where)
    except ValueError as error:
        return [str(error)]
    faults = [*_keys(front, _MODEL_KEYS, ("license", "library_name", "pipeline_tag", "tags"))]
    faults += _one_of(front, "license", LICENSES)
    faults += _one_of(front, "library_name", LIBRARIES)
    faults += _one_of(front, "pipeline_tag", PIPELINE_TAGS)
    faults += _texts(front, "tags")
    faults += [*_other_license(front), *_model_index(front)]
    faults += [*_body(body), *_links(front, body, files)]
    if data is not None and (words := PLAIN_WORDS.format(data=data)) not in " ".join(body.split()):
        faults.append(f"the text must say {words!r}")
    return [f"{where}: {fault}." for fault in faults]


def check_own_card(text: str, where: str, files: Path | None = None) -> list[str]:
    """Faults of the card of a user's own weights, one sentence each; none when it is good.

    His words are his own: only what the Hub would refuse, what is not there, and what names his machine are faults.

    Args:
        text: the card.
        where: its name, for the sentences.
        files: folder of the repository, to find the files that the card links to; None skips that.
    """
    try:
        front, body = split_card(text, where)
    except ValueError as error:
        return [str(error)]
    faults = _keys(front, set(front), ("license", "library_name", "pipeline_tag", "tags"))
    faults += _one_of(front, "license", OWN_LICENSES)
    faults += _one_of(front, "library_name", {"diffusers"})
    faults += _one_of(front, "pipeline_tag", PIPELINE_TAGS)
    faults += [*_texts(front, "tags"), *_other_license(front), *_model_index(front)]
    places = dict.fromkeys([*(match[0] for match in _MACHINE_PATH.finditer(body)), *places_in(front)])
    faults += [f"{place!r} is a path of one machine" for place in places]
    faults += _links(front, body, files)
    return [f"{where}: {fault}." for fault in faults]


def check_license(license: str | None) -> None:
    """Refuses what is no licence that the Hub knows.

    Raises:
        ValueError: naming the nearest one.
    """
    if license is not None and license not in OWN_LICENSES:
        raise unknown_name("license", license, sorted(OWN_LICENSES))


def check_space_card(text: str, where: str, files: Path | None = None) -> list[str]:
    """Faults of a Space's README, one sentence each; none when it is good."""
    try:
        front, body = split_card(text, where)
    except ValueError as error:
        return [str(error)]
    faults = [*_keys(front, _SPACE_KEYS, ("title", "emoji", "colorFrom", "colorTo", "sdk", "license"))]
    faults += _one_of(front, "sdk", SDKS)
    for key in ("colorFrom", "colorTo"):
        faults += _one_of(front, key, COLORS)
    faults += _one_of(front, "license", LICENSES)
    if front.get("sdk") == "gradio":
        faults += [f"{key} must be set for sdk: gradio" for key in ("sdk_version", "app_file") if not front.get(key)]
    for key in ("sdk_version", "python_version"):
        if key in front and not re.fullmatch(r"\d+(\.\d+)+", str(front[key])):
            faults.append(f"{key} must be a version such as '6.31.0', in quotes, not {front[key]!r}")
    if len(str(front.get("short_description", ""))) > 60:
        faults.append("short_description is longer than 60 letters")
    for key in ("tags", "models"):
        faults += _texts(front, key)
    app = front.get("app_file")
    if files is not None and app and not (files / app).is_file():
        faults.append(f"app_file {app!r} is not there")
    faults += [*_body(body), *_links(front, body, files)]
    return [f"{where}: {fault}." for fault in faults]


def refuse_faults(faults: list[str]) -> None:
    """Raises a ValueError that says all faults, if there are any."""
    if faults:
        raise ValueError(" ".join(faults))


def _keys(front: Mapping[str, Any], known: set[str], needed: tuple[str, ...]) -> list[str]:
    faults = [f"{key} is missing from the front matter" for key in needed if front.get(key) in (None, "", [])]
    return faults + [f"{key!r} is no key that the Hub knows" for key in front if key not in known]


def _one_of(front: Mapping[str, Any], key: str, allowed: set[str]) -> list[str]:
    if key not in front or (isinstance(front[key], str) and front[key] in allowed):
        return []
    return [f"{key} must be one of {', '.join(sorted(allowed))}, not {front[key]!r}"]


def _other_license(front: Mapping[str, Any]) -> list[str]:
    if front.get("license") != "other" or front.get("license_link"):
        return []
    return ["license is 'other', which needs license_name and license_link"]


def _texts(front: Mapping[str, Any], key: str) -> list[str]:
    value = front.get(key, [])
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value) and len(set(value)) == len(value):
        return []
    return [f"{key} must be a list of different texts"]


def _model_index(front: Mapping[str, Any]) -> list[str]:
    if "model-index" not in front:
        return []
    try:
        data = ModelCardData(**front, ignore_metadata_errors=False)
    except (ValueError, KeyError, TypeError) as error:
        return [f"model-index is malformed: {' '.join(str(error).split())}"]
    values = [result.metric_value for result in data.eval_results or []]
    return [
        f"model-index holds {value!r}, which is no number" for value in values if not isinstance(value, int | float)
    ]


def _body(body: str) -> list[str]:
    faults = [] if re.search(r"^# \S", body, re.MULTILINE) else ["the text has no title ('# ...')"]
    faults += [f"{match[0]!r} was not filled in" for match in PLACEHOLDER.finditer(body)]
    return faults + [f"{match[0]!r} is a path of one machine" for match in _MACHINE_PATH.finditer(body)]


def _links(front: Mapping[str, Any], body: str, files: Path | None) -> list[str]:
    if files is None:
        return []
    return [
        f"{target!r} is linked, but is not there"
        for target in linked_files(front, body)
        if not (files / target).exists() or not (files / target).resolve().is_relative_to(files.resolve())
    ]


def linked_files(front: Mapping[str, Any], body: str) -> list[str]:
    """Files of the repository to which a card links, or which its widget shows."""
    targets = [target for target in _LINK.findall(body) if not re.match(r"[a-z]+:|#", target)]
    outputs = [entry.get("output") or {} for entry in front.get("widget") or [] if isinstance(entry, dict)]
    urls = [output["url"] for output in outputs if isinstance(output, dict) and "url" in output]
    return targets + [url for url in urls if not re.match(r"[a-z]+:", str(url))]
