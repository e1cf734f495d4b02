"""Requests that share a run: which ones, how rows are stacked and cut, and the two models that callers hold."""
