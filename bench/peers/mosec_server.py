"""mosec with its dynamic batching: a stage of one worker, batches of at most 64 within a millisecond.

`MODEL=FILE python mosec_server.py --address 127.0.0.1 --port PORT`
"""

import os

import numpy as np
import onnxruntime
from mosec import Runtime, Server, Worker


class Inference(Worker):
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def forward(self, data):
        rows = np.array([each["inputs"][0]["data"] for each in data], np.float32)
        (scores,) = self.session.run(None, {"features": rows})
        return [
            {
                "model_name": "mlp",
                "model_version": "1",
                "outputs": [{"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [score]}],
            }
            for score in scores[:, 0].tolist()
        ]


if __name__ == "__main__":
    server = Server()
    stage = Runtime(Inference, num=1, max_batch_size=64, max_wait_time=1)
    server.register_runtime({"/v2/models/mlp/infer": [stage]})
    server.run()
