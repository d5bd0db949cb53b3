"""Pictures of what attends to a massive activation and of where it comes from, from tables."""

import numpy as np
import pandas as pd
import pytest

from madyn.figures.pictures.function import decomposition_by_layer, sink_heads


def shares(layers: int, heads: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(layer, head, 0, rng.uniform()) for layer in range(layers) for head in range(heads)]
    return pd.DataFrame(rows, columns=pd.Index(["layer", "head", "position", "share"]))


def test_each_cell_is_a_heads_share():
    before, after = shares(4, 3, 0), shares(4, 3, 1)
    after = pd.DataFrame(after[after["layer"] != 2])  # one without attention stays empty
    fig = sink_heads({"untouched": before, "zeroed": after}, "a model")
    fig.canvas.draw()
    above, below = (ax.images[0].get_array() for ax in fig.axes[:2])
    assert above is not None
    assert below is not None
    for table, image in ((before, above), (after, below)):
        for row in table.to_dict("records"):
            assert image[row["head"], row["layer"]] == row["share"]
    assert np.ma.getmaskarray(below)[:, 2].all()
    assert fig.axes[0].get_title("left") == f"untouched: {before.share.mean():.2f} of all attention"


def test_bars_stand_on_each_other_and_the_line_is_the_sum():
    rows = [(0, -1, "embedding", 2.0), (0, 0, "attention", 3.0), (0, 0, "mlp", 10.0), (0, 1, "attention", -4.0),
            (0, 1, "mlp", -1.0), (1, -1, "embedding", 4.0), (1, 0, "attention", 5.0), (1, 0, "mlp", 20.0),
            (1, 1, "attention", -6.0), (1, 1, "mlp", -3.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=pd.Index(["sequence", "layer", "part", "value"]))
    table["sum"] = table.groupby("sequence")["value"].cumsum()
    fig = decomposition_by_layer(table, "a model")
    fig.canvas.draw()
    above, below = fig.axes
    boxes = [patch.get_path().get_extents(patch.get_transform() - above.transData) for patch in above.patches]
    bars = {((box.x0 + box.x1) / 2, box.y0, box.height) for box in boxes if box.height}
    assert {tuple(float(value) for value in np.round(bar, 6)) for bar in bars} == {
        (-1, 0, 3), (0, 0, 4), (0, 4, 15), (1, -5, 5), (1, -7, 2)
    }  # fmt: skip
    np.testing.assert_allclose(np.asarray(below.lines[0].get_ydata(), float), [3, 22, 15])


@pytest.mark.parametrize("part", ["mixer", "layer"])
def test_a_part_of_another_name_has_a_colour_of_its_own(part):
    table = pd.DataFrame({"sequence": 0, "layer": [-1, 0], "part": ["embedding", part], "value": [1.0, 2.0]})
    fig = decomposition_by_layer(table.assign(sum=table["value"].cumsum()))
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["embedding", part]
