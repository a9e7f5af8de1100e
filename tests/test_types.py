"""The list of modules that pyright leaves out; scripts/check_style.sh runs pyright itself."""

import json
import re

from paths import REPOSITORY

# Their errors come from MindSpore's types. The list may only shrink.
LEFT_OUT = {
    "src/CRF.py",
    "src/bert_for_finetune.py",
    "src/bert_for_pre_training.py",
    "src/bert_model.py",
    "src/cpu_forms.py",
    "src/cpu_kernels/cells.py",
    "src/dropout.py",
    "src/finetune_eval_model.py",
    "src/lstm.py",
    "src/model_utils/communication.py",
    "src/tasks/pretraining/fill_mask.py",
    "src/training/optimizer.py",
    "src/training/thor.py",
    "src/training/train_step.py",
}


def pyright_config():
    text = (REPOSITORY / "pyrightconfig.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_no_further_module_is_left_out_of_the_check():
    assert set(pyright_config()["ignore"]) <= LEFT_OUT


def test_modules_that_are_left_out_exist_and_use_mindspore():
    for name in pyright_config()["ignore"]:
        assert "mindspore" in (REPOSITORY / name).read_text(encoding="utf-8"), name


def test_everything_else_is_checked():
    config = pyright_config()
    assert {"src", "scripts", "docs", "*.py"} <= set(config["include"])
    assert config["typeCheckingMode"] == "basic"
    assert not [key for key in config if key.startswith("report") or key in ("exclude", "strict")]


def test_an_exception_in_a_line_names_its_rule_and_its_reason():
    folders = (REPOSITORY / "src", REPOSITORY / "scripts", REPOSITORY / "docs")
    for path in [*REPOSITORY.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"#\s*(type|pyright):", line):
                assert re.search(r"# pyright: ignore\[\w+\] - \w+", line), f"{path}: {line}"
