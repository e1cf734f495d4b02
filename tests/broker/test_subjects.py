"""The rules between topics and subjects, case by case; a real server is asked in tests/pipeline/test_topics.py."""

import pytest

from skerry.broker import to_subject, to_topic


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        ("a/b/c", "a.b.c"), ("a.b/c", "a//b.c"), ("/a", "/.a"), ("a/", "a./"), ("a//b", "a./.b"), ("/", "/./"), (".", "//"),
        ("devices/+/v", "devices.*.v"), ("devices/#", "devices.>"), ("+/a.b/#", "*.a//b.>"), ("#", ">"), ("a+", "a+"),
    ],
)  # fmt: skip
def test_topics_and_filters_as_subjects(topic: str, subject: str) -> None:
    assert to_subject(topic) == subject
    if not {"+", "#"} & set(topic.split("/")):
        assert to_topic(subject) == topic
