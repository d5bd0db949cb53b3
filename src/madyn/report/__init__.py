"""A report: one page that says what is in a dataset, or what a model's massive activations are and do.

dataset_parts   its parts, each with pictures, tables and a sentence on what they show
model_parts     the same of a model, measured and judged for it
write_report    the page: one file that works without a network
"""

from madyn.report.contents import Part, Table, dataset_parts
from madyn.report.models import model_parts
from madyn.report.page import write_report
from madyn.report.reading import fitted_bands, peak_table, words

__all__ = ["Part", "Table", "dataset_parts", "fitted_bands", "model_parts", "peak_table", "words", "write_report"]
