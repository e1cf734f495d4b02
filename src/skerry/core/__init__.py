"""The ground floor: errors, clock, units, settings, service life cycle, ledger, log. Imports nothing of the house."""
