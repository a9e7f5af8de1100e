"""One run for all trainings: callbacks of MindSpore and of users, other mathematics at a resume, a profile."""

from pathlib import Path

import pytest
import toy_finetuning
import toy_pretraining
from mindspore.train import Callback as MindSporeCallback
from mindspore.train import LossMonitor, RunContext, SummaryCollector, TimeMonitor
from toy_pretraining import steps_of

import run_classifier
import run_pretrain
from src.errors import UserError
from src.model_utils.config import load_config
from src.model_utils.device_adapter import DeviceInfo, set_up_device
from src.tasks.classifier.task import ClassifierTask
from src.tasks.finetuning import Finetuning
from src.tasks.pretraining.training import Pretraining
from src.training.callbacks import Callback, Place, StepReport
from src.training.metrics_file import read_metrics
from src.training.run import Job, run_training, sink_steps_of


def pretraining(records: Path, output: Path, **options: object) -> Job:
    argv = toy_pretraining.tiny_options(data_dir=records, save_checkpoint_path=output, **options)
    config = load_config("", "pretrain_config.yaml", argv)
    return Pretraining(config, set_up_device(config))


@pytest.fixture(scope="module")
def classifier_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    for name, count in (("train", 40), ("dev", 16)):
        toy_finetuning.write_rows(folder / f"{name}.mindrecord", toy_finetuning.toy_rows(count, count))
    return folder


def finetuning(data: Path, output: Path, **options: object) -> Job:
    config = load_config("", ClassifierTask.config_file, toy_finetuning.tiny_options(data, output, **options))
    set_up_device(config)
    return Finetuning(ClassifierTask.from_config(config, "CPU"))


# ---------------------------------------------------------------- callbacks

