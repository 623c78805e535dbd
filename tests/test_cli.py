"""The command line as a whole: mistakes are told at once, help everywhere, and the console script's own cases."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from locloc.cli import app

MISTAKES = """
nosuch
masks build
masks build NOWHERE --store s
masks build IMAGES --store s --catalog nosuch
masks build IMAGES --store s --recipe nosuch
masks build IMAGES --store s --workers zero
masks build IMAGES --store IMAGES
masks build IMAGES --store IMAGES/a.jpg/s
masks build IMAGES --store s --weights NOWHERE
masks list NOWHERE
masks show NOWHERE@v1
masks resume NOWHERE
masks resume s --scheduler a --slurm b
masks retry NOWHERE@v1
masks retry NOWHERE@v1 --status nosuch
masks refine NOWHERE@v1 --recipe locloc
masks extend NOWHERE@v1 IMAGES
masks score NOWHERE@v1 --truth IMAGES
masks export NOWHERE@v1 out
masks report NOWHERE@v1 --out out
masks report NOWHERE@v1 --out out --all --sample 3
masks serve NOWHERE@v1
masks decide NOWHERE@v1 NOWHERE
masks recipe nosuch
train NOWHERE@v1 --out out
train NOWHERE@v1 --out out --accelerator nosuch
eval
eval NOWHERE
eval NOWHERE@v1 --tau 3
eval NOWHERE --protocol nosuch
predict NOWHERE IMAGES
predict NOWHERE IMAGES --out out --format nosuch
predict RUN IMAGESS --out out
train s@v1 --out IMAGES --resume
bench
bench --device nosuch
bench --masks --images NOWHERE
weights import NOWHERE --out out
data synth
data synth IMAGES
demo IMAGES
"""

CODE = """
import sys
from locloc.cli import app
for line in sys.stdin.read().split("\\n"):
    try:
        app(line.split(), prog_name="locloc")
    except BaseException as error:
        assert not (isinstance(error, SystemExit) and not error.code), line
        assert not {"torch", "timm", "dask", "numba", "matplotlib"} & set(sys.modules), line
    else:
        raise AssertionError(line)
"""


def test_mistakes_in_arguments_are_told_without_torch(tmp_path):
    """Importing torch takes seconds."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    (tmp_path / "run" / "generator").mkdir(parents=True)
    (tmp_path / "run" / "generator" / "best.safetensors").touch()
    lines = MISTAKES.strip().replace("NOWHERE", "nowhere").replace("IMAGES", "images").replace("RUN", "run")
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=lines, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


def commands(group, *path):
    for name, one in group.commands.items():
        yield from commands(one, *path, name) if hasattr(one, "commands") else [[*path, name]]


def test_every_command_has_help_by_both_names_within_80_columns():
    from typer.main import get_command

    for words in [[], ["masks"], *commands(get_command(app))]:
        short, long = (CliRunner().invoke(app, [*words, flag], env={"COLUMNS": "80"}) for flag in ("-h", "--help"))
        assert short.exit_code == 0 and short.stdout == long.stdout, words
        assert max(map(len, short.stdout.splitlines())) <= 80


def test_bench_alone_prints_its_help():
    assert "--compare-ppd" in CliRunner().invoke(app, ["bench"]).output


def locloc(*arguments, shell: str = "", cwd=None, **variables):
    command = f"exec '{sys.executable}' -m locloc {' '.join(arguments)} {shell}"
    env = os.environ | {"COLUMNS": "80"} | variables
    return subprocess.run(command, shell=True, env=env, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("> /dev/full", 1, "error: standard output: no space left on device;"),
        ("| (exec 0<&-; sleep 0.1)", 0, ""),
    ],
)
def test_standard_output_may_be_closed_or_full(shell, code, says):
    done = locloc("masks", "recipe", shell=shell)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr


def test_a_closed_pipe_ends_a_command_as_sigpipe_would():
    code = "import sys; from locloc.__main__ import main; sys.argv[1:] = ['masks', 'recipe']; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONWARNINGS": "error"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "20"},
        {"TERM": "dumb", "NO_COLOR": "1"},
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
        {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"},
        {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "nosuch", "DASK_SCHEDULER_ADDRESS": "tcp://nowhere:1"},
    ],
    ids=str,
)
def test_a_build_in_an_odd_environment(tmp_path, variables):
    from locloc.pipeline.synthetic import write_dataset

    write_dataset(tmp_path / "s", 3, 1, 0)
    done = locloc("masks", "build", "s/images", "--store", "é.store", "--workers", "1", cwd=tmp_path, **variables)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "3 of 3 images" in done.stdout


@pytest.mark.slow
def test_a_broken_configuration_of_dask_is_one_line(tmp_path):
    (tmp_path / ".config" / "dask").mkdir(parents=True)
    (tmp_path / ".config" / "dask" / "distributed.yaml").write_text("a: [1\n")
    (tmp_path / "a.jpg").touch()
    done = locloc("masks", "build", ".", "--store", "m.store", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("error: The library dask cannot be imported: A dask config")
    assert len(done.stderr.splitlines()) == 1
