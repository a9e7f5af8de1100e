"""Split running text into sentences by punctuation, for English and Chinese (and what shares their marks)."""

import re

# A Chinese sentence ends with its mark, quotes that close behind it included; no space follows.
_CHINESE_END = re.compile(r"(?<=[。！？；])(?![。！？；”’」』）])|(?<=[。！？；][”’」』）])(?![。！？；”’」』）])")
# An English one ends with a mark and space, when a capital, a digit or an opening quote or bracket follows.
_ENGLISH_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|cf|al|e\.g|i\.e|No|Vol|Fig|Eq|Ref|Sec|pp?)\.$")


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, in order, stripped, none empty.

    A full stop behind an initial or a common abbreviation does not end a sentence. Nothing but white space is lost.
    """
    sentences = []
    for part in _CHINESE_END.split(text):
        start = 0
        for end in _ENGLISH_END.finditer(part):
            candidate = part[start:end.end()].strip()
            if not _ABBREVIATION.search(candidate):
                sentences.append(candidate)
                start = end.end()
        sentences.append(part[start:].strip())
    return [sentence for sentence in sentences if sentence]
