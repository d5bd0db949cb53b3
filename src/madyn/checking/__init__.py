"""Whether a dataset is whole: what is wrong in it, file by file, and what is merely absent."""

from madyn.checking.manifests import damaged_records, failures_of, missing_units
from madyn.checking.reports import CheckReport, check_dataset

__all__ = ["CheckReport", "check_dataset", "damaged_records", "failures_of", "missing_units"]
