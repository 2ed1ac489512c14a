"""What the house promises: rooms, names, the direction of imports, packaging, and every method."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pocket_diffusers
from pocket_diffusers.pipelines import METHODS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pocket_diffusers"

ROOMS = {"hub_models", "pipelines", "training", "eval", "model_cards", "spaces"}
ROOT_FILES = {
    "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "Makefile",
    "__init__.py", "cli.py", ".gitignore",
}  # fmt: skip
LEFT_BY_TOOLS = {
    ".git", ".venv", "build", "dist", "outputs", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis",
    ".import_linter_cache", "pocket_diffusers.egg-info",
}  # fmt: skip

STEMS = {
    "snapgen": "SnapGen", "ascan": "AsCAN", "controlmm": "ControlMM", "lpgs": "LPGS", "fourreal": "FourReal",
    "bitsfusion": "BitsFusion", "sfv": "SFV", "atom": "AToM", "dpdy": "DpDy", "lightspeed": "LightSpeed",
}  # fmt: skip
BANNED_MODULES = {"utils", "helpers", "misc", "common", "tools", "base"}
BUILDING_BLOCKS = {"layers", "rendering", "losses"}

# diffusers writes these paths into model_index.json: a line here may be added, never changed.
COMPONENTS = {
    ("pocket_diffusers.hub_models.unet_snapgen", "SnapGenUNet2DConditionModel"),
    ("pocket_diffusers.hub_models.autoencoder_snapgen", "AutoencoderSnapGen"),
    ("pocket_diffusers.hub_models.transformer_ascan", "AsCANModel"),
    ("pocket_diffusers.hub_models.unet_ascan", "AsCANUNet2DModel"),
    ("pocket_diffusers.hub_models.gaussians_lpgs", "LPGSGaussians"),
    ("pocket_diffusers.hub_models.autoencoder_controlmm", "MotionRVQVAE"),
    ("pocket_diffusers.hub_models.transformer_controlmm", "ControlMMTransformer"),
    ("pocket_diffusers.hub_models.transformer_controlmm", "ControlMMResidualTransformer"),
    ("pocket_diffusers.hub_models.control_branch_controlmm", "ControlMMControlBranch"),
    ("pocket_diffusers.hub_models.length_estimator_controlmm", "ControlMMLengthEstimator"),
    ("pocket_diffusers.hub_models.evaluator_controlmm", "MotionTextEvaluator"),
    ("pocket_diffusers.hub_models.field_lightspeed", "LightSpeedField"),
    ("pocket_diffusers.hub_models.radiance_lightspeed", "LightSpeedRadianceField"),
}
# What its field has a name for is called so, not by the method's stem.
NAMED_BY_THE_FIELD = {"MotionRVQVAE", "MotionTextEvaluator"}
PIPELINES = {
    ("pocket_diffusers.pipelines.pipeline_snapgen", "SnapGenPipeline"),
    ("pocket_diffusers.pipelines.pipeline_ascan", "AsCANPipeline"),
    ("pocket_diffusers.pipelines.pipeline_ascan_classification", "AsCANImageClassificationPipeline"),
    ("pocket_diffusers.pipelines.pipeline_ascan_detection", "AsCANDetectionPipeline"),
    ("pocket_diffusers.pipelines.pipeline_lpgs", "LPGSPipeline"),
    ("pocket_diffusers.pipelines.pipeline_bitsfusion", "BitsFusionPipeline"),
    ("pocket_diffusers.pipelines.pipeline_controlmm", "ControlMMPipeline"),
    ("pocket_diffusers.pipelines.pipeline_lightspeed", "LightSpeedPipeline"),
}

SHARED_RECIPE = "recipe_encoders"  # of the CLIPs that serve all methods
# What every method in METHODS has; another promise is another line.
EVERY_METHOD_HAS = {
    "model file": "hub_models/*_{slug}.py",
    "pipeline": "pipelines/pipeline_{slug}*.py",
    "recipe": "training/recipe_{slug}.py",
    "trained nano weights": "hub_models/checkpoints/{slug}-nano*/model_index.json",
    "export": "pipelines/export/methods/export_{slug}.py",
    "benchmark": "eval/claims/{slug}/benchmark.py",
    "results": "eval/results/{slug}.json",
    "card": "model_cards/{slug}.md",
    "training record": "model_cards/training/{slug}-nano*.json",
    "Space": "spaces/{slug}/app.py",
    "Space's card": "spaces/{slug}/README.md",
    "Space's requirements": "spaces/{slug}/requirements.txt",
    "model test": "tests/hub_models/test_*_{slug}.py",
    "pipeline test": "tests/pipelines/test_pipeline_{slug}*.py",
    "cases of the contracts": "tests/contracts/tiny_{slug}.py",
}
# What only a reader of some other document understands; a paper's section is fine beside the paper's arXiv number.
ELSEWHERE = re.compile(
    r"fact[\s#_]+sheet|open[\s#]+point|the[\s#]+sheet's[\s#]+(?:default|fit)"
    r"|the[\s#]+(?:sheet|plan|issue|brief)[\s#]+(?:asks|says|names|promises|wants|demands)"
    r"|[(,][\s#]*rows?\s\d+[a-z]?(?:-\d+)?[):;,]"
    r"|(?<!arXiv \d{4}\.\d{5}, )\b(?:sections?|supplement|appendix)\s+(?:\d|(?-i:[A-Z]\b))",
    re.IGNORECASE,
)
TEXTS = (".py", ".md", ".js", ".html", ".css", ".toml", "Makefile")

REGISTERED = "pipelines/export/optimum_register"  # installed as optimum.commands.register
ENCODERS = {"clip-nano", "clip-nano-judge"}
MAX_REPOSITORY_BYTES = 8_000_000

CORE = {
    "torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "accelerate", "numpy", "pillow",
    "jaxtyping", "typer", "rich", "zstandard",
}  # fmt: skip
EXTRAS = {
    "train": {"datasets", "peft", "trimesh", "matplotlib", "imageio-ffmpeg"},
    "eval": {"evaluate", "scikit-learn"},
    "demo": {"gradio"},
    "export": {"optimum", "onnx", "onnxruntime", "onnxscript", "executorch"},
}
MODULE_OF = {"scikit-learn": "sklearn", "imageio-ffmpeg": "imageio_ffmpeg"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def files(*suffixes: str, under: str = ".") -> Iterator[Path]:
    """Paths of the checkout relative to its root, without what tools left there or an evaluation is writing."""
    for folder, folders, names in os.walk(ROOT / under):
        folders[:] = sorted(name for name in set(folders) - LEFT_BY_TOOLS if not name.endswith(".partial"))
        for name in sorted(names):
            if not suffixes or name.endswith(suffixes):
                yield (Path(folder) / name).relative_to(ROOT)


def text_of(path: Path) -> str | None:
    """What a file says; None for one that is no text, or too long to be one that a person reads."""
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size < 1_000_000 else None
    except UnicodeDecodeError:
        return None


SCRIPTS = ("tests/", "spaces/", "hub_models/checkpoints/", "eval/metrics/", f"{REGISTERED}/")
"""Code that others load: it is no part of the package, and imports that absolutely."""


def code_files() -> list[Path]:
    """Python files of the package."""
    return [path for path in files(".py") if is_package_code(path)]


def is_package_code(path: Path) -> bool:
    return not path.as_posix().startswith(SCRIPTS)


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def imports(path: Path, nested: bool = True) -> Iterator[tuple[int, str]]:
    """(level, module) of each import statement; without `nested` only those that run when the module is imported."""
    pending: list[ast.AST] = [ast.parse((ROOT / path).read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if nested or not (inside_function or _is_type_checking(node)):
            pending.extend(ast.iter_child_nodes(node))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def run_python(code: str, **environment: str) -> str:
    """Runs code in a fresh process outside the checkout and returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.home(), env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Rooms and names


