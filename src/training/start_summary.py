"""What a training tells before its first step: on what it runs, how long, and where its results go."""

from pathlib import Path

from mindspore import nn

from src.bert_model import BertConfig
from src.model_utils.device_adapter import DeviceInfo
from src.training.callbacks import RunPlan


def start_summary(device: DeviceInfo, bert_config: BertConfig, network: nn.Cell, plan: RunPlan,
                  accumulation_steps: int, output_dir: Path) -> str:
    """A few lines about the training that is about to begin.

    No line has the word epoch in small letters: `grep epoch` is the documented way to the lines of the steps.

    Args:
        device: where it runs.
        bert_config: knows the type that is computed in.
        network: that is trained.
        plan: its length.
        accumulation_steps: micro-batches of a step.
        output_dir: where its results go.
    """
    batch = plan.samples_per_step // (accumulation_steps * device.rank_size)
    factors = [f"{number} {meaning}" for number, meaning in
               ((batch, "a batch"), (accumulation_steps, "batches"), (device.rank_size, "devices")) if number > 1]
    made_of = f" ({' x '.join(factors)})" if len(factors) > 1 else ""
    done = f", {plan.start_step:,} of them done" if plan.start_step else ""
    facts = {
        "Device": f"{device.target}, {str(bert_config.compute_type).lower()}",
        "Parameters": f"{sum(parameter.size for parameter in network.get_parameters()):,}",
        "Records": f"{plan.samples_per_epoch:,}",
        "Steps": f"{plan.total_steps:,} of {plan.samples_per_step} samples{made_of}{done}",
        "Epochs": f"{plan.epochs_at(plan.total_steps):.1f}",
        "Results in": str(output_dir)}
    return "\n".join(f"{name:<11} {fact}" for name, fact in facts.items())
