"""Sparkplug B: payloads, and what is known of the nodes at the edge that send them. Pure."""