def test_the_root_holds_only_rooms_and_known_files():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so files of the project and of its user cannot be told apart")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(listing, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    found = {path.partition("/")[0] for path in paths}
    assert found - ROOT_FILES - ROOMS == {"tests", ".ci"}
    assert found >= ROOT_FILES
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run must be executable"


def test_license_is_apache():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("path", list(files(".py")), ids=str)
def test_no_module_has_a_banned_name(path):
    assert not BANNED_MODULES & set(path.with_suffix("").parts), "name the one noun that the module holds"


def test_tests_mirror_the_folders():
    assert not (ROOT / "conftest.py").exists() and not (ROOT / "tests" / "conftest.py").exists()
    for path in files(".py", under="tests"):
        if path.parts[1] == "contracts":  # what holds for every method mirrors no folder
            continue
        source = ROOT.joinpath(*path.parts[1:-1], path.stem.removeprefix("test_"))
        about_an_init = str(path) == "tests/pipelines/test_methods.py"  # METHODS, in pipelines/__init__.py
        if not about_an_init and path.name not in ("conftest.py", "test_architecture.py"):
            assert path.name.startswith("test_"), f"{path} holds no tests"
            there = any(source.with_suffix(suffix).is_file() for suffix in (".py", ".js")) or source.is_dir()
            assert there, f"{path} tests nothing: no {source}"


