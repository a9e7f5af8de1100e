"""What a linear model reaches on the data of the classifier: the score that a network has to beat.

    python benchmarks/linear_baseline.py --task_name tnews --data_dir tnews/
    python benchmarks/linear_baseline.py --task_name cola --data_dir CoLA/ --features both

Counts of n-grams, sublinear and weighted by inverse document frequency (TF-IDF), then a linear support vector machine
or logistic regression. The raw files are read by the readers of the generators. The score is that of the development
data, as a whole and without the examples whose text occurs in the training data. One core. Needs scikit-learn
(benchmarks/requirements.txt).
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, matthews_corrcoef
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.errors import UserError, run_script  # noqa: E402
from src.generate_mindrecord import generate_glue_mindrecord as glue  # noqa: E402
from src.generate_mindrecord.generate_tnews_mindrecord import TnewsData  # noqa: E402
from src.generate_mindrecord.options import choose_files  # noqa: E402
from src.tasks.labelled_text import LabelledText, Labels  # noqa: E402

VECTORIZERS = {
    "characters": lambda: TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2),
    "words": lambda: TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
}
FEATURES = {"characters": ("characters",), "words": ("words",), "both": ("characters", "words")}
CLASSIFIERS = {
    "svm": lambda strength: LinearSVC(C=strength, random_state=0),
    "logistic": lambda strength: LogisticRegression(C=strength, max_iter=1000),
}


class Split(NamedTuple):
    """Texts and label ids."""

    texts: list[str]
    labels: list[int]


def read_splits(task_name: str, data_dir: str) -> tuple[Split, Split]:
    """Training and development data.

    Raises:
        UserError: a file is missing or wrong, or the task is no classification.
    """
    splits = {"do_train": True, "do_eval": True, "do_predict": False}
    data = TnewsData(data_dir) if task_name == "tnews" else glue.open_data(task_name, data_dir)
    labels = data.labels()
    if labels is None:
        raise UserError(f"--task_name: {task_name} is a regression task, expected classes")
    files = choose_files(data_dir, data.files, splits)
    train, dev, *_ = (_split(data.examples(file, path), labels) for file, path in files.items())
    return train, dev


def _split(examples: Iterable[LabelledText], labels: Labels) -> Split:
    texts, ids = [], []
    for example in examples:
        texts.append(example.text if example.pair is None else f"{example.text}\n{example.pair}")
        ids.append(labels.id_of(example))
    return Split(texts, ids)


def make_model(features: str, classifier: str, strength: float) -> Pipeline:
    """The untrained model: text in, label id out."""
    return make_pipeline(make_union(*(VECTORIZERS[name]() for name in FEATURES[features])),
                         CLASSIFIERS[classifier](strength))


def main(argv: Sequence[str] | None = None) -> None:
    """Train on the training data and print the score on the development data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    add = parser.add_argument
    add("--task_name", required=True, type=glue.parse_task_name, choices=["tnews", *glue.TASK_NAMES])
    add("--data_dir", required=True, metavar="DIR", help="directory with the raw files")
    add("--features", choices=FEATURES, default="characters",
        help="n-grams of 1 to 3 characters, of 1 and 2 words, or both (default %(default)s)")
    add("--classifier", choices=CLASSIFIERS, default="svm", help="default %(default)s")
    add("--strength", type=float, default=0.3, metavar="C", help="inverse of the regularisation (default %(default)s)")
    given = parser.parse_args(argv)

    train, dev = read_splits(given.task_name, given.data_dir)
    started = time.monotonic()
    model = make_model(given.features, given.classifier, given.strength).fit(train.texts, train.labels)
    seconds = time.monotonic() - started
    predicted = model.predict(dev.texts)
    print(f"{given.task_name}: {len(train.texts)} training and {len(dev.texts)} development examples, "
          f"{model[-1].n_features_in_} n-grams of {given.features}, {given.classifier}, C {given.strength:g}")
    print(f"{scores(dev.labels, predicted)}, {seconds:.1f} s to train")
    seen = set(train.texts)
    new = [row for row, text in enumerate(dev.texts) if text not in seen]
    print(f"on the {len(new)} texts that do not occur in the training data: "
          f"{scores([dev.labels[row] for row in new], [predicted[row] for row in new])}")


def scores(labels: Sequence[int], predicted: Sequence[int]) -> str:
    """Accuracy and Matthews' correlation coefficient."""
    return f"accuracy {accuracy_score(labels, predicted):.4f}, MCC {matthews_corrcoef(labels, predicted):.4f}"


if __name__ == "__main__":
    run_script(main)
