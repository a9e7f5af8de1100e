"""Each check of scripts/hardware_smoke.sh passes on a CPU and can fail; a process that dies costs one check only."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops
from paths import REPOSITORY

from src import device_forms
from src.errors import UserError
from src.tools.hardware_smoke import (
    arithmetic,
    dropout,
    model_file,
    overflow,
    ranks,
    reference,
    report,
    run,
    speed,
    training,
    versions,
    worker,
)
from src.tools.hardware_smoke.checks import CHECKS
from src.tools.hardware_smoke.outcome import SMALL, Outcome, Setting, Verdict

pytestmark = pytest.mark.usefixtures("graph_mode")

PASS, FAIL, SKIP = Verdict.PASS, Verdict.FAIL, Verdict.SKIP
LINES = re.compile(r"^ ?\d+ (PASS|FAIL|SKIP) ", re.MULTILINE)


@pytest.fixture
def setting(tmp_path):
    return Setting("CPU", 0, "float32", tmp_path, values=1 << 18, timed=SMALL)


# ---------------------------------------------------------------- on this CPU

@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 13])
def test_a_check_passes(number, setting):
    outcome, trusted = worker.run_check(CHECKS[number - 1], setting)
    assert outcome.verdict is PASS and trusted, outcome
    assert outcome.numbers and outcome.seconds > 0


def test_steps_are_the_stored_ones(setting):
    stored = json.loads(reference.STORED.read_text())
    assert stored.keys() == reference.CASES.keys() and {"Lamb", "Thor", "CRF", "LSTM", "NEZHA"} <= stored.keys()
    assert reference.CASES["Momentum"](setting) == pytest.approx(stored["Momentum"], rel=1e-4)


@pytest.mark.slow
def test_sink_sizes_are_compared(setting):
    outcome = training.compare_sinks(setting, (0, 4))  # on a CPU both take the batches from the host
    assert outcome.verdict is PASS and "off 5.7" in outcome.numbers and "difference 0.0e+00" in outcome.numbers


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    done = subprocess.run(["bash", str(REPOSITORY / "scripts" / "hardware_smoke.sh"), "CPU", "--minutes", "15"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
                          env=os.environ | {"PYTHON": sys.executable})
    assert done.returncode == 0, done.stdout + done.stderr
    assert LINES.findall(done.stdout) == ["PASS"] * 8 + ["SKIP"] + ["PASS"] * 4
    assert str(tmp_path) not in done.stdout and str(REPOSITORY) not in done.stdout
    assert done.stdout.startswith((tmp_path / "hardware_smoke_CPU.md").read_text())


# ---------------------------------------------------------------- every check can fail

def saturated(x):
    """Stands for `Integers` on a device whose integers stop at their largest value."""
    wide = x.asnumpy().astype(np.int64)
    good = wide + arithmetic.FACTOR, wide >> arithmetic.SHIFT, wide ^ wide >> arithmetic.SHIFT
    clipped = np.clip(wide * arithmetic.FACTOR, np.iinfo(np.int32).min, np.iinfo(np.int32).max)
    return [Tensor(value.astype(np.int32)) for value in (clipped, *good)]


def test_saturated_integers_are_noticed(setting, monkeypatch):
    monkeypatch.setattr(arithmetic, "Integers", lambda: saturated)
    outcome = arithmetic.check_wrap_around(setting)
    assert outcome.verdict is FAIL and "Add 0" in outcome.numbers and "Mul 0" not in outcome.numbers


def half_norm(x):
    return ops.square(x.astype(ms.float16)).astype(ms.float32).sum()


def test_a_norm_by_float16_is_noticed(setting, monkeypatch):
    forms = replace(device_forms.CPU, squared_norm=half_norm)
    monkeypatch.setattr(arithmetic, "device_forms", lambda: forms)
    assert arithmetic.check_norms(setting).verdict is FAIL


class Saturating(overflow.Product):
    """A device on which nothing is infinite."""

    def construct(self, x):
        return super().construct(ops.where(ops.isfinite(x), ops.clamp(x, -1000.0, 1000.0), ops.ones_like(x)))


def test_an_overflow_that_goes_unseen_is_noticed(setting, monkeypatch):
    monkeypatch.setattr(overflow, "Product", Saturating)
    outcome = overflow.check_overflow_is_seen(setting)
    assert outcome.verdict is FAIL and outcome.numbers.startswith("2 of 5")
    assert "float16 beyond 65504: no overflow, weights moved" in outcome.numbers


def random_masks(share=0.1, same_in_layers=False, seed=0):
    random = np.random.default_rng(seed)
    found = [(random.random(dropout.SHAPE).ravel() >= share) / (1 - dropout.RATE) for _ in range(2 * dropout.CALLS)]
    return [found[index // 2] for index in range(len(found))] if same_in_layers else found


@pytest.mark.parametrize(("masks", "verdict"), [
    ([random_masks(), random_masks(), random_masks(seed=1)], PASS),
    ([random_masks(0.11), random_masks(0.11), random_masks(seed=1)], FAIL),
    ([random_masks(same_in_layers=True), random_masks(same_in_layers=True), random_masks(seed=1)], FAIL),
    ([random_masks(), random_masks(seed=2), random_masks(seed=1)], FAIL),  # not repeated
    ([random_masks(), random_masks(), random_masks()], FAIL),  # the seed changes nothing
])
def test_masks_are_judged(setting, monkeypatch, masks, verdict):
    results = iter(masks)
    monkeypatch.setattr(dropout, "masks", lambda step: next(results))
    assert dropout.check_dropout(setting).verdict is verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, PASS), (1.001, FAIL), (float("nan"), FAIL)])
def test_another_step_than_the_stored_one_is_noticed(setting, monkeypatch, factor, verdict):
    stored = json.loads(reference.STORED.read_text())
    found = stored | {"LSTM": {key: factor * value for key, value in stored["LSTM"].items()}}
    monkeypatch.setattr(reference, "CASES", {name: lambda _, name=name: found[name] for name in stored})
    assert reference.check_reference(setting).verdict is verdict


def test_a_step_that_is_not_skipped_is_noticed(setting, monkeypatch):
    steps = iter([(5.0, False, overflow.HUGE_SCALE), (5.0, False, 1024.0), (4.0, False, 1024.0)])
    monkeypatch.setattr(overflow, "run", lambda step, columns: next(steps))
    assert overflow.check_overflow_skips(setting).verdict is FAIL


def toy_training(error_of_accumulation=0.0):
    """In place of a real step: moves a weight by what the step has counted so far."""
    def run_step(step, columns):
        weight = next(iter(step.network.get_parameters()))
        count = int(step.attempts.asnumpy()) + 1
        step.attempts.set_data(Tensor(count, ms.int32))
        move = count + error_of_accumulation * (step.accumulation_steps - 1)
        weight.set_data(Tensor(weight.asnumpy() + np.float32(move)))
        return float(weight.asnumpy().mean()), False, 1.0

    return run_step


@pytest.mark.parametrize(("error", "verdict"), [(0.0, PASS), (0.1, FAIL), (float("nan"), FAIL)])
def test_an_accumulation_that_differs_is_noticed(setting, monkeypatch, error, verdict):
    monkeypatch.setattr(training, "run", toy_training(error))
    assert training.check_accumulation(setting).verdict is verdict


@pytest.mark.parametrize(("restores", "verdict"), [(True, PASS), (False, FAIL)])
def test_a_training_that_begins_anew_is_noticed(setting, monkeypatch, restores, verdict):
    monkeypatch.setattr(training, "run", toy_training())
    if not restores:
        monkeypatch.setattr(training, "restore_training", lambda step, checkpoint: None)
    assert training.check_resume(setting).verdict is verdict


def test_a_sink_that_trains_otherwise_is_noticed(setting, monkeypatch):
    assert training.check_data_sink(setting).verdict is SKIP
    update = np.ones(3)
    results = {0: (5.0, update), 1: (5.0, update), 4: (5.0, 1.1 * update)}
    monkeypatch.setattr(training, "write_records", lambda setting, directory: None)
    monkeypatch.setattr(training, "train_through", lambda setting, size: results[size])
    assert training.compare_sinks(setting, (0, 1)).verdict is PASS
    assert training.check_data_sink(replace(setting, target="Ascend")).verdict is FAIL


@pytest.mark.parametrize(("results", "verdict"), [
    ([{"weights": "a", "error": 1e-7}] * 2, PASS),
    ([{"weights": "a", "error": 1e-7}, {"weights": "b", "error": 1e-7}], FAIL),
    ([{"weights": "a", "error": 0.5}] * 2, FAIL),
    ([{"weights": "a", "error": float("nan")}] * 2, FAIL),
    ([], FAIL),
])
def test_ranks_are_compared(setting, monkeypatch, results, verdict):
    def start_ranks(command, *, cwd, **_):
        assert "--processes" in command and str(ranks.RANKS) in command
        for rank, result in enumerate(results):
            (cwd / f"rank{rank}.json").write_text(json.dumps(result))
        return SimpleNamespace(returncode=0 if results else 1, stderr="noise\nerror: rank 1 died\n")

    monkeypatch.setattr(ranks.subprocess, "run", start_ranks)
    outcome = ranks.check_two_ranks(setting)
    assert outcome.verdict is verdict
    assert results or outcome.numbers == "error: rank 1 died"


def test_ranks_that_never_meet_are_a_fail(setting, monkeypatch):
    def start_ranks(command, *, cwd, timeout, **_):
        (cwd / "LOG0").mkdir()
        (cwd / "LOG0" / ranks.LOG).write_text("waiting\nRuntimeError: no answer\n")
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(ranks.subprocess, "run", start_ranks)
    outcome = ranks.check_two_ranks(setting)
    assert outcome.verdict is FAIL and outcome.numbers.endswith("rank 0: RuntimeError: no answer")


def test_one_device_is_too_few_for_two_ranks(setting, monkeypatch):
    monkeypatch.setattr(ranks.ms.hal, "device_count", lambda target: 1)
    outcome = ranks.check_two_ranks(replace(setting, target="GPU"))
    assert outcome.verdict is SKIP and outcome.numbers.startswith("1 device")


@pytest.mark.parametrize(("losses", "difference", "fails", "verdict"), [
    ([5.0, 4.0], 0.0, "", PASS), ([4.0, 5.0], 0.0, "", FAIL), ([5.0, float("nan")], 0.0, "", FAIL),
    ([5.0, 4.0], 0.5, "", FAIL), ([5.0, 4.0], float("nan"), "", FAIL), ([5.0, 4.0], 0.0, "plain", FAIL),
    ([5.0, 4.0], 0.0, "fused", PASS),  # what this device does not use need not run there
])
def test_speed_is_judged_by_losses_and_values(setting, monkeypatch, losses, difference, fails, verdict):
    def time_operation(setting, timed, forms):
        if forms is speed.FORMS.get(fails):
            raise RuntimeError("no such kernel")
        return 1.0, [np.full(3, 1.0 + (difference if forms is speed.GPU else 0.0))]

    monkeypatch.setattr(speed, "time_step", lambda setting, form: (7.0, losses))
    monkeypatch.setattr(speed, "time_operation", time_operation)
    outcome = speed.check_speed(setting)
    assert outcome.verdict is verdict and "plain 7.0" in outcome.numbers and "pieces 7.0" in outcome.numbers
    assert len(outcome.further) >= 6 and ("fused fails" in outcome.further[0]) == (fails == "fused")


def test_operations_are_timed_in_both_forms(setting):
    timed = speed.operations(replace(SMALL, rows=2, length=4))["softmax"]
    one, other = (speed.time_operation(setting, timed, forms) for forms in (speed.CPU, speed.GPU))
    assert one[0] > 0 and [value.shape for value in one[1]] == [timed.shapes[0]] * 2
    np.testing.assert_allclose(one[1][1].sum(-1), 1, rtol=1e-5)
    assert np.abs(one[1][0]).max() > 0 and speed.largest_difference(one[1], other[1]) < 1e-5


def test_a_model_that_computes_something_else_is_noticed(setting, monkeypatch):
    monkeypatch.setattr(model_file, "export_model", lambda config, target: None)
    monkeypatch.setattr(model_file, "MindirNetwork", lambda path, task: lambda *columns: Tensor(np.zeros((2, 2))))
    assert model_file.check_model_file(setting).verdict is FAIL


@pytest.mark.parametrize(("changes", "version"), [({"target": "GPU"}, "2.10.0"), ({}, "2.11.0")])
def test_another_device_or_version_is_noticed(setting, monkeypatch, changes, version):
    monkeypatch.setattr(versions.ms, "__version__", version)
    assert versions.check_versions(replace(setting, **changes)).verdict is FAIL


def test_an_exception_is_a_fail_and_ends_the_process(setting, monkeypatch):
    def breaks(step, columns):
        raise RuntimeError("\nthe device is lost\nand more")

    monkeypatch.setattr(overflow, "run", breaks)
    outcome, trusted = worker.run_check(CHECKS[6], setting)
    assert (outcome.verdict, outcome.numbers, trusted) == (FAIL, "RuntimeError: the device is lost", False)


# ---------------------------------------------------------------- what driver and toolkit say

NPU_SMI = """
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.9        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
| 1     310P3               | Warning       | 17.4        50                0    / 0             |
| 0       0                 | 0000:01:00.0  | 0           1671 / 21527                           |
+===========================+===============+====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
| 0       0                 | 421337        | secret_program           | 3000                    |
"""


def test_versions_of_driver_and_toolkit(monkeypatch, tmp_path):
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=8.2.RC1\nversion_dir=x\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    monkeypatch.setattr(versions, "output_of", lambda command: NPU_SMI if command[0] == "npu-smi" else "")
    lines = versions.tools("Ascend")
    assert "CANN 8.2.RC1" in lines and lines[-1] == "npu-smi 24.1.rc2: 910B3 OK, 310P3 Warning"
    (tmp_path / "version.json").write_text('{"cuda" : {"name" : "CUDA SDK", "version" : "11.6.20220110"}}')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert versions.tools("GPU") == ["CUDA 11.6.20220110", "nvidia-smi: unknown"]


# ---------------------------------------------------------------- the report

def test_the_block_names_nobody(monkeypatch, tmp_path):
    home = tmp_path / "jane doe"
    monkeypatch.setattr(report.Path, "home", lambda: home)
    monkeypatch.setattr(report, "_user_name", lambda: "jdoe")
    monkeypatch.setattr(report.socket, "gethostname", lambda: "node-17")
    text = report.anonymous(f"no {home}/x/y.txt of jdoe@node-17\n in /opt/other/jdoe/z.py, ```\n{REPOSITORY}/a")
    assert text == "no …/x/y.txt of …@… in …/z.py, ''' …/a"
    assert report.anonymous("1/2 of 3.0 s/step, kernel 6.1/x86_64") == "1/2 of 3.0 s/step, kernel 6.1/x86_64"
    assert len(report.anonymous("x" * 10_000)) == report.LONGEST_TEXT


@pytest.fixture
def outcomes(monkeypatch, tmp_path):
    """What `main` is told of all checks, to be changed by a test."""
    monkeypatch.chdir(tmp_path)
    found = {number: Outcome(PASS, "good", (f"more of {number}",)) for number in range(1, 14)}
    monkeypatch.setattr(run, "supervise", lambda options, deadline: iter(found.items()))
    return found


def test_the_block_has_a_line_for_each_check(outcomes, tmp_path, capsys):
    run.main(["--device_target", "Ascend"])
    printed = capsys.readouterr().out
    block = (tmp_path / "hardware_smoke_Ascend.md").read_text()
    assert LINES.findall(block) == ["PASS"] * 13
    assert block.startswith("```text\nhardware smoke, Ascend, float16, ") and block.endswith("\n13: more of 13\n```\n")
    assert "13 PASS, 0 FAIL, 0 SKIP" in block
    assert printed.startswith(block) and printed.endswith("it is also in hardware_smoke_Ascend.md\n")


@pytest.mark.parametrize(("verdict", "status"), [(FAIL, 1), (SKIP, None)])
def test_the_exit_status(outcomes, capsys, verdict, status):
    outcomes[4] = Outcome(verdict, "bad")
    if status is None:
        run.main(["--device_target", "CPU"])
    else:
        with pytest.raises(SystemExit) as exit_:
            run.main(["--device_target", "CPU"])
        assert exit_.value.code == status
    assert f" 4 {verdict.value} overflow is seen" in capsys.readouterr().out


def test_ctrl_c_leaves_what_there_is(outcomes, monkeypatch, capsys):
    def interrupted(options, deadline):
        yield 1, outcomes[1]
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "supervise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.main(["--device_target", "CPU"])
    assert LINES.findall(capsys.readouterr().out) == ["PASS"]


# ---------------------------------------------------------------- processes that die or hang

STUB = """
import json, os, signal, sys, time
results, *numbers = sys.argv[4:]
if PLAN.get(numbers[0]) == "refuses": print("error: device_target GPU: none here"); sys.exit(2)
if PLAN.get(numbers[0]) == "breaks": raise ImportError("libcudnn")
with open(results, "a") as file:
    file.write("\\n")