def test_no_text_refers_to_a_document_that_is_not_here():
    texts = {
        path: (ROOT / path).read_text(encoding="utf-8") for path in files(*TEXTS) if path.name != Path(__file__).name
    }
    found = {str(path): match[0] for path, text in texts.items() if (match := ELSEWHERE.search(text))}
    assert not found, "give the reason itself, or a paper's section after its arXiv number"


A_WHEEL, AN_ADDRESS = r"pocket_diffusers-[\w.*-]+\.whl", r"pocket-diffusers\[\w+\] @ "
FROM_AN_INDEX = re.compile(rf"""pip3? install (?:-\S+ )*['"]?(?!{A_WHEEL}|{AN_ADDRESS})pocket[-_]diffusers""")


def test_nothing_recommends_our_name_on_an_index_that_anybody_may_take_it_on():
    texts = {path: text for path in files() if path.name != Path(__file__).name and (text := text_of(ROOT / path))}
    assert {Path("cli.py"), Path("Makefile"), Path("model_cards/snapgen.md"), Path(".ci/run")} <= texts.keys()
    found = {str(path): match[0] for path, text in texts.items() if (match := FROM_AN_INDEX.search(text))}
    assert not found, "say the extra, and use pocket_diffusers.missing_package in code"


@pytest.mark.parametrize(
    ("text", "asks_an_index"),
    [
        ("pip install pocket-diffusers", True),
        ("pip3 install pocket_diffusers", True),
        ('pip install --upgrade "pocket-diffusers[train]"', True),
        ("pip install 'pocket-diffusers[demo]'", True),
        ("pip install pocket_diffusers-nightly", True),
        ("pip install pocket_diffusers-0.1.0-py3-none-any.whl", False),
        ("pip install 'pocket_diffusers-0.1.0-py3-none-any.whl[train]'", False),
        ("pip install 'pocket-diffusers[demo] @ WHEEL'", False),
        ("pip install -e '.[train]'", False),
    ],
)
def test_such_advice_is_told_from_a_file_of_ours(text, asks_an_index):
    assert (FROM_AN_INDEX.search(text) is not None) == asks_an_index


def test_a_missing_package_is_said_with_its_extra_and_what_brings_it():
    error = pocket_diffusers.missing_package("a plot", "matplotlib", "train")
    assert isinstance(error, ImportError) and str(error) == (
        "a plot needs matplotlib, which comes with the extra 'train': "
        f"pip install 'pocket_diffusers-{pocket_diffusers.__version__}-py3-none-any.whl[train]', "
        "or in a checkout pip install -e '.[train]'."
    )


@pytest.mark.parametrize(
    ("text", "refers"),
    [
        ("width of the time embedding (row 5).", True),
        ("(row 12: 2304 is Gemma-2-2b's)", True),
        ("weights as latent diffusion's (open point 19), with", True),
        ("as if it were missing (fact\n            sheet, 2.5)", True),
        ("# sizes: sections 2.4 and 6", True),
        ("(50 in the list, row 18)", True),
        ("the sheet's default 4.0", True),
        ("# What the issue asks for: every id", True),
        ("(RoFormer, arXiv 2104.09864, section 3.2.2)", False),
        ("SnapGen++'s (arXiv 2601.08303, supplement H)", False),
        ("row 1 of labels.csv is about 'a dog'", False),
        ("with last row 0 0 0 1.", False),
        ("draws the sheet of pairs", False),
        ("compares the record with the plan and the weights", False),
    ],
)
def test_such_a_reference_is_told_from_ordinary_words(text, refers):
    assert (ELSEWHERE.search(text) is not None) == refers


def test_spaces_is_no_package():
    assert not (ROOT / "spaces" / "__init__.py").exists(), "it would hide the library of that name"


def test_component_and_pipeline_files_carry_their_slug():
    for path in (ROOT / "hub_models").glob("[a-z]*.py"):
        assert path.stem == "presets" or path.stem.split("_")[-1] in STEMS, path
    for folder, pattern, position in (("pipelines", "pipeline_*.py", 1), ("training", "recipe_*.py", 1)):
        for path in (ROOT / folder).glob(pattern):
            assert path.stem.split("_")[position] in STEMS or path.stem == SHARED_RECIPE, path


