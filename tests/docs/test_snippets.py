"""README and pages do what they say: Python blocks run, commands compose and parse, YAML fragments are settings.

Pages with a test module of their own (tests/docs/test_<page>.py) have their Python blocks run there, with what the page
promises about them; all others are run here, in order, each page in a folder with a file to fit and a finished run.
"""

import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir

from homodyne.cli import config_xla, convert, inspect_file, migrate_config
from homodyne.config import schema
from homodyne.config.build import build_model
from homodyne.config.paths import conf_dir
from homodyne.config.validate import check_overrides, validate
from homodyne.data.formats.apsu import write_apsu
from homodyne.simulate import speckle_maps
from tests.docs.pages import PLACE, ROOT, alternatives, blocks, commands, listed, pages, run
from tests.factories import make_fit_result
from tests.reference import FLOW


def own_module(page):
    """The test module that runs the Python blocks of a page; None where this one does."""
    module = Path(__file__).with_name(f"test_{Path(page).stem.lower()}.py")
    return module if module.exists() and "blocks(" in module.read_text(encoding="utf-8") else None


HERE = [page for page in pages() if blocks(page, "python") and own_module(page) is None]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A reader's folder: a file of the beamline, a finished demo, an older configuration, a model of one's own."""
    folder = tmp_path_factory.mktemp("reader")
    phi, t = np.array([-85.0, -40.0, 5.0, 50.0, 80.0]), 0.1 * np.arange(40)
    maps = speckle_maps("laminar_flow", FLOW, phi, t, 0.0054, 2e6, pixels=300)
    cells = [(0, k) for k in range(len(phi))]
    write_apsu(
        folder / "run42_results.hdf", lambda n: maps[n], q=np.array([0.0054]), phi=phi, cells=cells, frame_time_s=0.1
    )
    demo = folder / "outputs" / "demo"
    (demo / "run").mkdir(parents=True)
    shutil.copy(folder / "run42_results.hdf", demo / "demo_results.hdf")
    make_fit_result().save(demo / "run" / "result.nc")
    shutil.copy(ROOT / "tests" / "cli" / "old_laminar.yaml", folder / "old.yaml")
    assert migrate_config.main([str(folder / "old.yaml"), "-o", str(folder / "new.yaml")]) == 0
    for page in pages():
        for language in ("python", "yaml"):
            for text in blocks(page, language):
                if text.startswith("# file: "):
                    path = folder / text.partition("\n")[0].removeprefix("# file: ")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def reader(place, monkeypatch):
    """Working in that folder."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    schema.register()
    return place


@pytest.mark.parametrize("page", HERE)
def test_python_blocks_run(page, reader):
    here = str(reader / "run42_results.hdf")
    run(page, [text.replace(PLACE, here) for text in blocks(page, "python") if not text.startswith("# file: ")])


def test_few_blocks_are_not_run_and_each_has_a_reason():
    left_out = [(page, reason) for page in pages() for _, _, reason in listed(page) if reason is not None]
    assert len(left_out) <= 3, left_out
    assert all(len(reason) > 10 for _, reason in left_out)


def test_languages_of_blocks():
    known = {"python", "bash", "yaml", "text", "{toctree}", "{eval-rst}", ""}
    assert {language for page in pages() for language, _, _ in listed(page)} <= known


@pytest.mark.parametrize("page", [p for p in pages() if commands(p)])
def test_commands(page, reader):
    for words in commands(page):
        check_command(words, reader)


