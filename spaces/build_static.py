"""A Space without a server: the page, and the exported model with onnxruntime-web or the scene that it shows."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from pocket_diffusers import unknown_name
from pocket_diffusers.model_cards.plain_files import copy_plain, refuse_links
from pocket_diffusers.model_cards.template import split_card
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.result_folder import result_folder, write_record

SPACES = Path(__file__).parent
SHARED = SPACES / "static"
RUNTIME = ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm")
"""What a page needs of onnxruntime-web: the plain CPU build with SIMD, the smallest there is."""
READ = (".html", ".css", ".js")
NAME_IN_QUOTES = re.compile(r"""["'`](?:\./)?([\w-][\w./-]*\.\w+)["'`]""")
LICENSE = """\
onnxruntime-web {version}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def build_static(
    slug: str,
    output: str | Path,
    model: str | None = None,
    bundle: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], Any] = lambda step: None,
) -> Path:
    """Writes a folder that any web server of plain files can serve, and that is a static Space.

    It holds the page of `spaces/<slug>/static/`, those scripts and styles of `spaces/static/` that it reaches, and what
    it reads: onnxruntime-web under `ort/` (fetched with npm in the exact version of `package-lock.json`) and the ONNX
    bundle under `model/`, or the scene `scene.<slug>`. The page asks nothing of another
    host. For the Hub, OWNER/NAME in its README must be replaced, as `pocket push --static` does. It appears whole or
    not at all.

    Args:
        slug: a key of `METHODS` that has a folder `spaces/<slug>/static/`.
        output: the folder.
        model: weights as `load_pipeline` takes them; None takes those that the page names (see `weights_of_page`).
        bundle: an ONNX bundle in fp32 that was exported before, in place of a new export.
        overwrite: replace an earlier result there.
        progress: called with a few words before each step.

    Raises:
        ValueError: for an unknown method, one without a static page, `model` and `bundle` together, a bundle with a
            link in it, or one for a page that runs none.
        FileNotFoundError: when `bundle` is none.
        OSError: when npm is missing or cannot fetch the package, or the folder cannot be written.
    """
    if slug not in METHODS or not (SPACES / slug / "static").is_dir():
        known = [name for name in METHODS if (SPACES / name / "static").is_dir()]
        raise unknown_name("static page", slug, known)
    if model is not None and bundle is not None:
        raise ValueError(f"model is {model!r} and bundle {str(bundle)!r}: pass one of them, not both.")
    if bundle is not None and not runs_networks(slug):
        raise ValueError(f"bundle must be None, not {str(bundle)!r}: the page of {slug} runs no exported networks.")
    if bundle is not None:
        _check_bundle(Path(bundle))
        refuse_links(Path(bundle))
    output, start = Path(output), perf_counter()
    with result_folder(output, overwrite) as folder:
        weights = model or weights_of_page(slug)
        if runs_networks(slug):
            _add_networks(slug, weights, bundle, folder, progress)
        else:
            _add_scene(slug, weights, folder, progress)
        progress("writing the page")
        copy_pages(slug, folder)
        inputs = {"method": slug, "model": weights} if bundle is None else {"method": slug, "bundle": Path(bundle).name}
        write_record(folder, f"static Space of {slug}", inputs, None, perf_counter() - start)
    return output


def weights_of_page(slug: str) -> str:
    """The package's weights that a page runs: the model its README names, where OWNER/NAME is `<slug>-nano`."""
    readme = SPACES / slug / "static" / "README.md"
    front, _ = split_card(readme.read_text(encoding="utf-8"), str(readme))
    return front["models"][0].replace("OWNER/NAME", f"{slug}-nano")


def runs_networks(slug: str) -> bool:
    """Whether a page runs exported networks; another shows a scene, which its own scripts unpack."""
    return any(name.startswith("ort/") for name in _reached_names(slug))


def copy_pages(slug: str, folder: Path) -> None:
    """The scripts and styles that pages share, as far as this one reaches them, then the method's own."""
    shared = [SHARED / name for name in sorted(_reached_names(slug))]
    for file in [*shared, *sorted((SPACES / slug / "static").iterdir())]:
        if file.is_file():
            copy_plain(file, folder / file.name)


def copy_runtime(folder: Path, scratch: Path) -> None:
    """Fetches onnxruntime-web with npm into `scratch` and copies what a page needs.

    Raises:
        OSError: when npm is missing or fails, with its last words.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is missing: install Node.js, which brings it, to build a static page.")
    scratch.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SHARED / name, scratch / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip() and "complete log" not in line]
        raise OSError(f"npm cannot fetch onnxruntime-web: {' '.join(lines[-3:]) or 'it gave no reason'}")
    package = scratch / "node_modules" / "onnxruntime-web"
    folder.mkdir()
    for name in RUNTIME:
        shutil.copyfile(package / name, folder / Path(name).name)
    version = _version(package)
    (folder / "LICENSE").write_text(LICENSE.format(version=version), encoding="utf-8")


def _reached_names(slug: str) -> set[str]:
    """All names of files in quotes in a page, and in those of the shared files that it reaches."""
    waiting = [path for path in (SPACES / slug / "static").iterdir() if path.suffix in READ]
    reached: set[str] = set()
    while waiting:
        names = set(NAME_IN_QUOTES.findall(waiting.pop().read_text(encoding="utf-8"))) - reached
        reached |= names
        waiting += [SHARED / name for name in names if (SHARED / name).is_file()]
    return reached


def _add_networks(
    slug: str, model: str, bundle: str | Path | None, folder: Path, progress: Callable[[str], Any]
) -> None:
    with tempfile.TemporaryDirectory(prefix="pocket-static-") as scratch:
        progress("fetching onnxruntime-web")
        copy_runtime(folder / "ort", Path(scratch) / "npm")
        if bundle is None:
            from pocket_diffusers.pipelines.export.export_bundle import export_pipeline

            bundle = export_pipeline(slug, model, "onnx", "fp32", Path(scratch) / "bundle", progress=progress)
        _copy_bundle(Path(bundle), folder / "model")


def _add_scene(slug: str, model: str, folder: Path, progress: Callable[[str], Any]) -> None:
    from pocket_diffusers.pipelines.loading import load_pipeline

    progress("writing the scene")
    load_pipeline(slug, model, on_cpu=True).to_container(folder / f"scene.{slug}")


def _check_bundle(bundle: Path) -> None:
    if not (bundle / "contract.json").is_file() or not list(bundle.glob("*.onnx")):
        raise FileNotFoundError(f"bundle {str(bundle)!r} is no ONNX export: `pocket export SLUG --to onnx` makes one.")


def _copy_bundle(bundle: Path, folder: Path) -> None:
    wanted = [*bundle.glob("*.json"), *bundle.glob("*.onnx"), *bundle.glob("*/*.json")]
    for file in sorted(set(wanted) - {bundle / "run.json"}):
        copy_plain(file, folder / file.relative_to(bundle))


def _version(package: Path) -> str:
    return json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