for number in numbers:
    what = PLAN.get(number)
    if what == "dies": os.kill(os.getpid(), signal.SIGKILL)
    if what == "leaves": sys.exit(0)
    if what == "hangs": time.sleep(60)
    with open(results, "a") as file:
        outcome = {"verdict": "PASS", "numbers": f"{number} of {numbers}", "further": [], "seconds": 0.1}
        file.write(json.dumps(outcome) + "\\n")
    if what == "raises": sys.exit(0)
"""


@pytest.fixture
def supervised(monkeypatch, tmp_path):
    """Outcomes by number when the process of the checks does what a plan says."""
    monkeypatch.chdir(tmp_path)

    def supervise(only, minutes=1.0, **plan):
        stub = tmp_path / "stub.py"
        stub.write_text(STUB.replace("PLAN", repr({number.lstrip("_"): what for number, what in plan.items()})))
        monkeypatch.setattr(run, "WORKER", stub)
        options = run.parse_arguments(["--device_target", "CPU", "--only", only])
        return dict(run.supervise(options, run.time.monotonic() + 60 * minutes))

    return supervise


def test_a_check_that_starts_ranks_is_alone(supervised):
    found = supervised("9,10,11,12,13")
    assert [outcome.numbers for outcome in found.values()] == [
        "9 of ['9', '10']", "10 of ['9', '10']", "11 of ['11']", "12 of ['12', '13']", "13 of ['12', '13']"]


@pytest.mark.parametrize(("what", "verdict", "text"), [
    ("dies", FAIL, "was ended by SIGKILL"), ("raises", PASS, "3 of ['2', '3', '4']")])
def test_the_checks_behind_one_that_ends_its_process_run_all_the_same(supervised, what, verdict, text):
    found = supervised("2,3,4", _3=what)
    assert list(found) == [2, 3, 4]
    assert found[3].verdict is verdict and text in found[3].numbers
    assert found[4].verdict is PASS and found[4].numbers == "4 of ['4']"


def test_a_process_that_ends_without_a_word_is_not_started_for_ever(supervised):
    assert [outcome.verdict for outcome in supervised("3,4", _3="leaves").values()] == [FAIL, PASS]


def test_a_check_that_hangs_is_ended(supervised, monkeypatch):
    monkeypatch.setattr(run, "CHECK_SECONDS", 1.0)
    found = supervised("3,4", _3="hangs")
    assert found[3].verdict is FAIL and found[3].numbers.startswith("no result after 1 s")
    assert found[4].verdict is PASS


def test_when_the_time_is_over_the_rest_is_left_out(supervised):
    found = supervised("3,4,5", minutes=1 / 60, _4="hangs")
    assert [outcome.verdict for outcome in found.values()] == [PASS, FAIL, SKIP]


def test_a_device_that_is_not_there_is_the_users_mistake(supervised):
    with pytest.raises(UserError, match="^device_target GPU: none here$"):
        supervised("3,4", _3="refuses")
    with pytest.raises(UserError, match="^no check could begin: .* exit status 1: ImportError: libcudnn; .* in hard"):
        supervised("3,4", _3="breaks")


def test_a_device_that_is_lost_for_good_leaves_what_there_is(supervised):
    found = supervised("2,3,4,5", _3="dies", _4="refuses")
    assert [outcome.verdict for outcome in found.values()] == [PASS, FAIL, FAIL, SKIP]
    assert found[4].numbers == "device_target GPU: none here"


@pytest.mark.parametrize("text", ["0", "14", "3,x", ""])
def test_numbers_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        run.parse_arguments(["--device_target", "CPU", "--only", text])
    assert "is no list of numbers from 1 to 13" in capsys.readouterr().err
