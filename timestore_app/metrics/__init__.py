"""Metrics of one server, for Prometheus. What is measured is noted where it happens; only this package knows the names.

Labels have few values, whatever clients do: doors, stages, kinds of errors, routes. Never datasets, keys, principals or
addresses, of which there may be any number: each would be a time series of its own for as long as the server runs.
"""

from timestore_app.metrics.registry import Metrics

__all__ = ["Metrics"]
