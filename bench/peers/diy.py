"""paho-mqtt and onnxruntime in one script, as one would put it under systemd: subscribe, window, score, publish.

`python diy.py PORT USERNAME PASSWORD MODEL`
"""

import json
import sys
from datetime import UTC, datetime

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt

SIZE = 32
VALUES = ("x", "y", "z")


def features(samples):
    """mean, std, rms, peak, crest, kurtosis, min, max of each column."""
    mean, std = samples.mean(axis=0), samples.std(axis=0)
    rms = np.sqrt((samples**2).mean(axis=0))
    peak = np.abs(samples).max(axis=0)
    safe = np.where(std > 0, std, 1.0)
    kurtosis = (((samples - mean) / safe) ** 4).mean(axis=0)
    crest = peak / np.where(rms > 0, rms, 1.0)
    columns = [mean, std, rms, peak, crest, kurtosis, samples.min(axis=0), samples.max(axis=0)]
    return np.stack(columns, axis=1).reshape(1, -1).astype(np.float32)


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Script:
    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.windows = {}

    def on_connect(self, client, userdata, flags, code, properties):
        client.subscribe("devices/+/vibration", qos=1)

    def on_message(self, client, userdata, message):
        key = message.topic.split("/")[1]
        reading = json.loads(message.payload)
        window = self.windows.setdefault(key, [])
        window.append((reading["ts"], *(reading[name] for name in VALUES)))
        if len(window) < SIZE:
            return
        self.windows[key] = []
        samples = np.array(window)
        (score,) = self.session.run(["score"], {"features": features(samples[:, 1:])})
        event = {
            "id": f"{key}-{window[0][0]}",
            "key": key,
            "start": rfc3339(window[0][0]),
            "end": rfc3339(window[-1][0]),
            "count": SIZE,
            "score": float(score[0, 0]),
        }
        client.publish(f"events/{key}", json.dumps(event), qos=1)


def main():
    port, username, password, model = sys.argv[1:5]
    script = Script(model)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="diy", clean_session=False)
    client.username_pw_set(username, password)
    client.on_connect = script.on_connect
    client.on_message = script.on_message
    client.connect("127.0.0.1", int(port))
    client.loop_forever()


if __name__ == "__main__":
    main()