class Witness(MindSporeCallback):
    """A user's callback, as MindSpore's documents show how to write one."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__()
        self.losses = []
        self.stop_at = stop_at

    def on_train_step_end(self, run_context: RunContext) -> None:
        arguments = run_context.original_args()
        loss, overflow, scale = arguments.net_outputs
        assert arguments.step_report.step == arguments.cur_step_num
        self.losses.append(float(loss.asnumpy()))
        if len(self.losses) == self.stop_at:
            run_context.request_stop()


@pytest.mark.slow
def test_callbacks_of_mindspore_watch_a_pretraining(toy_records, tmp_path, capsys):
    job = pretraining(toy_records / "mindrecord", tmp_path / "out", train_steps=4)
    witness = Witness()
    run_training(job, set_up_device(job.config), [
        LossMonitor(), TimeMonitor(), SummaryCollector(str(tmp_path / "summary"), collect_freq=1), witness])
    printed = capsys.readouterr().out
    assert "epoch: 1 step: 4, loss is" in printed and "per step time:" in printed
    assert witness.losses == [step["loss"] for step in steps_of(tmp_path / "out")]
    assert list((tmp_path / "summary").glob("*events*"))


def test_a_user_stops_a_fine_tuning(classifier_data, tmp_path):
    job = finetuning(classifier_data, tmp_path / "out", epoch_num=4)
    results = run_training(job, set_up_device(job.config), [Witness(stop_at=7)])
    trained = [line["step"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl") if "learning_rate" in line]
    assert trained == list(range(1, 8))
    assert list((tmp_path / "out").glob("classifier-*_7.ckpt")) and "accuracy" in results


@pytest.mark.parametrize(("target", "options", "sink_steps"), [
    ("CPU", {}, 0), ("Ascend", {}, 10), ("GPU", {"enable_data_sink": "false"}, 0),
    ("Ascend", {"bucket_list": "8,16", "data_sink_steps": 1}, 0),
    ("Ascend", {"length_grouping": "trim", "data_sink_steps": 1}, 0), ("CPU", {"bucket_list": "8,16"}, 0)])
def test_devices_with_a_queue_take_batches_of_one_length_from_it(classifier_data, tmp_path, target, options,
                                                                 sink_steps):
    chosen = {"length_grouping": "none", "data_sink_steps": 10} | options
    job = finetuning(classifier_data, tmp_path, **chosen)
    assert sink_steps_of(job, DeviceInfo(target, 0, rank=0, rank_size=1)) == sink_steps


@pytest.mark.parametrize(("option", "value", "found"), [
    ("bucket_list", "8,16", "bucket_list is 8,16"), ("length_grouping", "trim", "length_grouping is trim")])
def test_a_sink_of_several_steps_wants_one_length(classifier_data, tmp_path, option, value, found):
    chosen = {"length_grouping": "none", "data_sink_steps": 10} | {option: value}
    job = finetuning(classifier_data, tmp_path, **chosen)
    with pytest.raises(UserError, match=f"^data_sink_steps: found 10, but {found}, .* leave data_sink_steps at 1"):
        sink_steps_of(job, DeviceInfo("Ascend", 0, rank=0, rank_size=1))


def test_callbacks_are_told_in_the_order_of_their_places(toy_records, tmp_path):
    told = []

    def noting(which: Place) -> Callback:
        class Noting(Callback):
            place = which

            def on_step(self, report: StepReport) -> None:
                told.append(which)

        return Noting()

    job = pretraining(toy_records / "mindrecord", tmp_path / "out", train_steps=1)
    run_training(job, set_up_device(job.config), [noting(place) for place in reversed(Place)])
    assert told == list(Place)


# ---------------------------------------------------------------- resuming with other mathematics

@pytest.fixture(scope="module")
def begun(toy_records, tmp_path_factory) -> list[str]:
    """The options of a training of three steps."""
    out = tmp_path_factory.mktemp("begun") / "out"
    options = toy_pretraining.tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=out)
    run_pretrain.main([*options, "--train_steps", "3"])
    (out / "model.json").unlink()  # as of a version that wrote none
    return [*options, "--resume", "true"]


@pytest.mark.parametrize(("option", "value", "told"), [
    ("base_net_cfg.num_attention_heads", "1", "network.num_attention_heads 2 -> 1"),
    ("base_net_cfg.hidden_act", "relu", "network.hidden_act gelu -> relu")])
def test_another_network_is_refused(begun, option, value, told):
    with pytest.raises(UserError, match=f"was made with another network: {told}; resume with"):
        run_pretrain.main([*begun, "--train_steps", "4", f"--{option}", value])


@pytest.mark.parametrize(("option", "value", "told"), [
    ("max_grad_norm", "0.5", "max_grad_norm 1.0 -> 0.5"),
    ("enable_global_norm", "false", "enable_global_norm true -> false"),
    ("enable_lossscale", "false", "enable_lossscale true -> false"), ("scale_window", "7", "scale_window 1000 -> 7"),
    ("base_net_cfg.hidden_dropout_prob", "0.2", "network.hidden_dropout_prob 0.1 -> 0.2")])
def test_every_other_change_is_named(begun, capsys, option, value, told):
    run_pretrain.main([*begun, "--train_steps", "3", f"--{option}", value])  # nothing left to do: only said
    printed = capsys.readouterr()
    assert told in printed.err and "continues differently" in printed.err
    assert "nothing left to do" in printed.out


# ---------------------------------------------------------------- killed around an evaluation

class Killed(BaseException):
    """Ends the process, as far as the run is concerned."""


def kill_at(step: int, where: Place) -> Callback:
    """Ends the run when the run's own callbacks of a place have been told of a step."""
    class Kill(Callback):
        place = where

        def on_step(self, report: StepReport) -> None:
            if report.step == step:
                raise Killed

    return Kill()


def pretraining_with_scores(records: Path, output: Path) -> Job:
    folder = records / "mindrecord"
    return pretraining(folder, output, train_steps=4, save_checkpoint_steps=2, train_with_eval="true",
                       eval_data_dir=folder, resume="true")


