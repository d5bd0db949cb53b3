"""What stands beside the code: workflows, forms and citation are what their readers take, of one version."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import madyn

HOME = Path(__file__).parents[2]
SCHEMAS = {
    "vendor.github-workflows": sorted(HOME.glob(".github/workflows/*.yml")),
    "vendor.github-issue-forms": [HOME / ".github/ISSUE_TEMPLATE" / name for name in ("bug.yml", "wish.yml")],
    "vendor.github-issue-config": [HOME / ".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": [HOME / ".github/dependabot.yml"],
    "vendor.citation-file-format": [HOME / "CITATION.cff"],
}


def check(schema, *files):
    arguments = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(arguments, capture_output=True, text=True)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_is_what_its_reader_takes(schema):
    assert SCHEMAS[schema]
    run = check(schema, *SCHEMAS[schema])
    assert run.returncode == 0, run.stdout


def test_a_workflow_that_is_none_would_be_found(tmp_path):
    text = (HOME / ".github/workflows/tests.yml").read_text()
    (tmp_path / "wrong.yml").write_text(text.replace("runs-on", "runs-no"))
    assert check("vendor.github-workflows", tmp_path / "wrong.yml").returncode == 1


def test_every_form_is_checked():
    assert {*HOME.glob(".github/**/*.yml")} == {
        file for files in SCHEMAS.values() for file in files if ".github" in str(file)
    }


def test_the_tests_run_on_every_python_that_is_supported():
    import tomllib

    least = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["requires-python"]
    workflow = yaml.safe_load((HOME / ".github/workflows/tests.yml").read_text())
    job = workflow["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"][0] == least.removeprefix(">=")
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_only_the_job_that_publishes_may_ask_for_a_token():
    jobs = yaml.safe_load((HOME / ".github/workflows/release.yml").read_text())["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert jobs["publish"]["environment"] == "pypi"
    assert not re.search(r"run:", yaml.safe_dump(jobs["publish"]))  # nothing of the repository runs where the token is


def test_there_is_one_version(run):
    citation = yaml.safe_load((HOME / "CITATION.cff").read_text())
    assert citation["version"] == madyn.__version__
    assert f"[{madyn.__version__}]" in (text := (HOME / "CHANGELOG.md").read_text()) or (
        f"will be {madyn.__version__}" in text
    )
    assert run("--version")[1] == f"madyn {madyn.__version__}\n"
    from madyn.sweep.machine import versions

    assert versions()["madyn"] == madyn.__version__
    assert madyn.__version__ not in (HOME / "pyproject.toml").read_text()
