"""A Space without a server: the exported model, onnxruntime-web and the page, put into one folder."""

import json
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

    It holds the pages of `spaces/<slug>/static/` and `spaces/static/`, onnxruntime-web under `ort/` (fetched with npm
    in the exact version of `package-lock.json`) and the ONNX bundle under `model/`. The pages ask nothing of another
    host. For the Hub, OWNER/NAME in its README must be replaced, as `pocket push --static` does. It appears whole or
    not at all.

    Args:
        slug: a key of `METHODS` that has a folder `spaces/<slug>/static/`.
        output: the folder.
        model: weights as `export_pipeline` takes them; None takes those that the page names (see `weights_of_page`).
        bundle: an ONNX bundle in fp32 that was exported before, in place of a new export.
        overwrite: replace an earlier result there.
        progress: called with a few words before each step.

    Raises:
        ValueError: for an unknown method, one without a static page, `model` and `bundle` together, or a bundle with
            a link in it.
        FileNotFoundError: when `bundle` is none.
        OSError: when npm is missing or cannot fetch the package, or the folder cannot be written.
    """
    if slug not in METHODS or not (SPACES / slug / "static").is_dir():
        known = [name for name in METHODS if (SPACES / name / "static").is_dir()]
        raise unknown_name("static page", slug, known)
    if model is not None and bundle is not None:
        raise ValueError(f"model is {model!r} and bundle {str(bundle)!r}: pass one of them, not both.")
    if bundle is not None:
        _check_bundle(Path(bundle))
        refuse_links(Path(bundle))
    output, start = Path(output), perf_counter()
    with result_folder(output, overwrite) as folder, tempfile.TemporaryDirectory(prefix="pocket-static-") as scratch:
        progress("fetching onnxruntime-web")
        copy_runtime(folder / "ort", Path(scratch) / "npm")
        if bundle is None:
            from pocket_diffusers.pipelines.export.export_bundle import export_pipeline

            bundle = export_pipeline(
                slug, model or weights_of_page(slug), "onnx", "fp32", Path(scratch) / "bundle", progress=progress
            )
        progress("writing the page")
        _copy_bundle(Path(bundle), folder / "model")
        copy_pages(slug, folder)
        inputs = {"method": slug, "model": model, "bundle": None if model else str(Path(bundle).name)}
        write_record(folder, f"static Space of {slug}", inputs, None, perf_counter() - start)
    return output


def weights_of_page(slug: str) -> str:
    """The package's weights that a page runs: the model its README names, where OWNER/NAME is `<slug>-nano`."""
    readme = SPACES / slug / "static" / "README.md"
    front, _ = split_card(readme.read_text(encoding="utf-8"), str(readme))
    return front["models"][0].replace("OWNER/NAME", f"{slug}-nano")


def copy_pages(slug: str, folder: Path) -> None:
    """The scripts and styles that all static pages share, then the method's own."""
    for source in (SHARED, SPACES / slug / "static"):
        for file in sorted(source.iterdir()):
            if file.is_file() and not file.name.startswith("package"):
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


def _check_bundle(bundle: Path) -> None:
    if not (bundle / "contract.json").is_file() or not list(bundle.glob("*.onnx")):
        raise FileNotFoundError(f"bundle {str(bundle)!r} is no ONNX export: `pocket export SLUG --to onnx` makes one.")


def _copy_bundle(bundle: Path, folder: Path) -> None:
    wanted = [*bundle.glob("*.json"), *bundle.glob("*.onnx"), *bundle.glob("*/*.json")]
    for file in sorted(set(wanted) - {bundle / "run.json"}):
        copy_plain(file, folder / file.relative_to(bundle))


def _version(package: Path) -> str:
    return json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
