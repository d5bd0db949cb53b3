"""Text from elsewhere in a card: Markdown shows what it says, and nothing of it is markup."""

import html
import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from madyn.errors import one_line
from madyn.publish.markup import code, front_matter, plain, table

PAGE = MarkdownIt("gfm-like", {"html": True, "linkify": False})
MARKS = st.text(st.sampled_from("ab1 .)-+#=>*_`~[]()!|<>&;:/@$\\\"'{}^\n\té")) | st.text()


def shown(markdown: str) -> tuple[str, set[str]]:
    """The text that a reader sees, and the kinds of elements around it."""
    page = PAGE.render(markdown)
    text = html.unescape(re.sub(r"<[^>]*>", "", page)).strip()
    return text, set(re.findall(r"<(\w+)", page))


@settings(deadline=None)  # a machine may be busy
@given(MARKS)
def test_plain_text_is_shown_as_it_is(text):
    said = one_line(text, 200).strip()
    assert shown(plain(text)) == (said, {"p"} if said else set())
    assert shown(f"# {plain(text)}") == (said, {"h1"})
    assert shown(f"a {plain(text)}")[1] == {"p"}
    seen, kinds = shown(f"- {plain(text)}\n- b")
    assert (seen.split(), kinds) == ([*said.split(), "b"], {"ul", "li"})


@settings(deadline=None)  # a machine may be busy
@given(MARKS, MARKS)
def test_a_cell_is_a_cell(a, b):
    page = PAGE.render(table(["one", "two"], [[plain(a), code(b)], ["x", "y"]]))
    cells = [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", page, re.DOTALL)]
    assert len(cells) == 4
    assert cells[0] == one_line(a, 200).strip()
    assert cells[1].strip() == one_line(b, 200).replace("`", "'").replace("|", "¦").strip()
    assert cells[2:] == ["x", "y"]


@settings(deadline=None)  # a machine may be busy
@given(st.text().map(one_line))
def test_front_matter_reads_back(text):
    written = front_matter({"a": text, "b": [text]})
    assert written.startswith("---\n")
    assert yaml.safe_load(written.removeprefix("---\n").rpartition("---\n")[0]) == {"a": text, "b": [text]}
