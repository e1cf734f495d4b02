"""Sparkplug B payloads written by the protobuf library from the fields of the public schema: an encoder that is not ours."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto
METRIC = {
    "name": (1, F.TYPE_STRING), "alias": (2, F.TYPE_UINT64), "timestamp": (3, F.TYPE_UINT64), "datatype": (4, F.TYPE_UINT32),
    "is_historical": (5, F.TYPE_BOOL), "is_null": (7, F.TYPE_BOOL), "int_value": (10, F.TYPE_UINT32),
    "long_value": (11, F.TYPE_UINT64), "float_value": (12, F.TYPE_FLOAT), "double_value": (13, F.TYPE_DOUBLE),
    "boolean_value": (14, F.TYPE_BOOL), "string_value": (15, F.TYPE_STRING), "bytes_value": (16, F.TYPE_BYTES),
}  # fmt: skip


def _schema() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug.proto", package="t", syntax="proto2")
    metric = file.message_type.add(name="Metric")
    for name, (number, kind) in METRIC.items():
        metric.field.add(name=name, number=number, type=kind, label=F.LABEL_OPTIONAL)
    payload = file.message_type.add(name="Payload")
    payload.field.add(name="timestamp", number=1, type=F.TYPE_UINT64, label=F.LABEL_OPTIONAL)
    payload.field.add(name="metrics", number=2, type=F.TYPE_MESSAGE, type_name=".t.Metric", label=F.LABEL_REPEATED)
    payload.field.add(name="seq", number=3, type=F.TYPE_UINT64, label=F.LABEL_OPTIONAL)
    payload.field.add(name="uuid", number=4, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    payload.field.add(name="body", number=5, type=F.TYPE_BYTES, label=F.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Payload"))


Payload = _schema()


def written(seq: int | None, *metrics: dict[str, Any], timestamp: int | None = 1000, **more: Any) -> bytes:
    """A payload of these metrics."""
    payload = Payload(metrics=metrics, **more)
    if seq is not None:
        payload.seq = seq
    if timestamp is not None:
        payload.timestamp = timestamp
    found: bytes = payload.SerializeToString()
    return found
