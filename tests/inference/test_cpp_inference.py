"""The C++ program computes what the networks compute: export, preprocess.py, program, postprocess.py."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zlib
from importlib.metadata import version
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import toy_finetuning
import toy_ner
import toy_squad
from mindspore import Tensor, nn
from paths import REPOSITORY

import export
import postprocess
import preprocess
import run_classifier
import run_ner
import run_squad
from src.bert_for_pre_training import initialize_parameters
from src.errors import UserError
from src.files import make_output_dir
from src.tasks.registry import load_task_config, task_type
from src.weights import save_weights

SOURCES = REPOSITORY / "ascend310_infer"
LAUNCHER = REPOSITORY / "scripts" / "run_infer_cpp.sh"
HEADERS = "MINDSPORE_LITE_HEADERS"  # names a directory that holds include/api/model.h
WIDTH = 5
EVALUATE = {"do_train": "false", "load_pretrain_checkpoint_path": "", "length_grouping": "none"}


# ---------------------------------------------------------------- the program

@pytest.fixture(scope="session")
def build(request, tmp_path_factory):
    """(directory of the program, environment to build and run it in); kept between the sessions of a clone."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    for found, what in ((shutil.which("cmake"), "cmake"), (compiler, "a C++ compiler"),
                        (Path(sysconfig.get_path("include"), "Python.h").is_file(), "Python's header files")):
        if not found:
            pytest.skip(f"the C++ program cannot be built here: {what} is absent")
    environment = os.environ | {"PYTHON": sys.executable, "CMAKE_BUILD_TYPE": "Debug", "GLOG_v": "3"}
    for name in ("LITE_HOME", "MS_LITE_HOME"):
        environment.pop(name, None)
    temporary = tmp_path_factory.mktemp("build")
    (temporary / "empty.cc").write_text("int main() {}\n")
    if subprocess.run([compiler, "-fsanitize=address,undefined", "empty.cc"], cwd=temporary, check=False,
                      capture_output=True).returncode == 0:
        # MindSpore's own pool of memory, which it never gives back, is not ours to judge.
        (temporary / "suppressions").write_text("leak:libmindspore_\nleak:_c_expression\nleak:libpython\n")
        environment |= {"SANITIZE": "address,undefined", "UBSAN_OPTIONS": "halt_on_error=1",
                        "LSAN_OPTIONS": f"suppressions={temporary / 'suppressions'}:print_suppressions=0"}
    cache = getattr(request.config, "cache", None)  # which -p no:cacheprovider takes away
    name = f"ascend310_infer-{version('mindspore')}-{sys.version_info.minor}"
    directory = cache.mkdir(name) if cache else temporary
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two sessions one waits
        done = subprocess.run(["bash", str(SOURCES / "build.sh"), str(directory)], env=environment, check=False,
                              capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory, environment


@pytest.fixture(scope="session")
def run(build):
    """Run the program on the CPU in a directory."""
    directory, environment = build

    def run_in(place: Path, *arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run([str(directory / "main"), "--device_type", "CPU", *map(str, arguments)], cwd=place,
                              env=environment, check=False, capture_output=True, text=True, timeout=120)
    return run_in


# ---------------------------------------------------------------- scores

def classifier_options(folder):
    toy_finetuning.write_rows(folder / "dev.mindrecord", toy_finetuning.toy_rows(21, seed=1))
    (folder / "labels.txt").write_text("zero\none\ntwo\n", encoding="utf-8")
    return toy_finetuning.tiny_options(folder, folder, label_file_path=folder / "labels.txt", eval_batch_size=8,
                                       export_batch_size=4, **EVALUATE)


def ner_options(use_crf):
    def options(folder):
        toy_ner.write_toy_data(folder)
        return toy_ner.ner_options(folder, folder, use_crf=use_crf, with_lstm=use_crf, eval_batch_size=8,
                                   export_batch_size=0, **EVALUATE)
    return options


def squad_options(folder):
    toy_squad.write_toy(folder, dev=toy_squad.toy_squad(12, longest=8))
    return toy_squad.tiny_options(folder, folder, eval_batch_size=8, export_batch_size=0, **EVALUATE)


TASKS = {"classifier": ("run_classifier", run_classifier.main, classifier_options),
         "ner": ("run_ner", run_ner.main, ner_options("false")),
         "ner_crf": ("run_ner", run_ner.main, ner_options("true")),
         "squad": ("run_squad", run_squad.main, squad_options)}


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Give, for a task, (folder with model, checkpoint and data, options of its configuration)."""
    made = {}

    def exported_task(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(f"infer {name}")
            description, _, options_of = TASKS[name]
            options = options_of(folder)
            config = load_task_config("", ["--description", description, *options])
            network = task_type(description).from_config(config).inference_network()
            initialize_parameters(network, 0.6, seed=3)
            save_weights(network, folder / "a.ckpt")
            export.main(["--description", description, *options, "--export_ckpt_file", str(folder / "a.ckpt"),
                         "--export_file_name", str(folder / "bert")])
            made[name] = folder, options
        return made[name]
    return exported_task


def data_options(folder, options):
    """What describes the data, and nothing that the model's description knows."""
    pairs = list(zip(options[::2], options[1::2], strict=True))
    return [part for key, value in pairs for part in (key, value)
            if key in ("--eval_data_file_path", "--label_file_path", "--vocab_file_path", "--eval_json_path")]


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_those_of_python(name, exported, run, tmp_path, capsys):
    folder, options = exported(name)
    preprocess.main(["--model_path", str(folder / "bert.mindir"), "--task", name, *data_options(folder, options),
                     "--result_path", str(tmp_path / "preprocess_Result")])
    done = run(tmp_path, "--model_path", folder / "bert.mindir")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    found = postprocess.main(["--preprocess_path", str(tmp_path / "preprocess_Result"),
                              "--result_path", str(tmp_path / "result_Files"),
                              "--predictions_file", str(tmp_path / "cpp.json")])
    printed = capsys.readouterr().out.splitlines()[-1]
    wanted = TASKS[name][1]([*options, "--do_eval", "true", "--load_finetune_checkpoint_path", str(folder / "a.ckpt"),
                             "--predictions_file", str(tmp_path / "python.json")])
    assert found == wanted and printed == capsys.readouterr().out.splitlines()[-1]
    predictions = (tmp_path / "cpp.json").read_text(encoding="utf-8")
    assert predictions == (tmp_path / "python.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_model_for_ascend(exported, run, tmp_path):
    """It has the operators of an Ascend, which the CPU has too, and a batch size of those that its file allows."""
    folder, options = exported("classifier")
    export.main(["--description", "run_classifier", *options, "--export_ckpt_file", str(folder / "a.ckpt"),
                 "--export_file_name", str(tmp_path / "bert"), "--export_target", "ascend", "--export_batch_size", "0"])
    preprocess.main(["--model_path", str(tmp_path / "bert.mindir"), *data_options(folder, options),
                     "--result_path", str(tmp_path / "preprocess_Result")])
    done = run(tmp_path, "--model_path", tmp_path / "bert.mindir")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "result_Files").iterdir()} == {
        "classifier_bs16_0_0.bin", "classifier_bs16_1_0.bin"}  # eval_batch_size is 8
    found = postprocess.main(["--preprocess_path", str(tmp_path / "preprocess_Result"),
                              "--result_path", str(tmp_path / "result_Files")])
    wanted = run_classifier.main([*options, "--do_eval", "true", "--load_finetune_checkpoint_path",
                                  str(folder / "a.ckpt")])
    assert found == pytest.approx(wanted, rel=1e-4)


def test_files_have_the_documented_names(exported, run, tmp_path):
    folder, options = exported("classifier")
    preprocess.main(["--model_path", str(folder / "bert.mindir"), *data_options(folder, options),
                     "--result_path", str(tmp_path / "preprocess_Result")])
    inputs = tmp_path / "preprocess_Result"
    assert {path.name for path in inputs.iterdir()} == {"00_data", "01_data", "02_data", "03_data", "manifest.json"}
    names = [f"classifier_bs4_{index}" for index in range(6)]
    assert sorted(path.name for path in (inputs / "03_data").iterdir()) == [f"{name}.bin" for name in names]
    rows = toy_finetuning.toy_rows(21, seed=1)
    first = np.fromfile(inputs / "00_data" / "classifier_bs4_0.bin", np.int32).reshape(4, -1)
    np.testing.assert_array_equal(first, rows["input_ids"][:4])
    assert run(tmp_path, "--mindir_path", folder / "bert.mindir", *(
        f"--input{i}_path={inputs}/{i:02d}_data" for i in range(3))).returncode == 0
    results = tmp_path / "result_Files"
    assert sorted(path.name for path in results.iterdir()) == [f"{name}_0.bin" for name in names]
    assert (results / f"{names[0]}_0.bin").stat().st_size == 4 * 3 * 4
    times = (tmp_path / "time_Result" / "test_perform_static.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in times] == ["loading the model", "first run", "further runs"]
    assert times[2].startswith("further runs: 5, average ") and " p50 " in times[2] and " p90 " in times[2]


def test_launcher(exported, build, tmp_path):
    folder, _ = exported("classifier")
    place = tmp_path / "a place"
    place.mkdir()
    directory, environment = build
    arguments = [folder / "bert.mindir", folder / "labels.txt", folder / "dev.mindrecord", "mindrecord", ""]

    def launch(*further):
        return subprocess.run(["bash", str(LAUNCHER), *map(str, arguments), *further], cwd=place, check=False,
                              env=environment | {"BUILD_DIR": str(directory)}, capture_output=True, text=True,
                              timeout=300)
    done = launch("Classifier", "", "", "y", "CPU", "0")
    assert done.returncode == 0, done.stderr
    line = (place / "acc.log").read_text()
    assert line.startswith("acc_num ") and "total_num 21, accuracy " in line and line in done.stdout
    done = launch("squad", "", "", "y", "CPU")
    assert done.returncode == 2 and done.stderr.startswith("error: --task: found squad, but the model is of classifier")
    assert (place / "acc.log").read_text() == ""
    done = launch("squad", "", "", "n", "CPU")  # with the input files of the first run
    assert done.returncode == 2 and "error: --task: found squad, but preprocess_Result holds the input" in done.stderr
    about = json.loads((folder / "bert.json").read_text())
    (folder / "other.json").write_text(json.dumps(about | {"vocab_size": 7}))
    arguments[0] = shutil.copyfile(folder / "bert.mindir", folder / "other.mindir")
    done = launch("classifier", "", "", "n", "CPU")
    assert done.returncode == 2 and "other.mindir is not the model that preprocess_Result" in done.stderr
    arguments[0] = folder / "bert.mindir"
    done = launch("ner", "n", "Ascend")
    assert (done.returncode, done.stderr.startswith("error: DEVICE_TYPE: Ascend needs MindSpore Lite")) == (2, True)


@pytest.mark.parametrize("arguments", [
    [], ["a.mindir", "", "", "mindrecord", "", "ner", "", "", "y"], ["a.mindir", "", "", "", "", "poet", "y", "CPU"],
    ["a.mindir", "", "", "", "", "ner", "", "", "maybe", "CPU"], ["a.mindir", "", "", "", "", "ner", "y", "TPU"],
    ["a.mindir", "", "", "", "", "sqaud", "", "", "y", "CPU", "first"],
])
def test_launcher_with_wrong_arguments(arguments, tmp_path):
    done = subprocess.run(["bash", str(LAUNCHER), *arguments], cwd=tmp_path,
                          check=False, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("usage: bash ")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- a model of four inputs, and mistakes

class FourInputs(nn.Cell):
    """Tells its inputs apart."""

    def construct(self, first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> tuple[Tensor, Tensor]:
        """Map four int32 [B,S] to two."""
        return first + 10 * second + 100 * third + 1000 * fourth, first - second


@pytest.fixture(scope="session")
def four_inputs(tmp_path_factory):
    """The model, which takes any batch."""
    path = tmp_path_factory.mktemp("four") / "four.mindir"
    ms.export(FourInputs(), *[Tensor(shape=(None, WIDTH), dtype=ms.int32)] * 4, file_name=str(path),
              file_format="MINDIR")
    return path


@pytest.fixture
def inputs(tmp_path):
    """Input files of two batches, of two rows and of three."""
    for number in range(4):
        folder = make_output_dir(tmp_path / "preprocess_Result" / f"{number:02d}_data", "")
        for name, rows in (("a", 2), ("b", 3)):
            np.full((rows, WIDTH), number + 1, np.int32).tofile(folder / f"{name}.bin")
    return tmp_path / "preprocess_Result"


def test_inputs_and_batches_are_those_of_the_model(four_inputs, inputs, run, tmp_path):
    done = run(tmp_path, "--model_path", four_inputs)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "result_Files"
    assert sorted(path.name for path in results.iterdir()) == ["a_0.bin", "a_1.bin", "b_0.bin", "b_1.bin"]
    np.testing.assert_array_equal(np.fromfile(results / "a_0.bin", np.int32), np.full(2 * WIDTH, 4321))
    np.testing.assert_array_equal(np.fromfile(results / "b_1.bin", np.int32), np.full(3 * WIDTH, -1))


CONFIG = """[ascend_context]
precision_mode=preferred_fp32

[acl_option_cfg_param]
input_shape=first:-1,5;second:-1,5;third:-1,5;fourth:-1,5
dynamic_batch_size={}
"""


@pytest.mark.parametrize(("config", "message"), [
    (CONFIG.partition("\n\n")[0], ""),
    ("precision_mode=preferred_fp32\n", "four.lite.ini: cannot load this configuration: it has no .section."),
    (CONFIG.format("1,2,4"), "00_data/b.bin: has 3 rows, expected one of 1, 2, 4, for which four.lite.ini compiles"),
    (CONFIG.format("1,many"), "four.lite.ini: dynamic_batch_size: found '1,many', expected sizes such as 1,4,16"),
])
def test_the_configuration_beside_a_model(config, message, four_inputs, inputs, run, tmp_path):
    shutil.copy(four_inputs, tmp_path / "four.mindir")
    (tmp_path / "four.lite.ini").write_text(config)
    done = run(tmp_path, "--model_path", "four.mindir")
    assert done.returncode == (2 if message else 0), done.stderr
    assert re.search(message, done.stderr) and done.stderr.count("\n") == bool(message)
    assert bool(list((tmp_path / "result_Files").iterdir())) == (not message)


def drop(name):
    return lambda inputs: (inputs / name).unlink()


def resize(name, size):
    return lambda inputs: (inputs / name).write_bytes(bytes(size))


@pytest.mark.parametrize(("change", "message"), [
    (drop("02_data/b.bin"), "00_data/b.bin: there is no file of this name in ./preprocess_Result/02_data"),
    (drop("00_data/b.bin"), "01_data/b.bin: there is no file of this name in ./preprocess_Result/00_data"),
    (resize("01_data/b.bin", 59), "01_data/b.bin: has 59 bytes, expected rows of 20 bytes for the input second"),
    (resize("00_data/b.bin", 0), "00_data/b.bin: has 0 bytes, expected rows of 20 bytes for the input first"),
    (resize("03_data/b.bin", 40), "03_data/b.bin: has 2 rows, but ./preprocess_Result/00_data/b.bin has 3"),
    (lambda inputs: shutil.rmtree(inputs / "03_data"), "03_data: cannot read this directory of inputs: No such file"),
])
def test_input_files_that_do_not_fit(change, message, four_inputs, inputs, run, tmp_path):
    change(inputs)
    done = run(tmp_path, "--model_path", four_inputs)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert not list((tmp_path / "result_Files").iterdir()) and not list((tmp_path / "time_Result").iterdir())


def test_no_input_file_at_all(four_inputs, inputs, run, tmp_path):
    for path in inputs.glob("00_data/*.bin"):
        path.unlink()
    done = run(tmp_path, "--model_path", four_inputs)
    assert done.returncode == 2 and "00_data: no .bin file in this directory" in done.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "--model_path is not set"),
    (["--model_path"], "--model_path needs a value"),
    (["model.mindir"], "unexpected 'model.mindir'"),
    (["--model", "a"], "unknown option --model;"),
    (["--inputs_path", "a"], "unknown option --inputs_path;"),
    (["--device_type", "TPU"], "--device_type: found 'TPU', expected Ascend, GPU or CPU"),
    (["--device_id", "-1"], "--device_id: found '-1', expected the number of a device"),
    (["--model_path", "absent.mindir"], "there is no file absent.mindir"),
    (["--model_path", "four.mindir", "--result_path", "four.mindir/results"], "cannot write to the directory"),
    (["--model_path", "four.mindir", "--device_type", "Ascend"], "cannot load this model for Ascend: .* CPU only"),
    (["--model_path", "cut.mindir"], "cut.mindir: cannot load this model for CPU: "),
    (["--model_path", "float.mindir"], "its input input is not of int32 numbers"),
])
def test_mistakes_on_the_command_line(arguments, message, four_inputs, inputs, run, tmp_path):
    if "cut.mindir" in arguments:
        (tmp_path / "cut.mindir").write_bytes(four_inputs.read_bytes()[:300])
    if "float.mindir" in arguments:
        ms.export(nn.ReLU(), Tensor(np.zeros((2, 2), np.float32)), file_name=str(tmp_path / "float"),
                  file_format="MINDIR")
    shutil.copy(four_inputs, tmp_path / "four.mindir")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    last = done.stderr.splitlines()[-1]  # MindSpore logs errors of its own before
    assert last.startswith("error: ")
    assert re.search(message, last)
    assert not list(tmp_path.glob("result_Files/*")) and not list(tmp_path.rglob(".writing-*"))


def test_an_interrupted_run_leaves_nothing(four_inputs, inputs, build, tmp_path):
    directory, environment = build
    process = subprocess.Popen([directory / "main", "--device_type", "CPU", "--model_path", four_inputs], cwd=tmp_path,
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("time_Result/.writing-*")) and process.poll() is None:
        time.sleep(0.01)
    process.terminate()  # while it loads the model
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and output == ""
    assert errors == "error: interrupted after 0 of 2 batches; no result was written\n"
    assert not list(tmp_path.glob("result_Files/*")) and not list(tmp_path.rglob(".writing-*"))


def test_a_killed_run_is_cleaned_up_after_and_a_live_one_is_not(four_inputs, inputs, build, run, tmp_path):
    directory, environment = build
    (tmp_path / "pipe.mindir").write_bytes(four_inputs.read_bytes())
    os.mkfifo(tmp_path / "pipe.json")  # the program waits for its description
    process = subprocess.Popen([directory / "main", "--device_type", "CPU", "--model_path", "pipe.mindir"],
                               cwd=tmp_path, env=environment)
    while not (left := list(tmp_path.glob("time_Result/.writing-*"))) and process.poll() is None:
        time.sleep(0.01)
    for is_alive in (True, False):
        if not is_alive:
            process.kill()
            process.wait()
        run(tmp_path, "--model_path", "absent.mindir")
        assert [path.exists() for path in left] == [is_alive]


def test_a_damaged_model_is_refused(four_inputs, run, tmp_path):
    content = bytearray(four_inputs.read_bytes())
    content[2 * len(content) // 3] ^= 1
    (tmp_path / "a.mindir").write_bytes(content)
    shutil.copy(four_inputs, tmp_path / "b.mindir")
    for name, checksum in (("a", zlib.crc32(four_inputs.read_bytes())), ("b", zlib.crc32(content))):
        (tmp_path / f"{name}.json").write_text(json.dumps({"crc32": f"{checksum:08x}"}, indent=1))
        done = run(tmp_path, "--model_path", f"{name}.mindir")
        assert done.returncode == 2
        assert done.stderr == (f"error: --model_path: {name}.mindir is damaged: {name}.mindir does not match its "
                               f"checksum; export it anew\n")


def test_a_fixed_batch_needs_files_of_its_size(exported, run, tmp_path):
    folder, options = exported("classifier")
    preprocess.main(["--model_path", str(folder / "bert.mindir"), *data_options(folder, options),
                     "--result_path", str(tmp_path / "preprocess_Result")])
    resize("preprocess_Result/01_data/classifier_bs4_5.bin", 3 * 16 * 4)(tmp_path)
    done = run(tmp_path, "--model_path", folder / "bert.mindir")
    assert done.returncode == 2
    assert "classifier_bs4_5.bin: has 192 bytes, expected 4 rows of 64 bytes for the input" in done.stderr
    assert not list((tmp_path / "result_Files").iterdir())


def test_help(run, tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: main --model_path FILE")


def test_compiles_with_the_official_headers():
    headers = os.environ.get(HEADERS)
    if not headers:
        pytest.skip(f"{HEADERS} does not name a directory with the official headers include/api/*.h")
    compiler = shutil.which(os.environ.get("CXX", "c++")) or pytest.skip("a C++ compiler is absent")
    sources = sorted((SOURCES / "src").glob("*.cc"))
    assert sources
    for source in sources:
        done = subprocess.run([compiler, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}",
                               "-isystem", headers, str(source)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- mistakes before and after the program

@pytest.fixture
def prepared(exported, tmp_path):
    """(options of preprocess.py that succeed, options of postprocess.py, the folder with results of zeros)."""
    folder, options = exported("classifier")
    before = ["--model_path", str(folder / "bert.mindir"), *data_options(folder, options),
              "--result_path", str(tmp_path / "in")]
    preprocess.main(before)
    (tmp_path / "out").mkdir()
    for index in range(6):
        (tmp_path / "out" / f"classifier_bs4_{index}_0.bin").write_bytes(bytes(4 * 3 * 4))
    return before, ["--preprocess_path", str(tmp_path / "in"), "--result_path", str(tmp_path / "out")], tmp_path


def test_preprocessing_replaces_only_what_it_wrote(prepared):
    before, _, place = prepared
    old = (place / "in" / "00_data" / "classifier_bs4_0.bin").stat().st_ino
    preprocess.main(before)
    assert (place / "in" / "00_data" / "classifier_bs4_0.bin").stat().st_ino != old
    (place / "in" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="--result_path: .* holds mine.txt, which preprocess.py did not write"):
        preprocess.main(before)
    assert (place / "in" / "mine.txt").read_text() == "kept" and not list(place.glob(".writing-*"))


def test_mistakes_before_the_program(prepared, exported, tmp_path):
    before, _, place = prepared
    folder, _ = exported("classifier")
    (place / "labels.txt").write_text("zero\ntwo\none\n", encoding="utf-8")
    shutil.copy(folder / "bert.mindir", place / "alone.mindir")
    for further, message in (
            (["--task", "ner"], "--task: found ner, but the model is of classifier"),
            (["--task", "poet"], "--task: found poet, expected one of classifier, ner, ner_crf, squad"),
            (["--label_file_path", str(place / "labels.txt")], "label_file_path: .* 'two' in place of 'one'"),
            (["--model_path", str(place / "alone.mindir")], "cannot read .*alone.json: No such file"),
            (["--eval_data_file_path", ""], "eval_data_file_path is not set"),
            (["--bert_net_cfg.seq_length", "8"], "takes sequences of 16 tokens, but seq_length is 8"),
            (["--result_path", str(folder / "bert.mindir")], "--result_path: .*bert.mindir is a file")):
        with pytest.raises(UserError, match=message) as caught:
            preprocess.main([*before, *further])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="found ner, but the configuration is of ner_crf"):
        preprocess.main(["--description", "run_ner", "--use_crf", "true", "--task", "ner"])


def test_mistakes_after_the_program(prepared):
    _, after, place = prepared
    share_of_zeros = np.mean(toy_finetuning.toy_rows(21, seed=1)["label_ids"] == 0)
    assert postprocess.main(after)["accuracy"] == pytest.approx(share_of_zeros)
    for break_it, message in (
            (drop("out/classifier_bs4_5_0.bin"), "classifier_bs4_5_0.bin: cannot read this result: No such file"),
            (resize("out/classifier_bs4_5_0.bin", 40), "_5_0.bin: has 40 bytes, expected 48 for float32 .4, 3."),
            (resize("in/00_data/classifier_bs4_5.bin", 256), "00_data/classifier_bs4_5.bin: is not what the records"),
            (drop("in/manifest.json"), "cannot read .*manifest.json: No such file .*; run preprocess.py first")):
        break_it(place)
        with pytest.raises(UserError, match=message) as caught:
            postprocess.main(after)
        assert "\n" not in str(caught.value)


def test_records_that_changed_in_number(prepared, tmp_path):
    _, after, _ = prepared
    toy_finetuning.write_rows(tmp_path / "dev.mindrecord", toy_finetuning.toy_rows(5))
    with pytest.raises(UserError, match="manifest.json: is of 21 records, but there are 5"):
        postprocess.main([*after, "--eval_data_file_path", str(tmp_path / "dev.mindrecord")])


def test_without_a_model_the_options_describe_the_task(tmp_path):
    """Values of regression are the one column that holds other numbers than integers."""
    toy_finetuning.write_rows(tmp_path / "dev.mindrecord", toy_finetuning.toy_rows(5, regression=True))
    options = toy_finetuning.tiny_options(tmp_path, tmp_path, num_class=1, assessment_method="Pearson_correlation",
                                          eval_batch_size=4)
    preprocess.main(["--task", "classifier", *options, "--result_path", str(tmp_path / "in")])
    manifest = json.loads((tmp_path / "in" / "manifest.json").read_text())
    assert manifest["batches"] == ["classifier_bs4_0", "classifier_bs4_1"] and manifest["num_rows"] == 5
    labels = np.fromfile(tmp_path / "in" / "03_data" / "classifier_bs4_0.bin", np.float32)
    np.testing.assert_array_equal(labels, toy_finetuning.toy_rows(5, regression=True)["label_ids"][:4, 0])