# The direction of imports


def test_layers_by_import_linter():
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    contracts = len(PROJECT["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {contracts} kept, 0 broken." in result.stdout


@pytest.fixture(scope="module")
def import_graph():
    import grimp

    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    assert {module_name(path) for path in code_files()} <= graph.modules
    return graph


def slug_of(module: str) -> str | None:
    """The method that a module belongs to: one of its folders, or a word of its file's name, is a slug."""
    *folders, stem = module.split(".")
    return next((part for part in (*folders, *stem.split("_")) if part in STEMS), None)


def test_methods_never_import_each_other(import_graph):
    """And what belongs to no method imports none: it gets its model as an argument, or finds it by name."""
    for module in import_graph.modules:
        for imported in import_graph.find_modules_directly_imported_by(module):
            assert slug_of(imported) in (None, slug_of(module)), f"{module} -> {imported}"


def test_scripts_of_no_method_import_none():
    """Spaces and metrics too, which the graph of the package does not show."""
    for path in files(".py"):
        if not is_package_code(path) and not path.as_posix().startswith(("tests/", "hub_models/")):
            for _, module in imports(path):
                assert slug_of(module) in (None, slug_of(module_name(path))), f"{path} -> {module}"


def test_building_blocks_import_only_building_blocks(import_graph):
    blocks = tuple(f"{PACKAGE}.hub_models.{room}" for room in BUILDING_BLOCKS)
    for module in import_graph.modules:
        if module.startswith(blocks):
            above = [m for m in import_graph.find_modules_directly_imported_by(module) if not m.startswith(blocks)]
            assert not above, f"{module} -> {above}"


def test_no_circle_of_imports(import_graph):
    """Files can be put in an order in which each imports only earlier ones, inside functions too."""
    waiting = {module: set(import_graph.find_modules_directly_imported_by(module)) for module in import_graph.modules}
    while free := {module for module, imported in waiting.items() if not imported & waiting.keys()}:
        waiting = {module: imported for module, imported in waiting.items() if module not in free}
    assert not waiting, f"these import each other, or files that do: {sorted(waiting)}"


def test_imports_are_relative_inside_and_absolute_outside():
    for path in files(".py"):
        for level, module in imports(path):
            top = module.partition(".")[0]
            second_copy = not level and top in ROOMS - {"spaces"} | {"cli"}
            assert not second_copy, f"{path}: import {module} makes a second copy of each class"
            if is_package_code(path):
                assert level or top != PACKAGE, f"{path}: import {module} relatively"
            else:
                assert not level, f"{path}: import {module} absolutely"


# What an import costs


def test_import_is_quick_and_light():
    code = """
import sys, time
start = time.process_time()  # what the import itself takes, on a busy machine too
import pocket_diffusers
print(time.process_time() - start)
heavy = {"torch", "numpy", "PIL", "diffusers", "transformers", "gradio", "typer"} & set(sys.modules)
assert not heavy, heavy
"""
    assert min(float(run_python(code)) for _ in range(3)) < 0.2


def test_list_of_methods_and_command_need_no_torch():
    run_python("import sys, pocket_diffusers.cli; assert 'torch' not in sys.modules and 'gradio' not in sys.modules")


def test_no_module_imports_an_optional_package_at_its_top():
    optional = {MODULE_OF.get(name, name) for names in EXTRAS.values() for name in names}
    for path in code_files():
        eager = {module.partition(".")[0] for level, module in imports(path, nested=False) if not level} & optional
        assert not eager, f"{path}: import {', '.join(eager)} inside the function that needs it"


def test_every_module_imports_without_the_extras_and_without_cuda():
    hidden = sorted(MODULE_OF.get(name, name) for names in EXTRAS.values() for name in names)
    modules = sorted(module_name(path) for path in code_files())
    code = f"""
import importlib, sys
from importlib.machinery import PathFinder

class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
for module in {modules}:
    importlib.import_module(module)
assert not set({hidden}) & set(sys.modules)
import torch
assert not torch.cuda.is_initialized()
"""
    run_python(code, HF_HUB_OFFLINE="1")


# Names that saved files rely on


def defined_classes(folder: str, pattern: str) -> Iterator[type]:
    for path in sorted((ROOT / folder).glob(pattern)):
        module = importlib.import_module(f"{PACKAGE}.{folder}.{path.stem}")
        yield from (v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)


def test_golden_table_of_components():
    from diffusers import ModelMixin

    classes = defined_classes("hub_models", "[a-z]*_*.py")
    found = {(c.__module__, c.__qualname__) for c in classes if issubclass(c, ModelMixin)}
    assert found == COMPONENTS, "a published class moved, or a new one is not in the table"
    for module, name in COMPONENTS:
        assert STEMS[slug_of(module)] in name or name in NAMED_BY_THE_FIELD
        assert "ModelMixin" in vars(sys.modules[module]), f"{module}: loading looks the mixin up there by name"


def test_golden_table_of_pipelines():
    from diffusers import DiffusionPipeline

    classes = defined_classes("pipelines", "pipeline_*.py")
    assert {(c.__module__, c.__qualname__) for c in classes if issubclass(c, DiffusionPipeline)} == PIPELINES
    listed = {target for tasks in METHODS.values() for target in tasks.values()}
    assert listed == {f"{module.rpartition('.')[2]}:{name}" for module, name in PIPELINES}


def test_public_names_load_lazily_and_are_unambiguous():
    assert {name for _, name in COMPONENTS | PIPELINES} | {"METHODS", "load_pocketworld"} <= set(dir(pocket_diffusers))
    for name in dir(pocket_diffusers):
        assert getattr(pocket_diffusers, name) is not None
    sources = [*(ROOT / "hub_models").glob("[a-z]*_*.py"), *(ROOT / "pipelines").glob("pipeline_*.py")]
    names = [name for path in sources for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), re.MULTILINE)]
    assert len(names) == len(set(names))


