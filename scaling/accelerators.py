"""What accelerators can do at most, from their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """One device, as JAX counts them: a GPU, or a TPU chip."""

    flops: float
    """Peak FLOP/s of dense bfloat16 matrix products."""
    memory: float
    """Bytes of high-bandwidth memory."""
    bandwidth: float
    """Bytes a second between this memory and the cores."""
    source: str
    kinds: tuple[str, ...]
    """What JAX calls such a device."""


ACCELERATORS = {
    "a100": Accelerator(312e12, 80e9, 2.039e12, "NVIDIA A100 80GB SXM data sheet", ("NVIDIA A100-SXM4-80GB",)),
    "h100": Accelerator(
        989e12, 80e9, 3.35e12, "NVIDIA H100 SXM data sheet, without sparsity", ("NVIDIA H100 80GB HBM3",)
    ),
    "h200": Accelerator(989e12, 141e9, 4.8e12, "NVIDIA H200 SXM data sheet, without sparsity", ("NVIDIA H200",)),
    "b200": Accelerator(
        2250e12, 180e9, 8e12, "NVIDIA DGX B200 data sheet, an eighth, without sparsity", ("NVIDIA B200",)
    ),
    "v4": Accelerator(275e12, 32 * 2**30, 1.2e12, "Google Cloud TPU v4 system architecture", ("TPU v4",)),
    "v5e": Accelerator(
        197e12, 16e9, 0.819e12, "Google Cloud TPU v5e system architecture", ("TPU v5 lite", "TPU v5e")
    ),
    "v5p": Accelerator(459e12, 95e9, 2.765e12, "Google Cloud TPU v5p system architecture", ("TPU v5", "TPU v5p")),
    "v6e": Accelerator(
        918e12, 32e9, 1.64e12, "Google Cloud TPU v6e system architecture", ("TPU v6 lite", "TPU v6e")
    ),
}


def peak(kind: str) -> float | None:
    """FLOP/s of one device of a kind, as JAX names it; None where it is not in the table."""
    return next((device.flops for device in ACCELERATORS.values() if kind in device.kinds), None)
