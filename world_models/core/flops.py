"""Floating-point operations of a function, counted from its jaxpr.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs, which is of no use for scanned layers.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

from world_models.core.errors import UserError

# Kernels that hide their products from the jaxpr.
OPAQUE = ("dot_product_attention", "ffi_call", "pallas_call", "ragged_dot", "scaled_dot")


def count_flops(function: Callable, *args: Any, unused: bool = True) -> int:
    """Floating-point operations of matrix products and convolutions in `function(*args)`.

    A multiply-add is two operations; everything else is none, as is usual for model FLOPs. What is counted:

    - Convolutions: the multiply-adds whose both factors are data. Padding, and the zeros between the elements of a
      dilated input, are not counted, so that a convolution and its two gradients cost the same, strided or not.
      ("Output size x kernel size", the rule of thumb, also counts the padding.)
    - A scan's body times its length, the most expensive branch of a conditional, all shards of a `shard_map`.
    - All equations of the jaxpr, before XLA's simplifications. Values that `jax.checkpoint` computes again in the
      backward pass are therefore counted again: for the FLOPs of a model, as utilization (MFU) is measured by, count
      `jax.value_and_grad` of its loss without rematerialization.

    Args:
      function: anything that JAX can trace; nothing is computed.
      *args: its arguments, arrays or `jax.ShapeDtypeStruct`s, in trees.
      unused: whether to count operations on which no result depends, too, such as gradients of constants, which the
        backward passes of `nn.cpu_ops` always contain.

    Raises:
      UserError: if there is a matrix product inside a `while_loop`, whose trip count is not known, or a kernel whose
        operations are not in the jaxpr.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(jaxpr if unused else partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _count(jaxpr: Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        return _dot_general(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name.startswith(OPAQUE):
        raise UserError(
            f"FLOPs inside {name!r} cannot be counted from outside: count the same function without that kernel "
            "(attention with implementation='xla', say)."
        )
    counts = [_count(inner) for inner in _inner(equation.params)]
    if name == "cond":
        return max(counts)
    if name == "while" and any(counts):
        raise UserError(
            "FLOPs inside a while_loop depend on how often it runs, which is not known: use a scan, or count its body."
        )
    return sum(counts) * _repetitions(equation)


def _repetitions(equation: JaxprEqn) -> int:
    """How often the body of an equation runs."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map":
        return math.prod(equation.params["mesh"].shape[axis] for axis in equation.params["newly_manual_axes"])
    return 1


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Jaxprs among the parameters of an equation."""
    for value in params.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _dot_general(equation: JaxprEqn) -> int:
    (contracting, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracting)


def _convolution(equation: JaxprEqn) -> int:
    params = equation.params
    left, right = (variable.aval.shape for variable in equation.invars)
    output = equation.outvars[0].aval.shape
    layout = params["dimension_numbers"]
    taps = 1  # pairs of output position and kernel element that hit an element of the input
    for i, padding in enumerate(params["padding"]):
        size, kernel, positions = (
            shape[spec[2 + i]]
            for shape, spec in ((left, layout.lhs_spec), (right, layout.rhs_spec), (output, layout.out_spec))
        )
        start = np.arange(positions) * params["window_strides"][i] - padding[0]
        position = start[:, None] + np.arange(kernel) * params["rhs_dilation"][i]
        index, hole = np.divmod(position, params["lhs_dilation"][i])
        taps *= int(np.sum((hole == 0) & (index >= 0) & (index < size)))
    rows, features = (output[axis] for axis in layout.out_spec[:2])
    return 2 * rows * features * right[layout.rhs_spec[1]] * taps
