"""Versions of models: tried, kept by their content, activated, exchanged between nodes, and taken back."""
