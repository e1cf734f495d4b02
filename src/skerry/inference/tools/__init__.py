"""What a person does with a model file: verify, measure, optimize and quantize it."""
