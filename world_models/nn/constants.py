"""What a model holds and saves but does not train."""

from flax import nnx


class Constant(nnx.Variable):
    """A variable of the model that is saved with it, but not trained."""


def freeze(module: nnx.Module) -> None:
    """Replaces all parameters of a module by constants of the same names, in place."""
    for _, part in nnx.iter_modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Param):
                setattr(part, name, Constant(value[...]))
