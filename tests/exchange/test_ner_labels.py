"""Converted NER models: transformers' pipeline joins their tags to the entities that predict.py finds."""

import json
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import command_line
from mindspore import Tensor
from safetensors.numpy import load_file
from toy_finetuning import TINY

from src.bert_for_finetune import BertNER, BertNERTagger
from src.bert_for_pre_training import initialize_parameters
from src.bert_model import BertConfig
from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.predictor import NerPredictor
from src.tasks.ner.text import NerEncoder, Sentence, SentenceTokenizer
from src.tasks.ner.windows import SentenceWindows
from src.tasks.prediction import InferenceModel
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary
from src.tools.convert_checkpoint import main
from src.weights import load_weights, read_weights, save_weights

os.environ.setdefault("USE_TF", "0")  # read when transformers is imported: it does not know the Keras of TensorFlow
pytestmark = pytest.mark.usefixtures("pynative_mode")

LABELS = LabelScheme(["LOC", "PER"])
PIECES = [*"北京上海甲乙", "##s", "##er", "round", "paris", "lo", ",", "."]
VOCAB = [*SPECIAL_TOKENS, *PIECES]
VOCABULARY = Vocabulary(VOCAB)
CONFIG = BertConfig(seq_length=16, vocab_size=len(VOCAB), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=32, max_position_embeddings=32, type_vocab_size=2, compute_type="float32")


def converted(folder, use_crf=False):
    """A network of ours as a directory of transformers."""
    network = BertNER(CONFIG, False, len(LABELS.tags), use_crf=use_crf)
    initialize_parameters(network, 0.5, seed=1)
    save_weights(network, folder / "ner.ckpt")
    (folder / "vocab.txt").write_text("\n".join(VOCAB), encoding="utf-8")
    LABELS.write(folder / "labels")
    sizes = {name: value for name, value in TINY.items() if name.startswith("bert_net_cfg")}
    main(["--input_path", str(folder / "ner.ckpt"), "--output_dir", str(folder / "hf"),
          "--output_format", "huggingface", "--task", "ner", *command_line(sizes, {
              "bert_net_cfg.vocab_size": len(VOCAB), "label_file_path": folder / "labels",
              "vocab_file_path": folder / "vocab.txt", "use_crf": use_crf})])
    return folder / "hf"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("ner"))


def test_a_crf_stays_with_its_states(tmp_path, capsys):
    model = converted(tmp_path, use_crf=True)
    config = json.loads((model / "config.json").read_text())
    assert list(config["id2label"].values()) == ["O", *["B-LOC"] * 2, *["I-LOC"] * 2, *["B-PER"] * 2, *["I-PER"] * 2]
    assert config["label2id"] == {"O": 0, "B-LOC": 1, "I-LOC": 3, "B-PER": 5, "I-PER": 7}
    printed = capsys.readouterr().out
    assert "the CRF is left out: transformers takes the best tag of each token by itself" in printed
    ours, theirs = read_weights(tmp_path / "ner.ckpt"), load_file(model / "model.safetensors")
    assert len(ours["bert.dense_1.weight"]) == 11
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(theirs[f"classifier.{name}"], ours[f"bert.dense_1.{name}"][:9])
    main(["--input_path", str(model), "--output_dir", str(tmp_path / "back")])
    assert (tmp_path / "back" / "labels.txt").read_text() == "LOC\nPER\n"
    assert len(read_weights(tmp_path / "back" / "ner.ckpt")["bert.dense_1.weight"]) == 9


