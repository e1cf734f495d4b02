"""FastAPI on uvicorn: one process, one session, run where the request is handled.

`MODEL=FILE python fastapi_server.py PORT`
"""

import os
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Input]


class Answer(BaseModel):
    model_name: str
    model_version: str
    outputs: list[Output]


@app.post("/v2/models/mlp/infer")
async def infer(request: Request) -> Answer:
    given = request.inputs[0]
    (score,) = session.run(None, {"features": np.array(given.data, np.float32).reshape(given.shape)})
    output = Output(name="score", shape=list(score.shape), datatype="FP32", data=score.ravel().tolist())
    return Answer(model_name="mlp", model_version="1", outputs=[output])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
