"""Reading the pages of the dashboard."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

VOID = {"meta", "link", "input", "br", "img", "use", "path", "circle", "rect"}

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
"""What a browser sends along with the forms of the dashboard's own pages."""


@dataclass
class Element:
    """An element of a page."""

    name: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What a reader reads, with single spaces."""
        parts = [each if isinstance(each, str) else each.text for each in self.children]
        return " ".join(" ".join(parts).split())

    def all(self, name: str, /, **attributes: str) -> list[Element]:
        """Return the elements below that are called *name* and have *attributes*."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.name == name and attributes.items() <= child.attributes.items():
                    found.append(child)
                found += child.all(name, **attributes)
        return found

    def one(self, name: str, /, **attributes: str) -> Element:
        """Return the only one."""
        [found] = self.all(name, **attributes)
        return found


class Parser(HTMLParser):
    """Reads a page that is closed as it was opened, and says so if it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root], "something was left open"
    return parser.root


async def page_at(client: httpx.AsyncClient, path: str, *, status: int = 200) -> Element:
    response = await client.get(f"/dashboard{path}")
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    return parse(response.text)


def section(page: Element, title: str) -> Element:
    """Return the section that is called *title*."""
    [found] = [each for each in page.all("section") if title in [head.text for head in each.all("h2")]]
    return found


def cell(row: Element, label: str) -> str:
    """Return what stands in the column that is called *label*."""
    return row.one("td", **{"data-label": label}).text
