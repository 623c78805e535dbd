"""The command line as a whole: mistakes are told at once, help everywhere, and the console script's own cases."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from locloc.cli import app
from locloc.pipeline.errors import LocLocError

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
masks report s@v1 --out out --root NOWHERE
masks report s@v1 --out out --truth-class 3
masks score s@v1 --truth NOWHERE
masks score s@v1 --truth catalog --truth-class 3
masks serve NOWHERE@v1
masks decide NOWHERE@v1 NOWHERE
masks recipe nosuch
train NOWHERE@v1 --out out
train NOWHERE@v1 --out out --accelerator nosuch
train s@v1 --out out --accelerator cpu --precision fp16
eval
eval NOWHERE
eval NOWHERE@v1 --tau 3
eval NOWHERE --protocol nosuch
eval RUN --split nosuch
eval RUN --truth NOWHERE
eval RUN --truth-class 3
eval RUN --write-score-maps out --json
eval --score-maps IMAGES --metadata IMAGES --catalog cub
predict NOWHERE IMAGES
predict NOWHERE IMAGES --out out --format nosuch
predict RUN IMAGESS --out out
train s@v1 --out IMAGES --resume
bench
bench --device nosuch
bench --quick --precision fp16
bench --quick --keep-tokens 2
bench --masks --images NOWHERE
bench --masks --truth IMAGES
bench --masks --images IMAGES --truth NOWHERE
weights import NOWHERE --out out
weights import IMAGES/a.jpg --out IMAGES
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


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("masks report s@v1 --out out --root nowhere", "--root nowhere: no such folder; name the folder or URL"),
        ("masks report s@v1 --out out --truth-class 3", "--truth-class 3 is of true masks; name them with --truth"),
        ("eval r --masks-in stored", "--masks-in stored is of true masks; name them with --truth"),
        ("eval r --truth masks --masks-in turned", "No --masks-in 'turned'"),
        ("masks score s@v1 --truth catalog --truth-class 3", "--truth-class 3 is of true masks"),
        ("masks score s@v1 --truth . --truth-class cat", "--truth-class cat: masks in files have any, bright"),
        ("masks tune s@v1 --truth nowhere.json", "--truth nowhere.json is not there; name COCO's annotations"),
        ("eval r --split dev", "No --split 'dev'; known: test, train, val"),
        ("eval r --truth nowhere", "--truth nowhere is no folder of masks"),
        ("eval r --write-score-maps o --json", "--json says nothing to --write-score-maps, which evaluates nothing"),
        ("eval r --write-score-maps o --tau sweep", "--tau says nothing to --write-score-maps"),
        ("eval r s --write-score-maps o", "writes the maps of one target: name one RUN"),
        ("eval --score-maps . --metadata . --images .", "--images says nothing to --score-maps, which needs neither"),
        ("train s@v1 --out o --accelerator cpu --precision fp16", "--precision fp16 needs a GPU"),
        ("train s@v1 --out o --accelerator cpu --precision tf32", "--precision tf32 needs a GPU"),
    ],
)
def test_what_would_be_ignored_or_end_the_work_later_is_refused(line, says, tmp_path, monkeypatch):
    (tmp_path / "r" / "generator").mkdir(parents=True)
    (tmp_path / "r" / "generator" / "best.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, LocLocError) and says in str(result.exception)
    assert "\n" not in str(result.exception)


def commands(group, *path):
    for name, one in group.commands.items():
        yield from commands(one, *path, name) if hasattr(one, "commands") else [[*path, name]]


def test_numbers_with_a_range_are_finite(capsys):
    """Click's ranges let NaN pass, and all let infinity pass that have one end."""
    from typer.main import get_command

    root, refused = get_command(app), set()
    for path in commands(root):
        command = root
        for name in path:
            command = command.commands[name]
        required = [p for p in command.params if p.required]
        words = [word for p in required for word in ([p.opts[0]] if p.param_type_name == "option" else []) + ["x"]]
        ranged = [p for p in command.params if isinstance(getattr(getattr(p, "type", p), "min", None), float)]
        for option, value in ((p.opts[0], value) for p in ranged for value in ("nan", "inf", "-inf")):
            with pytest.raises(SystemExit) as left:
                root.main([*path, *words, option, value], "locloc")
            assert left.value.code == 2 and option in capsys.readouterr().err
            refused.add(option)
    assert refused == {"--min-quality", "--sample", "--min-coverage", "--checkpoint-s", "--image-limit-s", "--clean"}


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
