"""Whether what a model sees is still what it was trained on."""
