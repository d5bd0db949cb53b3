"""Whether a dataset is whole: what is wrong in it, file by file, and what is merely absent."""

from madyn.checking.manifests import failures_of, missing_units
from madyn.checking.records import read_records
from madyn.checking.reports import CheckReport, check_dataset

__all__ = ["CheckReport", "check_dataset", "failures_of", "missing_units", "read_records"]
