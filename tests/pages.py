"""Reading pages as strictly as a browser does not: every tag is closed in order, and nothing leads outside."""

import re
from html.parser import HTMLParser

VOID = {"meta", "line", "polyline"}  # the last two are closed by themselves


class Page(HTMLParser):
    """The texts and tags of a page; `marks` are (class, text) of what is marked."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.marks: list[tuple[str, str]] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert self.open == []
        assert not re.search(r"@import|url\(", content.partition("</style>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names) and tag not in {"script", "link", "img", "iframe", "base"}
        assert not {"src", "href", "srcset", "action"} & set(names) and not any(n.startswith("on") for n in names)
        self.tags.append((tag, dict(attrs)))
        if tag == "mark":
            self.marks.append((dict(attrs).get("class", ""), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "mark" in self.open and "small" not in self.open[self.open.index("mark"):]:
            kind, before = self.marks[-1]
            self.marks[-1] = kind, before + data