def check_command(words, reader):
    words = [w.replace(PLACE, str(reader / "run42_results.hdf")) for w in words]
    if words[:3] == ["python", "-m", "homodyne.train"]:
        return check_training([w for w in words[3:] if w not in ("...", "…")], reader)
    program, arguments = words[0], words[1:]
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), words
    elif program == "homodyne-inspect":
        assert inspect_file.main(arguments) == 0
    elif program == "homodyne-migrate-config":
        assert migrate_config.main([*arguments, "--overwrite"]) == 0
    elif program == "homodyne-convert":
        convert._parser().parse_args(arguments)
    elif program == "homodyne-config-xla":
        config_xla._parser().parse_args(arguments)
    elif program == "python" and arguments[0].startswith("experiments/"):
        text = (ROOT / arguments[0]).read_text(encoding="utf-8")
        assert all(flag in text for flag in arguments[1:] if flag.startswith("--")), words
    elif program in ENTRY_POINTS:
        text = (ROOT / ENTRY_POINTS[program]).read_text(encoding="utf-8")
        assert all(flag in text for flag in arguments if flag.startswith("-")), words
    else:
        assert program in ELSEWHERE, f"teach tests/docs/test_snippets.py what {words} is"


#: Commands whose options are looked up in their source; and those that are not ours.
ENTRY_POINTS = {
    "homodyne-batch": "homodyne/cli/batch.py",
    "homodyne-import-run": "homodyne/tracking/import_run.py",
    "homodyne-window-scan": "homodyne/cli/window_scan.py",
}
ELSEWHERE = {"createdb", "eval", "mlflow", "pip", "ssh", "source", "taskset", "export"}


def check_training(words, reader):
    """The command composes and passes every check that needs no data, for each job of a sweep."""
    words = list(words)
    folder, name = conf_dir(), "config"
    extra = []
    if "--config-dir" in words:
        at = words.index("--config-dir")
        extra.append(f"file://{(reader / words[at + 1]).resolve()}")
        del words[at : at + 2]
    if "--config-name" in words:
        at = words.index("--config-name")
        folder, name = reader, words[at + 1]
        extra.append(f"file://{conf_dir()}")
        del words[at : at + 2]
    overrides = [w for w in words if w not in ("-m", "--help", "--cfg", "job")]
    check_overrides(overrides)
    simulated = {"dataset=synthetic", "+experiment=posterior_demo"}.intersection(overrides)
    if not simulated and not any(o.startswith("dataset.path=") for o in overrides):
        overrides.append("dataset.path=given_elsewhere")
    search = [f"hydra.searchpath=[{','.join(extra)}]"] if extra else []
    with initialize_config_dir(str(folder), version_base="1.3"):
        for job in alternatives(overrides):
            build_model(validate(compose(name, [*search, *job])))


@pytest.mark.parametrize("page", [p for p in pages() if blocks(p, "yaml")])
def test_yaml_blocks_are_settings(page, tmp_path, reader):
    for text in blocks(page, "yaml"):
        if text.startswith("# file: "):
            continue  # a file of its own, which commands of its page use
        assert isinstance(yaml.safe_load(text), dict)
        (tmp_path / "fragment.yaml").write_text(f"defaults: [config, _self_]\n{text}", encoding="utf-8")
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            composed = compose("fragment", [f"hydra.searchpath=[file://{conf_dir()}]", "dataset.path=given_elsewhere"])
        validate(composed)


def test_links_lead_somewhere():
    for page in pages():
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target:
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_site_finds_every_page():
    """A page that no table of contents names would stop ``make docs``."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in pages():
        stem = Path(page).stem
        assert stem in ("index", "README") or re.search(rf"^{stem}$", index, flags=re.MULTILINE), page


def test_configuration_of_the_site_loads():
    names = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert names["root_doc"] == "docs/index"
    assert (ROOT / "docs" / "_static" / names["html_css_files"][0]).exists()
    assert "latex2mathml" in sys.modules


def test_reference_has_every_public_name_and_setting():
    import homodyne

    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    settings = re.findall(r"^class (\w+)", Path(schema.__file__).read_text(encoding="utf-8"), flags=re.MULTILINE)
    wanted = [*(f"homodyne.{n}" for n in homodyne.__all__), *(f"homodyne.config.schema.{n}" for n in settings)]
    assert [n for n in wanted if not re.search(rf":: {re.escape(n)}\b", text)] == []
