"""What runs a model: the seam, onnxruntime and openvino behind it, and what inputs and outputs look like."""
