"""What the search benchmarks share: interleaved rounds, medians, and the ratio last."""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def options(doc: str, **defaults: int | str) -> argparse.Namespace:
    """--rounds, --json, and a flag of the default's type for everything in `defaults`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; the median counts (default 3)")
    parser.add_argument("--json", help="write all seconds to this file too")
    return parser.parse_args()


def has(peer: str) -> bool:
    """Whether a peer is installed; where it is not, a line says what is measured without it."""
    if importlib.util.find_spec(peer):
        return True
    print(f"{peer} is not installed: measured without it; pip install {peer} for the comparison")
    return False


def machine(*modules: Any) -> str:
    """Processor, cores, and versions."""
    model = platform.processor() or "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in modules if m)
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, {versions}"


def timed(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round; each is called once before, and rounds are interleaved so that noise hits all alike."""
    for call in contestants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            begun = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def table(seconds: Mapping[str, list[float]], ours: str, note: Mapping[str, str] | None = None) -> None:
    """Medians, spread, and how many times as long as `ours` each peer takes."""
    median = {name: statistics.median(s) for name, s in seconds.items()}
    for name, s in seconds.items():
        ratio = "" if name == ours else f"   {median[name] / median[ours]:6.2f} x"
        extra = (note or {}).get(name, "")
        print(f"  {name:<44}{median[name]:9.4f} s  ({min(s):.4f} - {max(s):.4f}){ratio}  {extra}", flush=True)


def write(path: str | None, result: Any) -> None:
    """The result as JSON, if a path was given."""
    if path:
        Path(path).write_text(json.dumps(result, indent=1) + "\n")
