"""Devices: who they are, what they may use, and whether one gets in."""

from skerry.device.login import BrokerLogin
from skerry.device.permissions import Permissions, check_id, check_templates, for_anonymous, for_device, subjects
from skerry.device.registry import Device, DeviceRegistry

__all__ = [
    "BrokerLogin", "Device", "DeviceRegistry", "Permissions", "check_id", "check_templates", "for_anonymous", "for_device",
    "subjects",
]  # fmt: skip
