"""Text from elsewhere as it stands in a card: it says what it says, and is never markup.

Names, sources and failures come out of files that anybody may have written. In Markdown a line of them could be a link,
an image that tells who looks at it, or HTML; in the YAML above it, another key. The front matter is written by a YAML
library, and everything else goes through `plain` or `code`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from madyn.errors import one_line

_MARKS = re.compile(r"([\\`*_\[\]|~$@!^#])")
_LINKS = re.compile(r"(?<=\w)(:(?=//)|(?<=www)\.)", re.IGNORECASE)  # what is made a link with no mark at all
_FIRST = re.compile(r"^([-+=>]|\d+(?=[.)](?:\s|$)))")


def plain(text: object, most: int = 200) -> str:
    r"""Text on one line that Markdown shows as it is.

    >>> print(plain("<script>a_b|c"), plain("see http://x"), plain("1. a"))
    &lt;script&gt;a\_b\|c see http\://x &#49;. a
    """
    line = one_line(text, most).replace("&", "&amp;")
    line = _LINKS.sub(r"\\\1", _MARKS.sub(r"\\\1", line))
    line = _FIRST.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[1]), line)
    return line.replace("<", "&lt;").replace(">", "&gt;")


def code(text: object, most: int = 200) -> str:
    """Text on one line as code, in a table too: what would end it there is shown as another character.

    >>> print(code("a|b`c"))
    `a¦b'c`
    """
    return f"`{one_line(text, most).replace('`', chr(39)).replace('|', '¦') or ' '}`"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are Markdown already."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def front_matter(values: Mapping[str, Any]) -> str:
    """The YAML that a card begins with; its texts are lines, as `one_line` gives them."""
    import yaml

    written = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{written}---\n"
