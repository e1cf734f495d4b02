"""The demonstration: a simulated pump station and this computer as devices, their models, and the truth about them."""