def test_unknown_public_name_gets_a_hint():
    with pytest.raises(AttributeError, match="has no attribute 'SnapgenPipeline'") as error:
        _ = pocket_diffusers.SnapgenPipeline
    assert error.value.name == "SnapgenPipeline" and error.value.obj is pocket_diffusers


# Methods


@pytest.mark.parametrize("promise", EVERY_METHOD_HAS)
@pytest.mark.parametrize("slug", METHODS)
def test_every_method_is_complete(slug, promise):
    pattern = EVERY_METHOD_HAS[promise].format(slug=slug)
    assert list(ROOT.glob(pattern)), f"{slug} lacks its {promise}: {pattern}"


@pytest.mark.parametrize("slug", METHODS)
def test_card_says_why_each_choice_was_made(slug):
    text = (ROOT / "model_cards" / f"{slug}.md").read_text(encoding="utf-8")
    choices = re.search(r"^## Choices$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert choices, "the card has no section Choices"
    tables = re.findall(r"^\|.*\n(?:\|.*\n)+", choices[1], re.MULTILINE)
    assert tables
    for head, _, *rows in (table.splitlines() for table in tables):
        assert head.startswith("| field |") and head.endswith("| what the paper says | why |") and rows
        assert all(cell.strip() for row in rows for cell in row.strip("|").split("|")), "a cell says nothing"


@pytest.mark.parametrize("name", [*(f"recipe_{slug}" for slug in METHODS), SHARED_RECIPE])
def test_recipe_has_the_interface_of_the_command(name):
    from inspect import signature

    from pocket_diffusers.training.stages import Stage

    recipe = importlib.import_module(f"{PACKAGE}.training.{name}")
    assert list(signature(recipe.run).parameters) == ["stage", "preset", "output", "resume", "seed", "overrides"]
    assert recipe.STAGES and all(type(stage) is Stage and "nano" in stage.presets for stage in recipe.STAGES.values())
    assert any("paper" in stage.presets for stage in recipe.STAGES.values()) == (name != SHARED_RECIPE)


def checkpoints() -> list[Path]:
    return sorted(path for path in (ROOT / "hub_models" / "checkpoints").glob("*") if path.is_dir())


@pytest.mark.parametrize("folder", checkpoints(), ids=lambda path: path.name)
def test_committed_checkpoints(folder):
    assert pocket_diffusers.checkpoint(folder.name).samefile(folder)
    contents = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in contents) <= MAX_REPOSITORY_BYTES
    pickles = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
    assert not [path for path in contents if path.suffix in pickles], "weights are safetensors only"
    assert (folder / "README.md").is_file()
    if folder.name in ENCODERS:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in contents}
        return
    slug = folder.name.partition("-nano")[0]
    if not (folder / "model_index.json").is_file():  # a single model, such as one that judges
        name = json.loads((folder / "config.json").read_text())["_class_name"]
        assert slug in STEMS and (getattr(pocket_diffusers, name).__module__, name) in COMPONENTS
        return
    index = json.loads((folder / "model_index.json").read_text())
    ours = {tuple(pair) for pair in index.values() if isinstance(pair, list) and str(pair[0]).startswith(PACKAGE)}
    assert slug in STEMS and ours <= COMPONENTS
    shim, pipeline = index["_class_name"]
    assert shim.startswith(f"pipeline_{slug}") and (folder / f"{shim}.py").is_file()
    assert (f"{PACKAGE}.pipelines.{shim}", pipeline) in PIPELINES


