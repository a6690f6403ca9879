"""The steps of the Dockerfile in a clean directory: no container engine runs here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"


@pytest.mark.timeout(240)
@pytest.mark.skipif("CI" not in os.environ, reason="takes a minute: CI=1 runs it")
def test_the_locked_services_install_without_what_only_developers_need(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    shutil.copy(DOCKER / "requirements.lock", source)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("services", "shared"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__")
        )
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", "requirements.lock"], cwd=source, check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "."], cwd=source, check=True)
    veracity = tmp_path / "venv" / "bin" / "veracity"
    for service in ("gateway", "ingest", "trends", "stories", "scoring", "setup", "tail"):
        result = subprocess.run(
            [veracity, service, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert result.returncode == 0, result.stderr
    module = "services.gateway.app, services.publisher.stories, services.scoring.scorer"
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", f"import {module}"], check=True, cwd=tmp_path)


@pytest.mark.parametrize("name", ["Dockerfile", "dashboard.Dockerfile"])
def test_images_are_small_locked_and_not_root(name: str) -> None:
    text = (DOCKER / name).read_text()
    steps = re.sub(r"\\\n", " ", text).splitlines()
    assert sum(step.startswith("FROM") for step in steps) == 2, "what builds is not what runs"
    assert not [step for step in steps if step.startswith("FROM") and (":" not in step or ":latest" in step)]
    users = [step.split()[1] for step in steps if step.startswith("USER")]
    assert users == ["10001"]
    assert "ADD " not in text
    assert all("--require-hashes" in step or "--no-deps" in step for step in steps if "pip install" in step)
    assert "npm install" not in text
    for step in steps:
        if step.startswith("COPY") and "--from" not in step:
            for source in step.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_compose_file_names_commands_that_exist() -> None:
    from services.cli import app

    known = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert {service["command"][0] for name, service in services.items() if name != "nats"} <= known
