"""The way to the Hub: a dataset with its card and tables, and its upload."""

from madyn.publish.publication import Publication, publish_dataset

__all__ = ["Publication", "publish_dataset"]
