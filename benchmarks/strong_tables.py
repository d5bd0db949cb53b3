"""The tables and the picture of docs/strong-runs.md, from data/strong_runs.csv.xz.

python benchmarks/strong_tables.py docs/strong-runs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from madyn.figures.style import COLOURS, DASHES, RC, new_figure, panel_title, set_ticks

Frame = Any  # pandas' stubs know too little of what a frame holds

DATA = Path(__file__).parent / "data" / "strong_runs.csv.xz"
MODEL = ["group", "lr", "wd", "beta2", "seed"]
WORDS = {
    "r2_llama_3x128": "3 x 128, 2 heads", "llama_4x128": "4 x 128", "r2_llama_4x128": "4 x 128, again",
    "r2_llama_4x128_seeds": "4 x 128, seeds 1 to 4", "r2_llama_4x128_beta2": "4 x 128, other beta2",
    "r2_arcee_4x128": "4 x 128, GELU (Arcee), MLP 512", "r2_llama_4x128_B8_16k": "4 x 128, 16,000 of 8 x 128 tokens",
    "r2_llama_4x192": "4 x 192, 6 heads", "r2_llama_4x256_B8": "4 x 256, 8 heads, 8 x 128 tokens",
    "llama_6x192": "6 x 192, 6 heads (to step 7,500)", "llama_8x128": "8 x 128",
    "llama_8x128_L256": "8 x 128, 8 x 256 tokens (to step 3,000)", "llama_12x64": "12 x 64",
}  # fmt: skip
DECAYS = (0.0, 0.1, 0.3, 0.5, 1.0)


def ends(rows: Frame) -> Frame:
    """A row a model: what it ends at in the layer with the largest ratio, and when its coordinate was the last one's.

    `fixed`: the step from which the largest value stands at position 0 in all sequences, and in the layer's last
    feature in at least nine tenths; -1 where it does not at the last.
    """
    found = []
    for name, one in rows.groupby(MODEL):
        last = one[one["step"] == one["step"].max()]
        top = last.loc[last["ratio"].idxmax()]
        layer = one[one["layer"] == top["layer"]].sort_values("step")
        good = (layer["position0"] == 1) & (layer["feature_share"] >= 0.9) & (layer["feature"] == top["feature"])
        bad = np.flatnonzero(~good.to_numpy())
        steps = layer["step"].to_numpy()
        start = 0 if not len(bad) else -1 if bad[-1] == len(steps) - 1 else int(steps[bad[-1] + 1])
        half = (last["ratio"] >= 0.5 * top["ratio"]).mean()
        found.append(
            [*name, int(top["step"]), int(top["layer"]), top["ratio"], top["top1"], top["median"], top["sink"],
             last["sink"].max(), top["held_loss"], start, half]
        )  # fmt: skip
    columns = ["step", "layer", "ratio", "top1", "median", "sink", "most_sink", "held_loss", "fixed", "wide"]
    return pd.DataFrame(found, columns=[*MODEL, *columns])


def tell(table: Frame) -> None:
    """The largest ratio at the end, a row a shape and rate, a column a weight decay; ranges are of seeds or beta2."""
    print("| shape | rate |", " | ".join(f"decay {w:g}" for w in DECAYS), "|")
    print("|---" * (2 + len(DECAYS)), "|", sep="")
    for group, words in WORDS.items():
        mine = table[table["group"] == group]
        for rate in sorted(set(mine["lr"])):
            cells = []
            for decay in DECAYS:
                ratios = sorted(mine.loc[(mine["lr"] == rate) & (mine["wd"] == decay), "ratio"])
                few = f"{ratios[0]:.0f}" if len(ratios) == 1 else ""
                few = few or (f"{ratios[0]:.0f} to {ratios[-1]:.0f}" if ratios else "")
                cells.append(f"**{few}**" if ratios and min(ratios) >= 100 else few)
            print(f"| {words} | {rate:g} |", " | ".join(cells), "|")
    strong = table[table["ratio"] >= 100]
    print(f"\n{len(table)} models, {len(strong)} of ratio 100 or more; their coordinate is fixed from step",
          f"{int(strong['fixed'].median())} (median; at most {int(strong['fixed'].max())}),",
          f"{100 * strong['wide'].median():.0f} % of their layers have half of the largest ratio or more,",
          f"most attention to position 0 in a layer {strong['most_sink'].median():.3f} (median)")  # fmt: skip


def draw(rows: Frame, table: Frame, path: Path) -> None:
    with mpl.rc_context(RC):
        fig, axes = new_figure(9.2, 3.5, 1, 3, margins=(0.6, 0.15, 0.5, 0.6), gaps=(0.75, 0.5))
        left, middle, right = np.ravel(axes)
        four = rows[rows["group"].isin(["llama_4x128", "r2_llama_4x128"]) & (rows["lr"] == 0.008)]
        for number, decay in enumerate(DECAYS):
            group = "llama_4x128" if decay <= 0.3 else "r2_llama_4x128"
            one = four[(four["wd"] == decay) & (four["group"] == group)]
            course = one.groupby("step")[["ratio", "median"]].agg({"ratio": "max", "median": "min"})
            look = {"color": COLOURS[number], "linestyle": DASHES[number], "label": f"decay {decay:g}"}
            left.plot(1 + course.index.to_numpy(), course["ratio"], **look)
            layer = one[one["layer"] == 0].groupby("step")[["top1", "median"]].mean()
            middle.plot(1 + layer.index.to_numpy(), layer["top1"], **look)
        left.set(xscale="log", yscale="log", xlabel="1 + step", ylabel="largest ratio")
        panel_title(left, "4 x 128, rate 0.008: the ratio")
        middle.set(xscale="log", yscale="log", xlabel="1 + step", ylabel="largest |h| of layer 0")
        panel_title(middle, "and what it is made of")
        for number, decay in enumerate(DECAYS):
            mine = table[table["wd"] == decay]
            right.plot(mine["held_loss"], mine["ratio"], "o", color=COLOURS[number], label=f"decay {decay:g}")
        right.set(yscale="log", xlabel="held-out loss, nats a token", ylabel="largest ratio at the end")
        right.axhline(100, color="0.5", linewidth=0.8)
        panel_title(right, "all 103 models at their end")
        for ax, ticks in ((left, (5, 10, 20, 50, 100, 200)), (right, (20, 50, 100, 200))):
            set_ticks(ax.yaxis, ticks, [str(tick) for tick in ticks])
        handles, labels = left.get_legend_handles_labels()
        fig.legend(handles, labels, loc="upper center", ncols=5, bbox_to_anchor=(0.5, 1.0))
        fig.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(DATA)
    table = ends(rows)
    tell(table)
    draw(rows, table, out / "search.png")


if __name__ == "__main__":
    main()
