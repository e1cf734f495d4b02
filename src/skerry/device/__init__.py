"""Devices: who they are, what they may use, and whether one gets in; and a device's own side."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.device.attempts import Attempts
from skerry.device.audit import AuditLog, audit_files, read_audit
from skerry.device.authenticator import DeviceAuthenticator
from skerry.device.client_ids import OWN_CLIENTS, ClientIds
from skerry.device.login import BrokerLogin
from skerry.device.permissions import Permissions, check_id, check_templates, for_anonymous, for_device, subjects
from skerry.device.refusals import Refusals
from skerry.device.registry import Device, DeviceRegistry
from skerry.device.token_login import Holding, TokenLogin

if TYPE_CHECKING:
    from skerry.device.client import (
        CHALLENGE_PATH,
        TOKEN_PATH,
        DeviceClient,
        DeviceConfig,
        answer_to,
        check_channel,
        read_key,
        token_of,
    )
    from skerry.device.recording import Recording, recorded_devices
    from skerry.device.simulated import Simulated, made_up, simulate

_CLIENT = (
    "CHALLENGE_PATH", "TOKEN_PATH", "DeviceClient", "DeviceConfig", "answer_to", "check_channel", "read_key", "token_of",
)  # fmt: skip
_RECORDING = {"Recording": "recording", "recorded_devices": "recording"}
_SIMULATED = ("Simulated", "made_up", "simulate")
__getattr__ = lazy(__name__, {**dict.fromkeys(_CLIENT, "client"), **dict.fromkeys(_SIMULATED, "simulated"), **_RECORDING})

__all__ = [
    "CHALLENGE_PATH", "OWN_CLIENTS", "TOKEN_PATH", "Attempts", "AuditLog", "BrokerLogin", "ClientIds", "Device",
    "DeviceAuthenticator", "DeviceClient", "DeviceConfig", "DeviceRegistry", "Holding", "Permissions", "Recording", "Refusals",
    "Simulated", "TokenLogin", "answer_to", "audit_files", "check_channel", "check_id", "check_templates", "for_anonymous",
    "for_device", "made_up", "read_audit", "read_key", "recorded_devices", "simulate", "subjects", "token_of",
]  # fmt: skip
