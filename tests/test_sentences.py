import pytest

from src.sentences import split_sentences


@pytest.mark.parametrize("text, sentences", [
    ("One ends. Another begins! Does a third?", ["One ends.", "Another begins!", "Does a third?"]),
    ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
    ("Mr. Darcy met J. Smith, e.g. in No. 5 of it.", ["Mr. Darcy met J. Smith, e.g. in No. 5 of it."]),
    ("Version 3.11 of it. See below", ["Version 3.11 of it.", "See below"]),
    ("数学是科学。它很古老！真的吗？", ["数学是科学。", "它很古老！", "真的吗？"]),
    ("他说：“走吧。”然后离开了。", ["他说：“走吧。”", "然后离开了。"]),
    ("  \n ", []),
])
def test_sentences_end_where_a_reader_ends_them(text, sentences):
    assert split_sentences(text) == sentences


def test_nothing_but_white_space_is_lost():
    text = "A b. C d!\tE?! 中文。英文 mixed. Yes。”完"
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
