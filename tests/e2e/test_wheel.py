"""The wheel works outside the repository: nothing of it reaches back into the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import asyncio
from eventbus import Event, EventBus
from eventbus.topics import VmCreated

async def main():
    async with EventBus.open("memory://") as bus:
        @bus.on("vm.*", group="announcer")
        async def announce(event: Event[VmCreated]) -> None:
            print(event.data.vm_name)
        await bus.publish(VmCreated(vm_id="1", vm_name="my-vm"))
        await bus.run_until_idle()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment with the wheel. The dependencies are lent by the one the tests run in."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    ours = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    lent = sysconfig.get_path("purelib")
    # A plain path: the .pth files over there are not read, so the editable checkout stays out of sight.
    (Path(ours.strip()) / "lent.pth").write_text(f"{lent}\n")
    return folder / "bin"


def test_the_wheel_holds_four_packages_and_nothing_else(wheel: Path) -> None:
    """No `tests`, no `config`: names that other projects use."""
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"eventbus", "integrations", "registry", "service"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert "eventbus/redis/lua/take.lua" in names
    assert "service/custom_adapter/acme_tickets/adapter.py" in names, "what a new adapter is made of"


def test_a_ten_line_script_on_memory_works(installed: Path, tmp_path: Path) -> None:
    """The first minute of a user."""
    done = subprocess.run(
        [installed / "python", "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "my-vm\n", done.stderr


def test_a_new_adapter_is_made_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """The example that it is made of is inside."""
    command: list[str | Path] = [installed / "eventbus", "integrations", "new", "desk", "--package"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "desk/desk/adapter.py").is_file()


def test_the_command_line_explains_itself(installed: Path, tmp_path: Path) -> None:
    """`eventbus --help` from anywhere."""
    done = subprocess.run(
        [installed / "eventbus", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )

    assert "eventbus demo" in done.stdout
    assert "Exit codes" in done.stdout


def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Every effect arrives once, and nothing stays behind in the folder."""
    done = subprocess.run(
        [installed / "eventbus", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost or doubled." in done.stdout
    assert list(tmp_path.iterdir()) == []
