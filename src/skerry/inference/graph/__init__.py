"""What a model file needs before it runs well: freed of a fixed batch, brought to a newer opset."""
