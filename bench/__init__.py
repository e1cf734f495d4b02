"""The figures that the README quotes, measured beside a peer in the same run: `python -m bench --help`."""
