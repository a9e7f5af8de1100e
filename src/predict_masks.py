"""Words for [MASK] in new texts, by a pre-trained network."""

from collections.abc import Mapping, Sequence

from src.bert_for_pre_training import BertPreTraining
from src.checkpoint import load_weights
from src.errors import UserError
from src.fill_mask import MaskFiller
from src.initialization import undrawn_weights
from src.model_utils.config import Config
from src.prediction import required
from src.pretraining import bert_config_of
from src.tokenization import MASK, FullTokenizer


class MaskPredictor:
    """Guess the words that stand as [MASK] in a text. An item is {"text": …}."""

    fields = ("text",)

    def __init__(self, config: Config) -> None:
        """Load the network of `load_checkpoint_path` and the vocabulary."""
        checkpoint = required(config, "load_checkpoint_path", "the pre-trained checkpoint or its directory")
        vocab_file = required(config, "vocab_file_path", "the vocab.txt that the records were made with")
        tokenizer = FullTokenizer(vocab_file, config.do_lower_case == "true", never_split=[MASK])
        bert_config = bert_config_of(config, config.device_target)
        with undrawn_weights():
            network = BertPreTraining(bert_config, is_training=False)
        report = load_weights(network, checkpoint)
        without_weights = [*report.missing, *report.wrong_shape]
        if without_weights:
            raise UserError(f"load_checkpoint_path: {report.path} has no fitting weights for {len(without_weights)} "
                            f"parameters of the network, such as {without_weights[0]}; give a pre-training checkpoint "
                            f"of a network of these sizes")
        self.filler = MaskFiller(network, tokenizer, bert_config.seq_length)

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "masks"} for each item: for each [MASK] the likeliest {"token", "probability"}, best first."""
        return [dict(item) | {"masks": [[{"token": guess.token, "probability": round(guess.probability, 6)}
                                         for guess in guesses] for guesses in self.filler.fill(_text(item))]}
                for item in items]


def _text(item: Mapping) -> str:
    if not isinstance(item.get("text"), str):
        raise UserError(f"found {str(dict(item))[:60]}, expected an object with \"text\"")
    return item["text"]
