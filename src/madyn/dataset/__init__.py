"""Datasets in the published layout, read and written."""

from madyn.dataset.exporting import export_dataset
from madyn.dataset.view import Dataset, open_dataset, open_to_write

__all__ = ["Dataset", "export_dataset", "open_dataset", "open_to_write"]
