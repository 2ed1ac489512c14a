"""`pocket push`: complete model repositories and their Space, put together in a folder or on the Hub."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from .. import unknown_name
from ..pipelines import METHODS
from ..pipelines.files import read_json, write_json
from ..pipelines.result_folder import result_folder, write_record
from .facts import gather_facts
from .model_index import eval_results_yaml
from .own_card import own_card
from .own_repository import copy_own
from .own_space import write_own_space
from .own_training import RECORD, read_own_training
from .own_weights import OwnWeights, own_weights
from .plain_files import copy_plain, refuse_links
from .render import CARD, card_faults, cards_of, render_card, result_rows
from .samples import FOLDER, renew_samples
from .template import PACKAGE_SOURCES, Sources, join_card, read_template, read_text, slug_of, split_card
from .validate import check_license, check_own_card, check_space_card, linked_files, refuse_faults
from .wheel import NAME, build_wheel, wheel_address

_HTTPError = HfHubHTTPError.__bases__[0]  # of the HTTP library that huggingface_hub is built on; also "no connection"
_SPACES = Path(__file__).parents[1] / "spaces"
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
_REPLACED = {
    "model": ["*.whl", "samples/*", "eval/*", "export/*", ".eval_results/*", RECORD],
    "space": ["*.whl", "assets/*"],
}
"""Remote files that a push takes away when the new folder no longer has them."""


@dataclass(frozen=True)
class Part:
    """One repository that a push makes.

    Attributes:
        folder: its files.
        repo: its id "owner/name".
        kind: "model" or "space".
        sdk: of a Space, "gradio" or "static".
    """

    folder: Path
    repo: str
    kind: str
    sdk: str | None = None


def check_repo(repo: str) -> None:
    """Refuses what cannot be the id of a repository.

    Raises:
        ValueError: when it is not "owner/name" in the Hub's letters, without "..".
    """
    try:
        validate_repo_id(repo)
        good = repo.count("/") == 1
    except HFValidationError:
        good = False
    if not good:
        raise ValueError(
            "REPO must be OWNER/NAME in letters, digits, '-', '_' and '.', without '..' and '--', such as me/snapgen, "
            f"not {repo!r}."
        )


def publish(
    source: str,
    repo: str,
    output: Path | None = None,
    dry_run: bool = False,
    space: bool = True,
    static: bool = False,
    private: bool = False,
    overwrite: bool = False,
    license: str | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> list[str]:
    """`pocket push`: assembles, and unless `dry_run` uploads.

    Args:
        source: slug of a method, or a folder with weights of one's own.
        repo: id "owner/name" on the Hub.
        output: folder that keeps what was assembled, with a record; a dry run without one takes outputs/push-<name>.
        dry_run: sends nothing and needs no token.
        space: also the gradio Space.
        static: also the static Space "<repo>-static".
        private: new repositories are private, and their cards say how to install from one. No Space then: its build
            could not fetch the wheel.
        overwrite: replaces an earlier result in `output`.
        license: of weights of one's own, by the Hub's name for it.
        say: told in a few words what is being done.

    Returns:
        Folders of a dry run, addresses of an upload; the model first.

    Raises:
        ValueError: for a wrong id or option, or a card or file that must not be published.
        OSError: without a token, when something cannot be read or written, or the Hub refuses.
    """
    check_repo(repo)
    if private and (space or static):
        raise ValueError("--private needs --no-space: the build of a private Space cannot fetch the wheel beside it.")
    check_license(license)
    own = own_weights(source)
    if own is None and license is not None:
        raise ValueError(f"--license is for weights of your own: those of {source} have their licence in their card.")
    if own is not None and static:
        raise ValueError("--static is for the package's own weights: leave it out for a folder of yours.")
    if not dry_run:
        require_token()  # before the minutes of work, not after them
    name = own.name if own else source
    if output is None and dry_run:
        output = Path("outputs") / f"push-{name}"

    def put_into(folder: Path) -> list[Part]:
        if own is not None:
            return assemble_own(own, repo, folder, space, license, private, say)
        return assemble(source, repo, folder, space, static, private=private, say=say)

    start = perf_counter()
    if output is None:
        with TemporaryDirectory() as scratch:
            return push(put_into(Path(scratch)), private, say)
    with result_folder(output, overwrite) as folder:
        parts = put_into(folder)
        inputs = {"method": own.slug if own else source, "repo": repo, "space": space, "static": static}
        inputs |= {"weights": name, "private": private, "license": license, "dry_run": dry_run}
        write_record(folder, f"pocket push {name}", inputs, None, perf_counter() - start)
        addresses = [] if dry_run else push(parts, private, say)
    return addresses or [str(output / part.folder.name) for part in parts]


def assemble(
    slug: str,
    repo: str,
    folder: Path,
    space: bool = True,
    static: bool = False,
    sources: Sources = PACKAGE_SOURCES,
    private: bool = False,
    say: Callable[[str], Any] = lambda text: None,
) -> list[Part]:
    """Puts everything that a push uploads into sub-folders of `folder`, checked; nothing is fetched or sent.

    A method with several weights has a repository for each: those of `<slug>-nano-judge` go to "<repo>-judge".

    Args:
        slug: of the method.
        repo: id "owner/name" of the model repository; its Space has the same, a static page that with "-static".
        folder: an existing, empty folder.
        space: whether to make the gradio Space.
        static: whether to make the page that runs in the browser.
        sources: where templates, results and weights are.
        private: whether the model repositories will be.
        say: told in a few words what is being done.

    Returns:
        The parts, the model first.

    Raises:
        FileNotFoundError: when a piece is missing.
        ValueError: for a wrong id, and for a card or file that must not be published.
        OSError: when something cannot be read, built or written.
    """
    check_repo(repo)
    if slug not in METHODS:
        raise unknown_name("method", slug, METHODS)
    parts = []
    with TemporaryDirectory() as scratch:
        say("building the wheel")
        wheel = build_wheel(Path(scratch))
        for name in cards_of(slug, sources):
            kind = name.removeprefix(f"{slug}-nano")
            say(f"putting the model repository {repo}{kind} together")
            parts.append(Part(folder / f"model{kind}", f"{repo}{kind}", "model"))
            assemble_model(name, f"{repo}{kind}", folder / f"model{kind}", wheel, sources, private)
        if space:
            say("putting the Space together")
            assemble_space(slug, repo, folder / "space", wheel, [part.repo for part in parts])
            parts.append(Part(folder / "space", repo, "space", "gradio"))
    if static:
        say("building the page that runs in the browser")
        parts.append(Part(assemble_static(slug, repo, folder / "static"), f"{repo}-static", "space", "static"))
    for part in parts:
        _refuse_odd_names(part.folder)
    return parts


def assemble_own(
    own: OwnWeights,
    repo: str,
    folder: Path,
    space: bool = True,
    license: str | None = None,
    private: bool = False,
    say: Callable[[str], Any] = lambda text: None,
) -> list[Part]:
    """As `assemble`, for weights of a user's own: one model repository, and a Space that loads it.

    Raises:
        FileNotFoundError: when a piece is missing.
        ValueError: for a wrong id, and for a card or file that must not be published.
        OSError: when something cannot be read, built or written.
    """
    check_repo(repo)
    parts = [Part(folder / "model", repo, "model")]
    with TemporaryDirectory() as scratch:
        say(f"putting the model repository {repo} together")
        assemble_own_model(own, repo, folder / "model", license, private, say)
        say("building the wheel")
        wheel = build_wheel(Path(scratch))
        copy_plain(wheel, folder / "model" / wheel.name)
        if space:
            say("putting the Space together")
            assemble_space(own.slug, repo, folder / "space", wheel, own=own)
            parts.append(Part(folder / "space", repo, "space", "gradio"))
    for part in parts:
        _refuse_odd_names(part.folder)
    return parts


def assemble_own_model(
    own: OwnWeights,
    repo: str,
    folder: Path,
    license: str | None = None,
    private: bool = False,
    say: Callable[[str], Any] = lambda text: None,
) -> None:
    """Writes the model repository of a user's own weights, but for the wheel.

    It holds what the index names, the code that loads it, the card, the record of the training, the licence, and the
    pictures that a card of his shows; nothing else that lies in his folder.

    Raises:
        FileNotFoundError: when a piece is missing.
        ValueError: when the card is faulty, or for a link, a pickle, damaged weights, or a place of this machine.
        OSError: when something cannot be read or written.
    """
    from ..pipelines.repository import check_repository

    text, runs = own_card(own, repo, license, private, say), read_own_training(own)
    copy_own(own, folder)
    if runs:
        write_json(folder / RECORD, runs)
    for name in _shown_pictures(text, own.folder):
        copy_plain(own.folder / name, folder / name)
    (folder / CARD).write_text(text, encoding="utf-8")
    check_repository(folder, digests=True)
    refuse_faults(check_own_card(text, f"{repo}/{CARD}", folder))
    left_out = own.left_out({path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()})
    if left_out:
        say(f"leaving out what is no part of the pipeline: {', '.join(left_out)}")


def assemble_model(
    name: str, repo: str, folder: Path, wheel: Path, sources: Sources = PACKAGE_SOURCES, private: bool = False
) -> None:
    """Writes a model repository: weights, shim, card, samples, export contract, results, licence and wheel.

    Weights that are a single model, such as one that judges, have no shim and no export contract.

    Args:
        name: of the weights, such as "snapgen-nano".
        repo: id "owner/name" that it will have.
        folder: made here.
        wheel: of this package, which the card says how to install.
        sources: where templates, results and weights are.
        private: whether a reader must log in to the Hub.

    Raises:
        FileNotFoundError: when a piece is missing.
        ValueError: when the card is faulty, a result is missing, weights are damaged, or a link lies among them.
    """
    from ..pipelines.export.contract import CONTRACT
    from ..pipelines.export.methods import export_of
    from ..pipelines.loading import load_pipeline
    from ..pipelines.repository import INDEX

    slug, weights = slug_of(name), sources.checkpoints / name
    refuse_links(weights)
    _check_weights(weights)
    text = render_card(name, repo, sources=sources, private=private)
    copy_plain(weights, folder, shutil.ignore_patterns(CARD, ".*", "__pycache__"))
    (folder / CARD).write_text(text, encoding="utf-8")
    template = read_template(sources.template(name))
    renew_samples(template, slug, weights, folder / FOLDER)
    if (weights / INDEX).is_file():
        pipeline = load_pipeline(slug, str(weights))
        write_json(folder / "export" / CONTRACT, export_of(pipeline).contract(pipeline).to_record())
    for path in sorted(sources.results.glob(f"{slug}*")):
        copy_plain(path, folder / "eval" / path.name)
    facts = gather_facts(template, name, weights, repo, sources)
    rows = result_rows(template, facts)
    if rows:
        (folder / ".eval_results").mkdir()
        yaml = eval_results_yaml(template.method.dataset, rows)
        (folder / ".eval_results" / f"{slug}.yaml").write_text(yaml, encoding="utf-8")
    _write_license(folder)
    copy_plain(wheel, folder / wheel.name)
    _check_weights(folder)
    refuse_faults(card_faults(template, text, f"{repo}/{CARD}", folder))


def assemble_space(
    slug: str,
    repo: str,
    folder: Path,
    wheel: Path,
    models: list[str] | None = None,
    own: OwnWeights | None = None,
) -> None:
    """Writes the Space: its app, a README that names the models, the wheel, and requirements that name the wheel.

    Where README and requirements say WHEEL, its address in the Space is put: the Hub installs requirements before it
    copies the other files.
    `models` are ids of the model repositories; None is `repo` alone. Of `own` weights the app loads those of `repo`.

    Raises:
        FileNotFoundError: when the method has no Space, or a file of it is missing.
        ValueError: when its README is faulty or its requirements do not ask for this package.
        OSError: when something cannot be read or written.
    """
    source = _SPACES / slug
    if not (source / "app.py").is_file():
        raise FileNotFoundError(f"{slug} has no Space: {source / 'app.py'} is missing.")
    copy_plain(source, folder, shutil.ignore_patterns("static", "__pycache__", "node_modules", ".*"))
    if own is not None:
        write_own_space(own, repo, folder)
    copy_plain(wheel, folder / wheel.name)
    requirements = read_text(folder / "requirements.txt")
    if requirements.count(" @ WHEEL\n") != 1:
        raise ValueError(f"{source / 'requirements.txt'} must ask for {NAME} in one line: {NAME}[demo] @ WHEEL.")
    pinned = requirements.replace("WHEEL", wheel_address(f"spaces/{repo}"))
    (folder / "requirements.txt").write_text(pinned, encoding="utf-8")
    _write_space_card(folder, repo, models or [repo])


def assemble_static(slug: str, repo: str, folder: Path) -> Path:
    """Writes the page that runs the exported model in the browser; returns its folder.

    Raises:
        FileNotFoundError: when the method has no such page.
        OSError: when it cannot be built.
    """
    page = import_module(f"{__package__.split('.')[0]}.spaces.build_static")
    built = Path(page.build_static(slug, folder))
    _write_space_card(built, repo)
    return built


def push(parts: list[Part], private: bool = False, say: Callable[[str], Any] = lambda text: None) -> list[str]:
    """Uploads assembled parts, one commit each; repositories are made if need be.

    The token comes from `hf auth login` or the environment variable HF_TOKEN, the Hub's address from HF_ENDPOINT.

    Args:
        parts: what `assemble` returned.
        private: whether new repositories are private.
        say: told in a few words what is being done.

    Returns:
        The address of each.

    Raises:
        OSError: without a token, or when the Hub refuses or cannot be reached, in one sentence.
    """
    api = HfApi(token=require_token())
    addresses = []
    for part in parts:
        say(f"uploading {part.kind} {part.repo}")
        try:
            made = api.create_repo(
                part.repo, repo_type=part.kind, space_sdk=part.sdk, private=private or None, exist_ok=True
            )
            api.upload_folder(
                repo_id=part.repo,
                repo_type=part.kind,
                folder_path=part.folder,
                commit_message=f"Upload {part.repo} with pocket push",
                delete_patterns=_REPLACED[part.kind],
            )
        except (_HTTPError, OfflineModeIsEnabled) as error:
            raise OSError(_refusal(part, error)) from error
        addresses.append(str(made))
    return addresses


def require_token() -> str:
    """The token for the Hub.

    Raises:
        OSError: when there is none.
    """
    token = get_token()
    if token is None:
        raise OSError(
            "there is no token for the Hub: log in with `hf auth login` or set HF_TOKEN, or look at what would be "
            "uploaded with --dry-run."
        )
    return token


def _refusal(part: Part, error: Exception) -> str:
    place = f"{part.kind} {part.repo!r} at {constants.ENDPOINT}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{place} cannot be reached: HF_HUB_OFFLINE is set."
    if not isinstance(error, HfHubHTTPError):
        return f"{place} cannot be reached: {error or type(error).__name__}."
    status = error.response.status_code
    if status == 401:
        return f"{place} refused the token: log in again with `hf auth login`."
    if status == 403:
        return f"{place} may not be written with this token: it needs write access to {part.repo.split('/')[0]!r}."
    reason = error.server_message or str(error).splitlines()[0]
    return f"{place} was not uploaded: the Hub answered {status}, {reason}."


def _write_space_card(folder: Path, repo: str, models: list[str] | None = None) -> None:
    """Puts the repository's id where a Space's card says OWNER/NAME, `models` for its models, the wheel for WHEEL."""
    path = folder / CARD
    front, body = split_card(read_text(path), str(path))
    models = models or [model.replace("OWNER/NAME", repo) for model in front["models"]]
    body = body.replace("OWNER/NAME", repo).replace("WHEEL", wheel_address(f"spaces/{repo}"))
    path.write_text(join_card({**front, "models": models}, body), encoding="utf-8")
    refuse_faults(check_space_card(path.read_text(encoding="utf-8"), f"the Space's {CARD}", folder))


def _check_weights(folder: Path) -> None:
    """Of a pipeline, or of a single model of the package, whose class its config names."""
    from ..pipelines.repository import INDEX, check_model, check_repository

    if (folder / INDEX).is_file():
        check_repository(folder, digests=True)
    else:
        package = import_module(__package__.split(".")[0])
        check_model(folder, getattr(package, read_json(folder / "config.json", dict)["_class_name"]))


def _shown_pictures(card: str, folder: Path) -> list[str]:
    """Pictures that a card shows and that lie below its folder, neither hidden nor reached through a link."""
    root, targets = folder.resolve(), {PurePosixPath(str(target)) for target in linked_files(*split_card(card, CARD))}
    return [
        str(path)
        for path in sorted(targets)
        if path.suffix.lower() in _PICTURES and (folder / path).is_file()
        if not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
        if (folder / path).parent.resolve() == root / path.parent
    ]


def _write_license(folder: Path) -> None:
    """Of the checkout, where there is one: beside its package, an unfinished build may pose as the distribution."""
    checkout = Path(__file__).resolve().parents[1] / "LICENSE"
    text = read_text(checkout) if checkout.is_file() else distribution(NAME).read_text("licenses/LICENSE")
    if not text:
        raise FileNotFoundError(f"the installed {NAME} has no LICENSE: install it again from a wheel.")
    (folder / "LICENSE").write_text(text, encoding="utf-8")


def _refuse_odd_names(folder: Path) -> None:
    """Raises ValueError for a file that would not lie where its name says, here or on the Hub."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or ".." in name or "\\" in name or not name.isprintable():
            raise ValueError(f"{name!r} must not be uploaded: no links, and no '..', '\\' or control letters in names.")
