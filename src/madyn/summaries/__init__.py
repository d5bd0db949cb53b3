"""What commands say when they are done: tables for a terminal, the same text without colours for a pipe."""

from madyn.summaries.comparing import comparison_tables, print_comparison
from madyn.summaries.contents import dataset_contents, print_check, print_contents, print_locations
from madyn.summaries.designs import print_designs
from madyn.summaries.drawing import print_drawing, print_not_drawn
from madyn.summaries.exporting import export_contents, print_export
from madyn.summaries.families import print_effects, print_lab, print_suite_costs
from madyn.summaries.fitting import fit_tables, print_fits
from madyn.summaries.forecasting import print_forecast
from madyn.summaries.intervention import print_intervention, print_study, write_report, write_study
from madyn.summaries.prediction import prediction_tables, print_evaluation, print_prediction
from madyn.summaries.publishing import print_publication, publication_record
from madyn.summaries.scanning import print_features, print_scan, print_scans_by_bos, scan_records
from madyn.summaries.sweeping import print_costs, print_trace
from madyn.summaries.verifying import print_verifications

__all__ = [
    "comparison_tables",
    "dataset_contents",
    "export_contents",
    "fit_tables",
    "prediction_tables",
    "print_check",
    "print_comparison",
    "print_contents",
    "print_costs",
    "print_designs",
    "print_drawing",
    "print_effects",
    "print_evaluation",
    "print_export",
    "print_features",
    "print_fits",
    "print_forecast",
    "print_intervention",
    "print_lab",
    "print_locations",
    "print_not_drawn",
    "print_prediction",
    "print_publication",
    "print_scan",
    "print_scans_by_bos",
    "print_study",
    "print_suite_costs",
    "print_trace",
    "print_verifications",
    "publication_record",
    "scan_records",
    "write_report",
    "write_study",
]