def finetuning_with_scores(records: Path, output: Path) -> Job:
    return finetuning(records, output, train_steps=4, save_checkpoint_steps=2, eval_steps=2, resume="true",
                      early_stopping_patience=3)


KINDS = {"pretraining": pretraining_with_scores, "fine-tuning": finetuning_with_scores}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, toy_records, classifier_data, tmp_path_factory):
    """What makes a job that writes to a folder, and the folder of a run that was never killed."""
    records = toy_records if request.param == "pretraining" else classifier_data
    whole = tmp_path_factory.mktemp("whole")

    def make(output: Path) -> Job:
        return KINDS[request.param](records, output)

    job = make(whole)
    run_training(job, set_up_device(job.config))
    return make, whole


def told(folder: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "samples_per_second"}
            for line in read_metrics(folder / "metrics.jsonl")]


@pytest.mark.parametrize(("step", "where"), [
    (4, Place.EVALUATE), (4, Place.SAVE), pytest.param(2, Place.SAVE, marks=pytest.mark.slow)])
def test_a_run_killed_around_an_evaluation_leaves_what_a_whole_run_leaves(kind, tmp_path, capsys, step, where):
    make, whole = kind
    job = make(tmp_path)
    with pytest.raises(Killed):
        run_training(job, set_up_device(job.config), [kill_at(step, where)])
    job = make(tmp_path)
    results = run_training(job, set_up_device(job.config))
    printed = capsys.readouterr().out.replace(str(tmp_path), "")
    assert results == run_training(make(whole), set_up_device(job.config))  # which has its end left to do, once more
    at_the_end = capsys.readouterr().out.replace(str(whole), "").partition("4 of 4 steps are done\n")[2]
    assert at_the_end.strip() and printed.endswith(at_the_end)
    assert told(tmp_path) == told(whole)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.glob("*predictions*"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


# ---------------------------------------------------------------- options of old files

@pytest.mark.slow
def test_a_profile_lies_beside_the_checkpoints(toy_records, tmp_path):
    run_pretrain.main(toy_pretraining.tiny_options(data_dir=toy_records / "mindrecord", train_steps=4,
                                                   save_checkpoint_path=tmp_path / "out", enable_profiling="true"))
    assert list((tmp_path / "out" / "profile").rglob("trace_view.json"))


def test_pynative_mode_trains_like_the_graph(toy_records, tmp_path):
    losses = []
    for mode in ("false", "true"):
        run_pretrain.main(toy_pretraining.tiny_options(
            data_dir=toy_records / "mindrecord", train_steps=2, save_checkpoint_path=tmp_path / mode,
            use_pynative_mode=mode))
        losses.append([step["loss"] for step in steps_of(tmp_path / mode)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_num_samples_of_a_task(classifier_data, tmp_path):
    job = finetuning(classifier_data, tmp_path / "out", num_samples=16)
    assert job.records().num_rows == 16


def test_decay_filter_decides_what_decays(toy_records, tmp_path):
    job = pretraining(toy_records / "mindrecord", tmp_path / "out",
                      **{"AdamWeightDecay.decay_filter": "embedding,beta"})
    optimizer = job.optimizer(job.network(), 10)
    decayed = {parameter.name for parameter, decay in zip(optimizer.parameters, optimizer.decays, strict=True) if decay}
    assert any(name.endswith(".bias") for name in decayed)
    assert not any("embedding" in name or "beta" in name for name in decayed)


def test_last_and_best_scores_are_printed(classifier_data, tmp_path, capsys):
    results = run_classifier.main(toy_finetuning.tiny_options(classifier_data, tmp_path / "out", epoch_num=2))
    printed = capsys.readouterr().out
    assert "\nlast accuracy, after step 10: 0." in printed or "\nlast accuracy, after step 10: 1." in printed
    assert f"accuracy {results['accuracy']:.6f}" in printed[printed.index("best accuracy, after step"):]
