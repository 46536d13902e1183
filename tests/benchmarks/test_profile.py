"""The profile names the kernels of a step and counts them a step."""

import os
import subprocess
import sys

from benchmarks import PINNED
from benchmarks.profile import TRACED

CODE = """
import jax, jax.numpy as jnp
from benchmarks.profile import PRODUCTS, kernels
product = jax.jit(lambda x: jnp.tanh(x @ x) @ x)
x = jnp.ones((64, 64))
found = kernels(lambda: product(x).block_until_ready(), steps=2)
assert found == sorted(found, key=lambda k: -k.seconds) and all(k.seconds > 0 for k in found), found
assert sum(k.calls for k in found if k.name.startswith(PRODUCTS)) == 2, found
"""


def test_every_product_of_a_step_is_a_kernel():
    flags = os.environ | {"XLA_FLAGS": f"{PINNED['XLA_FLAGS']} {TRACED}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
