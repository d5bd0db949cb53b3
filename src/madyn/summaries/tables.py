"""A table as CSV: the one form in which commands write tables, and the tables of those whose result is none itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from madyn.dataset.table_cells import written

if TYPE_CHECKING:
    import pandas as pd


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV with a header and without an index.

    Numbers are the shortest that read back the same, what is missing is empty, a list has spaces between its items, and
    a mapping is JSON. Text that a spreadsheet would run has an apostrophe before it, as in the parameter table.
    """
    return table.astype(object).map(_cell).to_csv(index=False)


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    return written(value, is_text=True)


def scan_table(tables: Sequence[tuple[bool, pd.DataFrame]]) -> pd.DataFrame:
    """Scans, a row a layer, each with whether its sequences begin with a BOS token."""
    import pandas as pd

    return pd.concat([table.reset_index().assign(bos=bos) for bos, table in tables], ignore_index=True)


def contents_table(contents: Mapping[str, Any]) -> pd.DataFrame:
    """What `dataset_contents` gives, a row a model."""
    import pandas as pd

    rows = [
        {**one, **{f"massive_{rule}": (one["massive"] or {}).get(rule) for rule in ("published", "start")}}
        for one in contents["models"]
    ]
    columns = ["model", "layers", "sequences", "steps", "complete", "largest_ratio", "in_layer", "massive_published",
               "massive_start", "fitted", "missing"]  # fmt: skip
    rows = [{**row, "missing": "; ".join(row["missing"])} for row in rows]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def check_table(found: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """What a check has found, a row a sentence: kind (fault, remark or absence) and message."""
    import pandas as pd

    rows = [(kind.removesuffix("s"), message) for kind, messages in found.items() for message in messages]
    return pd.DataFrame(rows, columns=["kind", "message"])


def findings_table(found: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What `Verification.to_dict` gives of each model, a row a finding."""
    import pandas as pd

    columns = ["source", "kind", "fault", "steps", "shares_with", "pieces", "sound", "says", "advice"]
    rows = [{"source": one["source"], **finding} for one in found for finding in one["findings"]]
    return pd.DataFrame(rows, columns=columns)


def fits_table(by_quantity: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What `fit_tables` gives of each quantity, a row a quantity and hypothesis."""
    import pandas as pd

    columns = ["quantity", "hypothesis", "layers", "r2", "below_zero", "at_edge", "failed"]
    rows = [{"quantity": one["quantity"], **row} for one in by_quantity for row in one["hypotheses"]]
    return pd.DataFrame(rows, columns=columns)


def records_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records of the same keys, a row each."""
    import pandas as pd

    return pd.DataFrame(list(records), dtype=object)
