"""Options of probes. No JAX here."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PropagationOptions:
    """How labels are copied from frame to frame.

    Attributes:
      context: last frames to copy from, beside the first, whose labels are given.
      temperature: of the softmax over places; the smaller, the sharper.
      top_k: places that a place copies from; 0 for all.
      radius: how far away those may be in the last frames, in cells of the feature map; 0 for any distance. In the
        first frame they may be anywhere.
    """

    context: int = 4
    temperature: float = 0.05
    top_k: int = 5
    radius: int = 0
