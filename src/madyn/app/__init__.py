"""The explorer: a dataset, a fit of one's own, a design and a running training, each in a tab of one page in a browser.

    build_app   the page, as a `gradio.Blocks` that may be launched, or mounted in another server
    LAUNCH      what it is launched with: its script and style, and how large a file may be
    write_space the files of a Space of the Hub that shows a dataset

What a tab shows is a function of its own, from plain values to a chart or words, in a file for each tab; they know
nothing of Gradio, and `building` puts them on the page.
"""

from madyn.app.building import LAUNCH, build_app
from madyn.app.space import write_space

__all__ = ["LAUNCH", "build_app", "write_space"]