def test_the_shared_encoders_are_there():
    assert {folder.name for folder in checkpoints()} >= ENCODERS


def test_unknown_checkpoint_names_the_nearest():
    with pytest.raises(ValueError, match=r"checkpoint 'snapgen' is unknown.*nearest: 'snapgen-nano'"):
        pocket_diffusers.checkpoint("snapgen")


# Packaging


def test_packages_are_the_folders_with_code():
    folders = {path.parent for path in code_files()}
    listed = set(PROJECT["tool"]["setuptools"]["packages"]) - {"optimum.commands.register"}
    assert listed == {module_name(folder / "__init__.py") for folder in folders}
    missing = [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()]
    assert not missing, f"no __init__.py in {missing}"


def test_dependencies_and_extras_are_those_listed_here():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    assert {Requirement(line).name for line in project["dependencies"]} == CORE
    assert {name: {Requirement(line).name for line in extras[name]} for name in EXTRAS} == EXTRAS
    assert Requirement(extras["all"][0]).extras == set(EXTRAS)
    assert set(extras) == set(EXTRAS) | {"all", "test"}


def test_bounds_hold_the_exact_versions_of_constraints():
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    assert not [line for line in lines if "+" in line], "a local version cannot be installed elsewhere"
    extras = PROJECT["project"]["optional-dependencies"]
    installed_by_make = [extras[name] for name in extras if name != "all"]
    for line in sum(installed_by_make, PROJECT["project"]["dependencies"]):
        requirement = Requirement(line)
        assert pinned[_canonical(requirement.name, pinned)] in requirement.specifier, line
        operators = {specifier.operator for specifier in requirement.specifier}
        assert ">=" in operators and ("<" in operators or requirement.name == "setuptools"), line


def _canonical(name: str, pinned: dict[str, str]) -> str:
    by_lower = {key.lower().replace("_", "-"): key for key in pinned}
    return by_lower[name.lower().replace("_", "-")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a copy of the checkout, so that nothing left by earlier builds gets in."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, place / "checkout", ignore=lambda folder, names: LEFT_BY_TOOLS & set(names))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, place / "checkout"]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(next(place.glob("*.whl"))) as archive:
        yield archive


def test_wheel_holds_all_code_and_data_and_nothing_else(wheel):
    shipped = {name.removeprefix(f"{PACKAGE}/") for name in wheel.namelist() if name.startswith(f"{PACKAGE}/")}
    data = [*files(under="hub_models/checkpoints"), *files(".json", ".png", under="eval/results")]
    data += [*files(".jsonl", under="training/datasets/pocketworld"), *files(".md", ".json", under="model_cards")]
    data += [*files(under="eval/metrics"), *files(under="spaces"), *files(".cpp", ".hpp")]
    data += [path for path in files(".json", under="hub_models") if len(path.parts) == 2]
    data += files(".txt", under="eval/claims")
    expected = {str(path) for path in [*code_files(), *data]}
    assert any(name.endswith("prompts.jsonl") for name in expected)
    assert shipped == expected
    others = {name for name in wheel.namelist() if not name.startswith(f"{PACKAGE}/")}
    registered = f"optimum/commands/register/{next((ROOT / REGISTERED).glob('*.py')).name}"
    assert {name for name in others if ".dist-info/" not in name} == {registered}
    assert any(name.endswith("LICENSE") for name in others)


def test_wheel_metadata(wheel):
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(names["METADATA"]).decode())
    assert metadata["Name"] == "pocket-diffusers"
    assert metadata["Version"] == pocket_diffusers.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "pocket = pocket_diffusers.cli:main" in wheel.read(names["entry_points.txt"]).decode()


def test_versions_agree():
    version = pocket_diffusers.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
