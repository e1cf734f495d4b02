"""The kinds of connectors that are part of skerry, each in a module that is imported when one is used."""
