"""Search in the imagination of a model: planners over a step, a cost and a key, and hierarchies of them."""