def test_a_configuration_saved_by_transformers_still_knows_our_tags(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(model)
    assert (config.num_labels, config.id2label[4]) == (9, "I-LOC")
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["class_names"] == LABELS.tags


def pipeline_entities(model, text, logits, strategy):
    """What the pipeline of transformers makes of logits [S,K]: its own code, without the network behind it."""
    transformers = pytest.importorskip("transformers")
    module = pytest.importorskip("transformers.pipelines.token_classification")
    pipeline = object.__new__(module.TokenClassificationPipeline)
    pipeline.tokenizer = transformers.BertTokenizerFast.from_pretrained(model)
    pipeline.model = SimpleNamespace(config=transformers.AutoConfig.from_pretrained(model))
    pipeline.framework = "np"
    encoded = pipeline.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    strategy = module.AggregationStrategy(strategy)
    of_tokens = pipeline.gather_pre_entities(text, encoded["input_ids"], logits, encoded["offset_mapping"],
                                             encoded["special_tokens_mask"], strategy)
    return [(found["entity_group"], found["start"], found["end"]) for found in pipeline.aggregate(of_tokens, strategy)
            if found["entity_group"] != "O"]


def our_entities(text, tags, unit):
    """What predict.py makes of tag ids of the tokens, [CLS] and [SEP] among them."""
    def network(ids, mask, segments):
        return Tensor(np.resize(np.append(tags, np.zeros(64, np.int32)), ids.shape).astype(np.int32))

    tokenizer = SentenceTokenizer(FullTokenizer(VOCABULARY), unit)
    predictor = NerPredictor(NerEncoder(tokenizer, LABELS, 64), LABELS, 1, InferenceModel(network))
    [item] = predictor.predict([{"text": text}])
    return [(found["type"], found["start"], found["end"]) for found in item["entities"]]


def tags_and_logits(generator, num_tokens):
    """Entities that follow each other or do not, as the tags of a network and the logits that give them."""
    spans, position = [], 0
    while position < num_tokens:
        end = min(position + generator.randint(1, 4), num_tokens)
        if generator.random() < 0.7:
            spans.append(Span(position, end, generator.choice(LABELS.types)))
        position = end
    tags = np.array([0, *LABELS.encode(spans, num_tokens), 0])
    return tags, np.eye(len(LABELS.tags), dtype=np.float32)[tags]


def test_characters_agree_by_the_simple_strategy(model):
    generator = random.Random(0)
    found = 0
    for _ in range(100):
        text = "".join(generator.choices("北京上海甲乙", k=generator.randint(1, 14)))
        tags, logits = tags_and_logits(generator, len(text))
        ours = our_entities(text, tags, "character")
        assert pipeline_entities(model, text, logits, "simple") == ours
        found += len(ours)
    assert found > 200


def test_words_agree_by_the_first_strategy_and_not_by_the_simple_one(model):
    generator = random.Random(1)
    differ = 0
    tokenizer = FullTokenizer(VOCABULARY)
    for _ in range(100):
        text = " ".join(generator.choices(["rounder", "Paris", "los", "lo,", "rounders."], k=generator.randint(1, 8)))
        pieces = tokenizer.tokenize_with_offsets(text)
        tags = np.array([0, *(generator.randrange(len(LABELS.tags)) for _ in pieces), 0])
        firsts = [number for number, (token, _, _) in enumerate(pieces, 1) if not token.startswith("##")]
        tags[firsts] = tags_and_logits(generator, len(firsts))[0][1:-1]  # the other pieces say anything
        logits = np.eye(len(LABELS.tags), dtype=np.float32)[tags]
        ours = our_entities(text, tags, "word")
        assert pipeline_entities(model, text, logits, "first") == ours
        differ += pipeline_entities(model, text, logits, "simple") != ours
    assert differ > 50


def test_the_whole_pipeline_agrees_with_the_predictor(model):
    """With the network in transformers. It joins otherwise what contradicts itself, such as M after E: left out."""
    pytest.importorskip("torch", reason="transformers computes networks with torch, which is absent")
    pipeline = pytest.importorskip("transformers").pipeline("ner", model=str(model), aggregation_strategy="simple")
    network = BertNERTagger(CONFIG, len(LABELS.tags), False, False).set_train(False)
    load_weights(network, model.parent / "ner.ckpt", "ner")
    encoder = NerEncoder(SentenceTokenizer(FullTokenizer(VOCABULARY)), LABELS, 16)
    predictor = NerPredictor(encoder, LABELS, 4, InferenceModel(network))
    generator = random.Random(2)
    texts = ["".join(generator.choices("北京上海甲乙", k=generator.randint(1, 5))) for _ in range(100)]
    found = 0
    for text, item in zip(texts, predictor.predict([{"text": text} for text in texts]), strict=True):
        columns = SentenceWindows([Sentence(text)], encoder).read([0])
        tags = network(*map(Tensor, columns.values())).asnumpy()[0, 1:len(text) + 1]
        if (LABELS.encode(LABELS.decode(tags), len(text)) == tags).all():
            ours = [(entity["type"], entity["start"], entity["end"]) for entity in item["entities"]]
            assert [(one["entity_group"], one["start"], one["end"]) for one in pipeline(text)] == ours
            found += len(ours)
    assert found
