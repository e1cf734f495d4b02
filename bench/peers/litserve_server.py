"""LitServe with its batching: at most 64 requests within a millisecond.

`MODEL=FILE python litserve_server.py PORT`
"""

import os
import sys

import litserve
import numpy as np
import onnxruntime


class Inference(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.array(request["inputs"][0]["data"], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, rows):
        (scores,) = self.session.run(None, {"features": rows})
        return scores

    def unbatch(self, scores):
        return list(scores)

    def encode_response(self, score):
        output = {"name": "score", "datatype": "FP32", "shape": [1, 1], "data": score.tolist()}
        return {"model_name": "mlp", "model_version": "1", "outputs": [output]}


if __name__ == "__main__":
    api = Inference(max_batch_size=64, batch_timeout=0.001, api_path="/v2/models/mlp/infer")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
