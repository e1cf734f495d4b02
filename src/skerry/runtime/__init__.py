"""Processes, threads, their event loop, resources, and the readings of this computer."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.runtime.admission import Admission, Claim, admit
    from skerry.runtime.assigned import keep_saying, lines_of_agent, tell_agent
    from skerry.runtime.blocking import BlockingPool, PoolFigures, StackedExecutor, check_stack
    from skerry.runtime.children import (
        Child,
        ChildSpec,
        Exit,
        Figures,
        cpu_seconds_of,
        end_left_over,
        figures_of,
        left_over,
        memory_of,
        next_look,
        proportional_memory_of,
    )
    from skerry.runtime.confinement import Confinement, Confines, confine
    from skerry.runtime.edge_runtime import EdgeRuntime, RuntimeConfig, RuntimeFigures
    from skerry.runtime.energy import EnergyMeter
    from skerry.runtime.hosts import FORWARDED, is_loopback, means_us
    from skerry.runtime.lives import Lives
    from skerry.runtime.lock import DirectoryLock
    from skerry.runtime.loop import run_loop, settle
    from skerry.runtime.memory_pool import Block, MemoryPool
    from skerry.runtime.names import machine_names
    from skerry.runtime.notify import Notifier
    from skerry.runtime.open_files import allow_open_files, most_open_files
    from skerry.runtime.own_memory import resident, trim
    from skerry.runtime.ports import can_listen, free_ports, listener_of
    from skerry.runtime.pressure import Bounds, Candidate, Reading, Shedding, judge
    from skerry.runtime.readings import ComputerReadings, busy_seconds
    from skerry.runtime.reporting import ReportingChild, Role
    from skerry.runtime.resource_manager import Lease, ResourceManager
    from skerry.runtime.resources import KINDS, ResourceUsage, show_amount
    from skerry.runtime.stall import LoopWatch, Stall
    from skerry.runtime.tasks import Failure
    from skerry.runtime.throttle import ALARM, BULK, Allowance, Throttle, TokenBucket
    from skerry.runtime.tls_listener import TlsListener
    from skerry.runtime.trimming import keep_trimmed
    from skerry.runtime.usage import UsageMeter, cgroup_memory, kernel_limits
    from skerry.runtime.wakeups import WakeupMeter

__getattr__ = lazy(
    __name__,
    {
        "FORWARDED": "hosts",
        "is_loopback": "hosts",
        "keep_saying": "assigned",
        "means_us": "hosts",
        "lines_of_agent": "assigned",
        "tell_agent": "assigned",
        "ALARM": "throttle",
        "Allowance": "throttle",
        "Admission": "admission",
        "BULK": "throttle",
        "Block": "memory_pool",
        "BlockingPool": "blocking",
        "Bounds": "pressure",
        "Candidate": "pressure",
        "Child": "children",
        "ChildSpec": "children",
        "Claim": "admission",
        "ComputerReadings": "readings",
        "Confinement": "confinement",
        "Confines": "confinement",
        "DirectoryLock": "lock",
        "EdgeRuntime": "edge_runtime",
        "EnergyMeter": "energy",
        "Exit": "children",
        "Failure": "tasks",
        "Figures": "children",
        "KINDS": "resources",
        "Lease": "resource_manager",
        "Lives": "lives",
        "LoopWatch": "stall",
        "MemoryPool": "memory_pool",
        "Notifier": "notify",
        "PoolFigures": "blocking",
        "Reading": "pressure",
        "ReportingChild": "reporting",
        "ResourceManager": "resource_manager",
        "ResourceUsage": "resources",
        "Role": "reporting",
        "RuntimeConfig": "edge_runtime",
        "RuntimeFigures": "edge_runtime",
        "Shedding": "pressure",
        "StackedExecutor": "blocking",
        "Stall": "stall",
        "Throttle": "throttle",
        "TlsListener": "tls_listener",
        "TokenBucket": "throttle",
        "UsageMeter": "usage",
        "WakeupMeter": "wakeups",
        "admit": "admission",
        "allow_open_files": "open_files",
        "busy_seconds": "readings",
        "can_listen": "ports",
        "cgroup_memory": "usage",
        "check_stack": "blocking",
        "confine": "confinement",
        "cpu_seconds_of": "children",
        "end_left_over": "children",
        "figures_of": "children",
        "free_ports": "ports",
        "judge": "pressure",
        "keep_trimmed": "trimming",
        "kernel_limits": "usage",
        "left_over": "children",
        "listener_of": "ports",
        "machine_names": "names",
        "memory_of": "children",
        "most_open_files": "open_files",
        "next_look": "children",
        "proportional_memory_of": "children",
        "resident": "own_memory",
        "run_loop": "loop",
        "settle": "loop",
        "show_amount": "resources",
        "trim": "own_memory",
    },
)

__all__ = [
    "ALARM", "BULK", "FORWARDED", "KINDS", "Admission", "Allowance", "Block", "BlockingPool", "Bounds", "Candidate", "Child",
    "ChildSpec", "Claim", "ComputerReadings", "Confinement", "Confines", "DirectoryLock", "EdgeRuntime", "EnergyMeter", "Exit",
    "Failure", "Figures", "Lease", "Lives", "LoopWatch", "MemoryPool", "Notifier", "PoolFigures", "Reading", "ReportingChild",
    "ResourceManager", "ResourceUsage", "Role", "RuntimeConfig", "RuntimeFigures", "Shedding", "StackedExecutor", "Stall",
    "Throttle", "TlsListener", "TokenBucket", "UsageMeter", "WakeupMeter", "admit", "allow_open_files", "busy_seconds",
    "can_listen", "cgroup_memory", "check_stack", "confine", "cpu_seconds_of", "end_left_over", "figures_of", "free_ports",
    "is_loopback", "judge", "keep_saying", "keep_trimmed", "kernel_limits", "left_over", "lines_of_agent", "listener_of",
    "machine_names", "means_us", "memory_of", "most_open_files", "next_look", "proportional_memory_of", "resident", "run_loop",
    "settle", "show_amount", "tell_agent", "trim",
]  # fmt: skip
