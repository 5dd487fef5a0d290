"""HTML pages: their elements and visible text; asserts that elements are nested correctly."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "meta", "wbr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    parents: list["Element"] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in (self.attributes.get("class") or "").split()


class Page(HTMLParser):
    """The elements in order; the text of an element includes that of its children."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)
        self.close()
        assert self._open == [], f"not closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute of {tag} twice: {names}"
        self.elements.append(Element(tag, dict(attrs), parents=list(self._open)))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        return [element for element in self.elements if element.tag == tag and (name is None or element.has(name))]

    @property
    def text(self) -> str:
        """The visible text, with single spaces."""
        return " ".join(self.all("body")[0].text.split())

    @property
    def outside(self) -> list[str]:
        """Elements and attributes that load external resources or run scripts."""
        parts = [
            f"{element.tag} {name}={value}"
            for element in self.elements
            for name, value in element.attributes.items()
            if (name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#"))
            or name.startswith("on")
            or "url(" in (value or "")
        ]
        parts += [element.tag for element in self.elements if element.tag in ("script", "link", "iframe", "object")]
        parts += [part for sheet in self.all("style") for part in ("@import", "url(", "http") if part in sheet.text]
        return parts
