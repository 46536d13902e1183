"""What is known of accelerators."""

from scaling.accelerators import ACCELERATORS, peak


def test_every_accelerator_is_found_by_what_jax_calls_it_and_nothing_else_is():
    assert all(peak(kind) == device.flops for device in ACCELERATORS.values() for kind in device.kinds)
    names = [kind for device in ACCELERATORS.values() for kind in device.kinds]
    assert len(names) == len(set(names)) and all(device.kinds for device in ACCELERATORS.values())
    assert peak("cpu") is None and peak("NVIDIA H100 PCIe") is None
